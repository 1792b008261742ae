import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { Panel } from "../common/panel";
import { TrainingFrame } from "./over_training";
import type { Curve } from "./history";
import type { Field } from "./state";
import type { Context, View } from "./view";

interface Options {
  name: string;
  title: string;
  unit: string;
  /** The value at each checkpoint, and the same of the control run. */
  curve: Curve | undefined;
  control: Curve | undefined;
  /** What was logged between the checkpoints. */
  log?: Curve | undefined;
  height: number;
  titled: boolean;
  /** Leave the first steep fall out of the value axis, so that smaller changes show. */
  skipFall?: boolean;
}

/** The part of a curve above the value axis is cut close to it. */
const BLEED = 1;
/** Where the value axis starts to count, as a share of the axis over training (of its part before the window). */
const FALL = 0.25;
const FALL_BEFORE_WINDOW = 0.6;

/** One value per checkpoint over training. */
export class CurveView implements View {
  readonly panel: Panel;
  private readonly frame: TrainingFrame;
  private readonly paths: { path: SVGPathElement; curve: Curve }[] = [];
  private readonly dots: SVGGElement;
  private readonly current: SVGCircleElement;
  private y = scaleLinear();

  constructor(
    private readonly context: Context,
    private readonly options: Options,
  ) {
    const { history } = context;
    this.panel = new Panel(options.name, options.title, options.unit);
    this.frame = new TrainingFrame(context, this.panel.body, `${options.title} over training`, options.height, options.titled, BLEED);
    const { log, control, curve } = options;
    if (control) this.addPath("control", control, history.header.control!);
    if (log) this.addPath("log", log, "training");
    if (curve) this.addPath("value", curve, log ? "held-out" : control ? "this run" : "");
    if (history.header.window) this.panel.addLegend("window", "phase window");
    this.dots = svg("g", { class: "ik-dots" }, this.frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, this.frame.plot);
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { axis } = this.context;
    axis.resize(this.frame.width);
    this.y = scaleLinear().domain(this.domain()).nice(5).range([this.frame.height, 0]);
    this.frame.drawAxes(this.y, 4);
    for (const { path, curve } of this.paths) path.setAttribute("d", this.frame.path(curve, this.y));
    const { curve } = this.options;
    this.dots.replaceChildren();
    curve?.y.forEach((value, index) => {
      const x = axis.xInside(curve.x[index]!);
      if (Number.isFinite(value) && Number.isFinite(x)) svg("circle", { cx: x, cy: this.y(value), r: 2 }, this.dots);
    });
    this.move();
  }

  update(changed: ReadonlySet<Field>): void {
    if (changed.has("index")) this.move();
  }

  private move(): void {
    this.frame.moveMarker();
    const { history, store, axis } = this.context;
    axis.resize(this.frame.width);
    const { index } = store.state;
    const value = this.options.curve?.y[index];
    const known = value !== undefined && Number.isFinite(value);
    if (known) setAll(this.current, { cx: axis.x(history.elapsed[index]!), cy: this.y(value) });
    this.current.style.display = known ? "" : "none";
    this.panel.value.textContent = this.options.curve ? decimal(value, 3) : "";
  }

  private addPath(kind: string, curve: Curve, name: string): void {
    this.paths.push({ path: svg("path", { class: `ik-line ik-line-${kind}` }, this.frame.plot), curve });
    if (name) this.panel.addLegend(kind, name);
  }

  private domain(): [number, number] {
    const { curve, control, log, skipFall } = this.options;
    const from = skipFall ? this.fallEnds() : 0;
    const seen = [curve ?? log, control].flatMap((part) => (part ? this.valuesFrom(part, from) : []));
    const values = seen.length ? seen : [curve, control, log].flatMap((part) => (part ? this.valuesFrom(part, 0) : []));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low || Math.abs(high) || 1) * 0.08;
    return [low - pad, high + pad];
  }

  private fallEnds(): number {
    const { axis, history } = this.context;
    const { window, elapsed } = history.header;
    const share = this.frame.width * FALL;
    return window && elapsed === "tokens" ? Math.max(share, axis.x(window[0]) * FALL_BEFORE_WINDOW) : share;
  }

  private valuesFrom({ x, y }: Curve, from: number): number[] {
    const { axis } = this.context;
    return [...y].filter((value, index) => Number.isFinite(value) && axis.xInside(x[index]!) >= from);
  }
}
