import type { ScaleContinuousNumeric } from "d3-scale";
import { type Attributes, html, setAll, svg } from "./dom";
import { Layer } from "./layer";

type Scale = ScaleContinuousNumeric<number, number>;

interface Axes {
  x: Scale;
  y: Scale;
  xTicks: { values: number[]; text: (value: number) => string };
  yTicks: number;
  xTitle?: string;
  yTitle?: string;
  /** Vertical grid lines too. */
  grid?: boolean;
}

/** Marks may reach this far out of the plot, to the side and by default upwards, before they are cut. */
const BLEED = 7;

/** Axes below, then a canvas if one is asked for, then an SVG: a clipped `plot` for marks, an unclipped `front` for labels. */
export class Frame {
  readonly svg: SVGSVGElement;
  readonly plot: SVGSVGElement;
  readonly front: SVGGElement;
  width = 1;
  /** The whole, with its margins. */
  outerWidth = 1;
  readonly stage = html("div", { class: "ik-stage" });
  private readonly ground: SVGSVGElement;
  private layer: Layer | undefined;
  private readonly xAxis: SVGGElement;
  private readonly yAxis: SVGGElement;
  private readonly titles: SVGGElement;

  constructor(
    body: HTMLElement,
    description: string,
    readonly outerHeight: number,
    readonly margin: { top: number; right: number; bottom: number; left: number },
    private readonly bleed = BLEED,
  ) {
    this.svg = svg("svg", { class: "ik-chart", role: "img", "aria-label": description, height: outerHeight });
    this.ground = svg("svg", { class: "ik-ground", "aria-hidden": "true", height: outerHeight });
    this.stage.append(this.ground, this.svg);
    body.append(this.stage);
    const { left, top } = margin;
    this.xAxis = svg("g", { class: "ik-axis", transform: `translate(${left},${top + this.height})` }, this.ground);
    this.yAxis = svg("g", { class: "ik-axis", transform: `translate(${left},${top})` }, this.ground);
    this.titles = svg("g", { class: "ik-axis-title" }, this.ground);
    // A nested svg clips without an id, which could clash with another widget's on the same page.
    this.plot = svg("svg", { class: "ik-plot" }, this.svg);
    this.front = svg("g", { transform: `translate(${left},${top})` }, this.svg);
  }

  get height(): number {
    return this.outerHeight - this.margin.top - this.margin.bottom;
  }

  resize(outerWidth: number): void {
    const { left, right, top } = this.margin;
    this.outerWidth = outerWidth;
    this.width = Math.max(outerWidth - left - right, 40);
    for (const each of [this.ground, this.svg]) setAll(each, { width: outerWidth, viewBox: `0 0 ${outerWidth} ${this.outerHeight}` });
    const [width, height] = [this.width + 2 * BLEED, this.height + 2 * this.bleed];
    setAll(this.plot, { x: left - BLEED, y: top - this.bleed, width, height });
    setAll(this.plot, { viewBox: `${-BLEED} ${-this.bleed} ${width} ${height}` });
  }

  axes({ x, y, xTicks, yTicks, xTitle, yTitle, grid }: Axes): void {
    const [line, text] = grid ? [-this.height, 8] : [4, 9];
    const below = { y: text, dy: "0.71em", "text-anchor": "middle" };
    drawTicks(this.xAxis, xTicks.values, xTicks.text, (value) => `${crisp(x(value))},0`, { y2: line }, below);
    const beside = { x: -8, dy: "0.32em", "text-anchor": "end" };
    drawTicks(this.yAxis, y.ticks(yTicks), y.tickFormat(yTicks), (value) => `0,${crisp(y(value))}`, { x2: this.width }, beside);
    this.titles.replaceChildren();
    const { left, top } = this.margin;
    if (xTitle) {
      const title = svg("text", { x: left + this.width / 2, y: this.outerHeight - 4, "text-anchor": "middle" });
      title.textContent = xTitle;
      this.titles.append(title);
    }
    if (yTitle) {
      const [atX, atY] = [12, top + this.height / 2];
      const title = svg("text", { transform: `translate(${atX},${atY}) rotate(-90)`, "text-anchor": "middle" });
      title.textContent = yTitle;
      this.titles.append(title);
    }
  }

  /** A canvas under the marks, for what is too dense for SVG; its context begins at the plot's corner. */
  beginLayer(): CanvasRenderingContext2D {
    if (!this.layer) {
      this.layer = new Layer();
      this.ground.after(this.layer.element);
    }
    const { left, top } = this.margin;
    Object.assign(this.layer.element.style, { left: `${left - BLEED}px`, top: `${top - BLEED}px` });
    return this.layer.begin(this.width, this.height, BLEED);
  }

  /** A pointer's place in plot coordinates. */
  place(event: MouseEvent): [number, number] {
    const box = this.svg.getBoundingClientRect();
    return [event.clientX - box.left - this.margin.left, event.clientY - box.top - this.margin.top];
  }
}

/** A line and a text at each of the values. */
function drawTicks(
  axis: SVGGElement,
  values: readonly number[],
  text: (value: number) => string,
  at: (value: number) => string,
  line: Attributes,
  place: Attributes,
): void {
  axis.replaceChildren();
  for (const value of values) {
    const tick = svg("g", { class: "ik-tick", transform: `translate(${at(value)})` }, axis);
    svg("line", line, tick);
    svg("text", place, tick).textContent = text(value);
  }
}

/** On coarse screens a thin line is sharp in the middle of a pixel. */
function crisp(place: number): number {
  return devicePixelRatio > 1 ? place : place + 0.5;
}
