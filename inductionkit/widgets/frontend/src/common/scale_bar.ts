import type { ColourScale } from "./colours";
import { html } from "./dom";

/** What a score's value is called for a head that prefers no token. */
export const NO_PREFERENCE = "no preference";

/** What the colours of a scale stand for: its name, a ramp, its ends. */
export class ScaleBar {
  private readonly notch = html("i", { class: "ik-notch" });
  private readonly ramp = html("span", { class: "ik-bar-ramp" }, this.notch);
  private readonly low = html("span");
  private readonly high = html("span");
  private readonly name = html("span", { class: "ik-bar-name" });
  private readonly note = html("span", { class: "ik-bar-name" });
  readonly element = html("div", { class: "ik-bar" }, this.name, this.low, this.ramp, this.high, this.note);

  /** `flipped` where low values are drawn in the colours of high ones; a notch and words say where no preference lies. */
  show(name: string, scale: ColourScale, text: (value: number) => string, flipped = false, noPreference?: number | null): void {
    const known = typeof noPreference === "number";
    this.note.textContent = known ? `${NO_PREFERENCE} ${text(noPreference)}` : "";
    this.notch.hidden = !known;
    if (known) this.notch.style.left = `${100 * scale.share(noPreference)}%`;
    this.name.textContent = name;
    this.ramp.style.background = flipped ? scale.gradient.replace("to right", "to left") : scale.gradient;
    this.low.textContent = text(scale.low);
    this.high.textContent = text(scale.high);
  }
}
