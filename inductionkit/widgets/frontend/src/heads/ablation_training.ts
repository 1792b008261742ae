import { scaleLinear, scaleLog } from "d3-scale";
import { extent } from "../common/arrays";
import { setAll, svg } from "../common/dom";
import { count } from "../common/format";
import { Frame } from "../common/frame";
import { addLayerLegend } from "../common/layers";
import { nearest, nearestWithin } from "../common/nearest";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { type Context, metricTitle, type State } from "./ablation_data";

const TITLE = "Over training";
const HEIGHT = 220;
const MARGIN = { top: 10, right: 42, bottom: 40, left: 54 };
const REACH = 14;
/** The untrained model, at 0, stands this share of the axis before the first other checkpoint. */
const ROOM_FOR_START = 0.06;

/** The change by zeroing each head or set, over training. */
export class ChangeOverTraining implements View<State> {
  readonly panel = new Panel("training", TITLE);
  private readonly frame = new Frame(this.panel.body, "Change by zeroing heads, over training", HEIGHT, MARGIN);
  private readonly x = scaleLog();
  private readonly y = scaleLinear();
  private readonly zero = svg("line", { class: "ik-zero" }, this.frame.plot);
  private readonly marker = svg("line", { class: "ik-marker" }, this.frame.plot);
  private readonly lines: SVGPathElement[];
  private readonly strong = svg("path", { class: "ik-head-chosen" });
  private readonly name = svg("text", { class: "ik-head-name ik-strong", dy: "0.35em" }, this.frame.front);

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    const group = svg("g", { class: "ik-heads" }, this.frame.plot);
    this.lines = Array.from({ length: data.nUnits }, (_, unit) => {
      const line = svg("path", { "data-unit": data.name(unit) }, group);
      line.style.stroke = this.colour(unit);
      return line;
    });
    this.frame.plot.append(this.strong);
    if (data.heads.n) addLayerLegend(this.panel, data.heads, "layer");
    const { svg: surface } = this.frame;
    surface.addEventListener("pointermove", alert.guard((event: PointerEvent) => store.set({ hover: this.unitAt(event) })));
    surface.addEventListener("pointerleave", () => store.set({ hover: null }));
    surface.addEventListener("click", alert.guard((event: MouseEvent) => {
      const unit = this.unitAt(event);
      store.set({ step: this.stepAt(event), ...(unit === null ? {} : { unit }) });
    }));
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { data, store } = this.context;
    const { metric } = store.state;
    const [first, last] = extent([...data.elapsed].filter((value) => value > 0)) ?? [1, 10];
    const hasStart = data.elapsed.some((value) => value <= 0);
    const high = last > first ? last : first * 2;
    const low = hasStart ? first / (high / first) ** ROOM_FOR_START : first;
    this.x.domain([low, high]).range([0, this.frame.width]);
    this.y.domain(extent([0, ...data.allChanges(0, metric)])!).nice(5).range([this.frame.height, 0]);
    const ticks = this.x.ticks(6).filter((value) => /^[125]0*$/.test(String(value)) && (!hasStart || this.x(value) > 24));
    const shown = ticks.filter((value, index) => index === 0 || this.x(value) - this.x(ticks[index - 1]!) > 30);
    const xTitle = `${data.header.elapsed === "tokens" ? "training tokens seen" : "training step"} (log scale)`;
    const text = (value: number): string => (hasStart && value === low ? "0" : count(value));
    const xTicks = { values: hasStart ? [low, ...shown] : shown, text };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 5, xTitle });
    setAll(this.zero, { x1: 0, x2: this.frame.width, y1: this.y(0), y2: this.y(0) });
    for (const [unit, line] of this.lines.entries()) line.setAttribute("d", this.pathOf(unit));
    this.move();
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("metric")) return this.draw(this.frame.outerWidth);
    if (changed.has("step")) this.move();
    this.point();
  }

  private get metric(): number {
    return this.context.store.state.metric;
  }

  private colour(unit: number): string {
    const { heads } = this.context.data;
    return heads.n ? `var(--ik-layer-${heads.layerIndex(unit)})` : "var(--ik-accent)";
  }

  private atStep(step: number): number {
    const value = this.context.data.elapsed[step]!;
    return value > 0 ? this.x(value) : 0;
  }

  private pathOf(unit: number): string {
    const { data } = this.context;
    return path(
      Array.from({ length: data.nSteps }, (_, step) => {
        const change = data.change(0, this.metric, step, unit);
        return Number.isFinite(change) ? ([this.atStep(step), this.y(change)] as const) : null;
      }),
    );
  }

  private move(): void {
    const x = this.atStep(this.context.store.state.step);
    setAll(this.marker, { x1: x, x2: x, y1: 0, y2: this.frame.height });
  }

  private point(): void {
    const { data, store } = this.context;
    const { unit, hover, step } = store.state;
    const shown = hover ?? unit;
    this.strong.setAttribute("d", this.lines[shown]!.getAttribute("d")!);
    this.strong.style.stroke = this.name.style.fill = this.colour(shown);
    const end = data.change(0, this.metric, data.nSteps - 1, shown);
    this.name.textContent = Number.isFinite(end) && data.heads.n ? data.name(shown) : "";
    setAll(this.name, { x: this.frame.width + 8, y: Number.isFinite(end) ? this.y(end) : 0 });
    this.panel.value.textContent = `${data.name(shown)}: ${data.text(this.metric, data.change(0, this.metric, step, shown))}`;
    this.panel.entitle(TITLE, metricTitle(data.header.metrics[this.metric]!).toLowerCase());
  }

  private stepAt(event: MouseEvent): number {
    const [x] = this.frame.place(event);
    return nearest(Array.from({ length: this.context.data.nSteps }, (_, step) => this.atStep(step)), x);
  }

  /** The line that passes nearest at the nearest checkpoint, within reach. */
  private unitAt(event: MouseEvent): number | null {
    const { data } = this.context;
    const [, y] = this.frame.place(event);
    const step = this.stepAt(event);
    return nearestWithin(REACH, data.nUnits, (unit) => Math.abs(this.y(data.change(0, this.metric, step, unit)) - y));
  }
}
