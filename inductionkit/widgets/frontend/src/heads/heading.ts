import { html } from "../common/dom";
import { label } from "../common/format";

/** What a widget shows, over its views. */
export function heading(model: string, about: string): HTMLElement {
  const name = model ? [html("strong", {}, label(model)), " "] : [];
  return html("p", { class: "ik-heading" }, ...name, html("span", { class: "ik-unit" }, about));
}
