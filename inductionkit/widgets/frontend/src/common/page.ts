import { Alert } from "./alert";
import { html } from "./dom";
import { type Model, PageModel } from "./model";
import styles from "./page.css";

export type Mount = (container: HTMLElement, model: Model) => () => void;

const ROOT = "inductionkit-root";

/** Whether a widget's container is that of a page written by `save`. */
export function isPage(container: HTMLElement): boolean {
  return container.id === ROOT;
}

/** A widget's module: Jupyter calls its `render`; a page written by `save` has a place for it, and it shows itself. */
export function widget(mount: Mount): { render(arguments_: { model: Model; el: HTMLElement }): () => void } {
  const page = document.getElementById(ROOT);
  if (page) showPage(page, mount).catch((error: unknown) => fail(page, error));
  return { render: ({ model, el }) => mount(el, model) };
}

/** Show what a saved page carries: its traits as JSON, its payload compressed. */
async function showPage(root: HTMLElement, mount: Mount): Promise<void> {
  document.head.append(html("style", {}, styles));
  const state = JSON.parse(document.getElementById("inductionkit-state")!.textContent!) as Record<string, unknown>;
  const encoded = atob(document.getElementById("inductionkit-data")!.textContent!);
  const compressed = Uint8Array.from(encoded, (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new DataView(await new Response(stream).arrayBuffer());
  mount(root, new PageModel({ ...state, _data: data }));
}

function fail(page: HTMLElement, error: unknown): void {
  const alert = new Alert();
  alert.show(error);
  page.replaceChildren(alert.element);
}
