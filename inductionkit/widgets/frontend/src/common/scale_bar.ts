import type { ColourScale } from "./colours";
import { html } from "./dom";

/** What the colours of a scale stand for: its name, a ramp, its ends. */
export class ScaleBar {
  private readonly ramp = html("span", { class: "ik-bar-ramp" });
  private readonly low = html("span");
  private readonly high = html("span");
  private readonly name = html("span", { class: "ik-bar-name" });
  readonly element = html("div", { class: "ik-bar" }, this.name, this.low, this.ramp, this.high);

  /** `flipped` where low values are drawn in the colours of high ones. */
  show(name: string, scale: ColourScale, text: (value: number) => string, flipped = false): void {
    this.name.textContent = name;
    this.ramp.style.background = flipped ? scale.gradient.replace("to right", "to left") : scale.gradient;
    this.low.textContent = text(scale.low);
    this.high.textContent = text(scale.high);
  }
}
