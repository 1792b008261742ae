import { html } from "./dom";

/** Title, unit and current value over a body. */
export class Panel {
  readonly element: HTMLElement;
  readonly body = html("div", { class: "ik-body" });
  readonly legend = html("div", { class: "ik-legend" });
  readonly value = html("span", { class: "ik-value" });
  private readonly heading = html("h3", { class: "ik-title" });

  constructor(name: string, title = "", unit = "") {
    this.element = html(
      "section",
      { class: "ik-panel", "data-panel": name },
      html("header", { class: "ik-head" }, this.heading, this.value),
      this.legend,
      this.body,
    );
    this.entitle(title, unit);
  }

  entitle(title: string, unit: string): void {
    this.element.setAttribute("aria-label", title);
    this.heading.replaceChildren(`${title} `, html("span", { class: "ik-unit" }, unit));
  }

  addLegend(kind: string, text: string, colour?: string): void {
    const mark = html("span", { class: `ik-mark ik-mark-${kind}` });
    if (colour) mark.style.color = colour;
    this.legend.append(html("span", { class: "ik-key" }, mark, text));
  }
}
