import { html } from "./dom";

/** Where an error of the front end is shown: under the widget, not only in the console. */
export class Alert {
  readonly element = html("div", { class: "ik-alert", role: "alert", hidden: "" });

  show(error: unknown): void {
    console.error(error);
    const message = error instanceof Error ? error.message : String(error);
    this.element.textContent = `The widget failed: ${message}`;
    this.element.hidden = false;
  }

  /** `action`, with what it throws shown. */
  guard<Arguments extends unknown[]>(action: (...values: Arguments) => void): (...values: Arguments) => void {
    return (...values) => {
      try {
        action(...values);
      } catch (error) {
        this.show(error);
      }
    };
  }
}
