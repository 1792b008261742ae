import { scaleLinear } from "d3-scale";
import { html, setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { Frame } from "../common/frame";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Context, Kind, State } from "./descent";

const TITLES: Record<Kind, [string, string]> = { features: ["Features", "columns of W"], points: ["Data points", "W x of each"] };
const KINDS: Kind[] = ["features", "points"];
const MAX_SIDE = 300;
const SIDE_BY_SIDE = 400;
const GAP = 24;
const MARGIN = 10;
const STRIP_HEIGHT = 150;
/** With so many, tips would cover each other and rays the tips. */
const MANY = 400;

/** Features and data points at the chosen size: where they lie, and how much of a dimension each gets. */
export class CloudsView implements View<State> {
  readonly panel: Panel;
  private readonly halves: Half[];

  constructor(context: Context) {
    const { projected } = context.descent.header;
    this.panel = new Panel("clouds", "What is stored", projected ? "hidden vectors on their two main axes" : "hidden vectors");
    this.halves = KINDS.map((kind) => new Half(context, kind));
    this.panel.body.append(html("div", { class: "ik-pair" }, ...this.halves.map(({ element }) => element)));
  }

  draw(width: number): void {
    const each = width >= SIDE_BY_SIDE ? Math.floor((width - GAP) / 2) : width;
    for (const half of this.halves) half.draw(each);
  }

  update(): void {
    for (const half of this.halves) half.show();
  }
}

/** One of both kinds: its vectors above, dimensionality against length below. */
class Half {
  readonly element: HTMLElement;
  private readonly number = html("span");
  private readonly cloud: SVGSVGElement;
  private readonly unit: SVGCircleElement;
  private readonly rays: SVGPathElement;
  private readonly tips: SVGPathElement;
  private readonly strip: Frame;
  private readonly levels: SVGGElement;
  private readonly dots: SVGPathElement;
  private readonly x = scaleLinear().domain([0, 1.02]);
  private readonly y = scaleLinear();
  private side = 0;

  constructor(
    private readonly context: Context,
    private readonly kind: Kind,
  ) {
    const [title, unit] = TITLES[kind];
    this.element = html("div", { class: "ik-half", "data-kind": kind }, html("h4", {}, `${title} `, this.number));
    this.cloud = svg("svg", { class: "ik-cloud", role: "img", "aria-label": `${title} (${unit}) as vectors` }, this.element);
    this.unit = svg("circle", {}, this.cloud);
    this.rays = svg("path", { class: `ik-rays is-${kind}` }, this.cloud);
    this.tips = svg("path", { class: `ik-tips is-${kind}` }, this.cloud);
    this.strip = new Frame(this.element, `Dimensionality of each of the ${kind} against its length`, STRIP_HEIGHT, {
      ...{ top: 8, right: 10, bottom: 40, left: 46 },
    });
    this.levels = svg("g", { class: "ik-levels" }, this.strip.plot);
    this.dots = svg("path", { class: `ik-tips is-${kind}` }, this.strip.plot);
  }

  draw(width: number): void {
    this.side = Math.min(width, MAX_SIDE);
    setAll(this.cloud, { width, height: this.side, viewBox: `${-width / 2} ${-this.side / 2} ${width} ${this.side}` });
    this.strip.resize(width);
    this.x.range([0, this.strip.width]);
    this.levels.replaceChildren();
    for (const [name, value] of this.context.descent.header.levels) {
      svg("line", { x1: this.x(value), x2: this.x(value), y1: 0, y2: this.strip.height, "data-level": name }, this.levels);
    }
    this.show();
  }

  show(): void {
    const { descent, store } = this.context;
    const vectors = descent.vectors(this.kind, store.state);
    const longest = vectors.reduce((most, { x, y }) => Math.max(most, Math.hypot(x, y)), 1e-9);
    const scale = (this.side / 2 - MARGIN) / longest;
    this.unit.setAttribute("r", String(longest >= 0.9 ? scale : 0));
    const places = vectors.map(({ x, y }) => [(x * scale).toFixed(1), (-y * scale).toFixed(1)]);
    this.rays.setAttribute("d", places.map(([x, y]) => `M0,0L${x},${y}`).join(""));
    // Dots as lines without length and with round ends: one path, however many there are.
    this.tips.setAttribute("d", places.map(([x, y]) => `M${x},${y}h0`).join(""));
    this.y.domain([0, longest]).nice(3).range([this.strip.height, 0]);
    const xTicks = { values: [0, 0.2, 0.4, 0.6, 0.8, 1], text: String };
    this.strip.axes({ x: this.x, y: this.y, xTicks, yTicks: 3, xTitle: "dimensionality", yTitle: "length" });
    const known = vectors.filter(({ dimensionality }) => Number.isFinite(dimensionality));
    const dot = ({ x, y, dimensionality }: (typeof known)[number]): string =>
      `M${this.x(dimensionality).toFixed(1)},${this.y(Math.hypot(x, y)).toFixed(1)}h0`;
    this.dots.setAttribute("d", known.map(dot).join(""));
    for (const tips of [this.tips, this.dots]) tips.style.strokeWidth = vectors.length > MANY ? "3.5" : "";
    this.rays.style.opacity = vectors.length > MANY ? "0.06" : "";
    this.number.textContent = `${vectors.length}, the longest ${decimal(longest)}`;
    this.element.dataset.shown = `${store.state.size}/${store.state.seed}`;
  }
}
