import { html } from "./dom";

/** Title, unit and current value over a body. */
export class Panel {
  readonly element: HTMLElement;
  readonly body = html("div", { class: "ik-body" });
  readonly legend = html("div", { class: "ik-legend" });
  readonly value = html("span", { class: "ik-value" });

  constructor(name: string, title: string, unit: string) {
    const heading = html("h3", { class: "ik-title" }, `${title} `, html("span", { class: "ik-unit" }, unit));
    this.element = html(
      "section",
      { class: "ik-panel", "data-panel": name, "aria-label": title },
      html("header", { class: "ik-head" }, heading, this.value),
      this.legend,
      this.body,
    );
  }

  addLegend(kind: string, text: string, colour?: string): void {
    const mark = html("span", { class: `ik-mark ik-mark-${kind}` });
    if (colour) mark.style.color = colour;
    this.legend.append(html("span", { class: "ik-key" }, mark, text));
  }
}
