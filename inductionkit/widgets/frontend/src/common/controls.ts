import { html } from "./dom";

/** A labelled choice of one of several; `quiet` leaves the label to screen readers. */
export function choice(
  name: string,
  options: HTMLElement[],
  chosen: (value: string) => void,
  quiet = false,
): { element: HTMLElement; select: HTMLSelectElement } {
  const select = html("select", { class: "ik-select", "data-choice": name.toLowerCase(), "aria-label": name }, ...options);
  select.addEventListener("change", () => chosen(select.value));
  const element = html("label", { class: "ik-choice" }, ...(quiet ? [] : [html("span", { "aria-hidden": "true" }, name)]), select);
  return { element, select };
}

/** Few alternatives side by side, one of them pressed. */
export class Segments<Value extends string> {
  readonly element: HTMLElement;
  private readonly buttons = new Map<Value, HTMLButtonElement>();

  constructor(name: string, values: readonly Value[], chosen: (value: Value) => void) {
    this.element = html("div", { class: "ik-segments", role: "group", "aria-label": name });
    for (const value of values) {
      const button = html("button", { type: "button", class: "ik-segment", "data-value": value }, value);
      button.addEventListener("click", () => chosen(value));
      this.buttons.set(value, button);
      this.element.append(button);
    }
  }

  show(value: Value): void {
    for (const [own, button] of this.buttons) button.setAttribute("aria-pressed", String(own === value));
  }
}
