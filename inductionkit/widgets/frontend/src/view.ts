import type { Alert } from "./alert";
import { html } from "./dom";
import type { ElapsedAxis } from "./elapsed";
import type { History } from "./payload";
import type { Field, Store } from "./state";

/** What every view is built from. */
export interface Context {
  history: History;
  store: Store;
  axis: ElapsedAxis;
  alert: Alert;
  root: HTMLElement;
}

/** A view draws everything when its width changes, and moves what depends on the state when the state does. */
export interface View {
  readonly panel: Panel;
  draw(width: number): void;
  update(changed: ReadonlySet<Field>): void;
}

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
