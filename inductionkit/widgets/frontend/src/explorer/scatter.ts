import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { Frame } from "../common/frame";
import { path } from "../common/path";
import { Panel } from "../common/panel";
import type { Values } from "../common/arrays";
import type { Field } from "./state";
import type { Context, View } from "./view";

const HEIGHT = 268;
const MARGIN = { top: 8, right: 14, bottom: 42, left: 62 };
const RADIUS = 4.5;
const CHOSEN_RADIUS = 6.5;
const REACH = 18;
/** From this share of the width on, a dot's name stands to its left. */
const NAME_LEFT = 0.88;

/** Both properties of an induction head at the current checkpoint, one dot per head. */
export class ScatterView implements View {
  readonly panel = new Panel("scatter", "Heads at this checkpoint", "");
  private readonly frame = new Frame(
    this.panel.body,
    "Prefix matching against copying of each head at the current checkpoint",
    HEIGHT,
    MARGIN,
  );
  private readonly x = scaleLinear();
  private readonly y = scaleLinear();
  private readonly zero: SVGLineElement;
  private readonly trail: SVGPathElement;
  private readonly dots: SVGCircleElement[] = [];
  private readonly chosen: SVGCircleElement;
  private readonly names: Record<"head" | "hover", SVGTextElement>;

  constructor(
    private readonly context: Context,
    private readonly prefix: Values,
    private readonly copying: Values,
  ) {
    const { history, store, alert } = context;
    const { plot, front } = this.frame;
    this.zero = svg("line", { class: "ik-zero" }, plot);
    this.trail = svg("path", { class: "ik-trail" }, plot);
    for (let head = 0; head < history.nHeads; head++) {
      const dot = svg("circle", { class: "ik-dot", r: RADIUS, "data-head": history.headName(head) }, plot);
      dot.style.fill = `var(--ik-layer-${history.layerIndex(head)})`;
      this.dots.push(dot);
    }
    this.chosen = svg("circle", { class: "ik-dot-chosen", r: CHOSEN_RADIUS }, plot);
    const name = (kind: string): SVGTextElement => svg("text", { class: `ik-head-name ${kind}`, dy: "0.35em" }, front);
    this.names = { hover: name("ik-halo"), head: name("ik-strong ik-halo") };
    this.frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: this.headAt(...this.frame.place(event)) });
    }));
    this.frame.svg.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.frame.svg.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(...this.frame.place(event));
      if (head !== null) store.set({ head });
    }));
  }

  draw(width: number): void {
    this.frame.resize(width);
    const finite = (values: Values): number[] => [...values].filter(Number.isFinite);
    const spread = (values: number[], least: number): [number, number] => [
      values.reduce((low, value) => Math.min(low, value), 0),
      values.reduce((high, value) => Math.max(high, value), least),
    ];
    this.x.domain(spread(finite(this.prefix), 0.1)).nice(5).range([0, this.frame.width]);
    this.y.domain(spread(finite(this.copying), 0.1)).nice(5).range([this.frame.height, 0]);
    const xTicks = { values: this.x.ticks(Math.min(8, this.frame.width / 60)), text: this.x.tickFormat(6) };
    const titles = { xTitle: "prefix matching", yTitle: "copying" };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 5, grid: true, ...titles });
    setAll(this.zero, { x1: 0, x2: this.frame.width, y1: this.y(0), y2: this.y(0) });
    this.move();
  }

  update(changed: ReadonlySet<Field>): void {
    if (changed.has("index") || changed.has("head")) this.move();
    else if (changed.has("hover")) this.point();
  }

  private place(index: number, head: number): [number, number] | null {
    const at = index * this.dots.length + head;
    const place: [number, number] = [this.x(this.prefix[at]!), this.y(this.copying[at]!)];
    return place.every(Number.isFinite) ? place : null;
  }

  private move(): void {
    const { history, store } = this.context;
    const { index, head } = store.state;
    for (const [other, dot] of this.dots.entries()) this.put(dot, this.place(index, other));
    const place = this.place(index, head);
    this.put(this.chosen, place);
    const colour = `var(--ik-layer-${history.layerIndex(head)})`;
    this.chosen.style.fill = colour;
    this.trail.style.stroke = colour;
    const past = Array.from({ length: index + 1 }, (_, step) => this.place(step, head));
    this.trail.setAttribute("d", path(past));
    const at = index * history.nHeads + head;
    this.panel.value.textContent = place
      ? `head ${history.headName(head)}: prefix ${decimal(this.prefix[at])}, copying ${decimal(this.copying[at])}`
      : `head ${history.headName(head)}: no data`;
    this.panel.element.dataset.head = history.headName(head);
    this.point();
  }

  private point(): void {
    const { hover, head } = this.context.store.state;
    this.putName(this.names.head, head, CHOSEN_RADIUS);
    this.putName(this.names.hover, hover === head ? null : hover, RADIUS);
    this.names.head.style.opacity = hover === null || hover === head ? "" : "0.35";
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
  }

  private put(dot: SVGCircleElement, place: [number, number] | null): void {
    dot.style.display = place ? "" : "none";
    if (place) setAll(dot, { cx: place[0].toFixed(2), cy: place[1].toFixed(2) });
  }

  private putName(name: SVGTextElement, head: number | null, radius: number): void {
    const place = head === null ? null : this.place(this.context.store.state.index, head);
    name.style.display = place ? "" : "none";
    if (head === null || !place) return;
    const left = place[0] > this.frame.width * NAME_LEFT;
    const x = place[0] + (left ? -1 : 1) * (radius + 5);
    setAll(name, { x, y: place[1], "text-anchor": left ? "end" : "start" });
    name.textContent = this.context.history.headName(head);
  }

  private headAt(x: number, y: number): number | null {
    let [best, distance] = [null as number | null, REACH];
    for (const head of this.dots.keys()) {
      const place = this.place(this.context.store.state.index, head);
      const away = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
      if (away < distance) [best, distance] = [head, away];
    }
    return best;
  }
}
