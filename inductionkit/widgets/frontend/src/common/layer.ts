import { html } from "./dom";

/** A canvas in CSS pixels, sharp on any screen. */
export class Layer {
  readonly element = html("canvas", { class: "ik-layer", "aria-hidden": "true" });
  readonly draw = this.element.getContext("2d")!;
  width = 1;
  height = 1;

  /** Clear the canvas, for `width` by `height` and a rim of `bleed` on every side; the origin lies inside the rim. */
  begin(width: number, height: number, bleed = 0): CanvasRenderingContext2D {
    [this.width, this.height] = [width, height];
    const scale = devicePixelRatio;
    const [across, down] = [Math.round((width + 2 * bleed) * scale), Math.round((height + 2 * bleed) * scale)];
    if (this.element.width !== across) this.element.width = across;
    if (this.element.height !== down) this.element.height = down;
    Object.assign(this.element.style, { width: `${width + 2 * bleed}px`, height: `${height + 2 * bleed}px` });
    this.draw.setTransform(1, 0, 0, 1, 0, 0);
    this.draw.clearRect(0, 0, across, down);
    this.draw.setTransform(scale, 0, 0, scale, bleed * scale, bleed * scale);
    return this.draw;
  }
}
