import { mount } from "./explorer";
import type { Model } from "./model";
import { mountPage } from "./page";

// Jupyter calls `render`; a page written by `save` has this element instead.
const page = document.getElementById("inductionkit-root");
if (page) {
  mountPage(page).catch((error: unknown) => {
    console.error(error);
    page.setAttribute("role", "alert");
    page.textContent = `The explorer failed: ${error instanceof Error ? error.message : String(error)}`;
  });
}

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    return mount(el, model);
  },
};
