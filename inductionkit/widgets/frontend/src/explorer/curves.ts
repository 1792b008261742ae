import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { decimal, label } from "../common/format";
import { Panel } from "../common/panel";
import type { Changed } from "../common/store";
import { Bump } from "./bump";
import type { Curve, History } from "./history";
import { TrainingFrame } from "./over_training";
import type { State } from "./state";
import type { Context, View } from "./view";

interface Options {
  name: string;
  title: string;
  unit: string;
  /** The variable that is drawn at each checkpoint, also of the control run. */
  variable: string;
  height: number;
  titled: boolean;
  /** Draw the bump, and leave the first steep fall out of the axis. */
  isLoss?: boolean;
  /** Draw what training logged between the checkpoints. */
  logged?: boolean;
}

/** The part of a curve above the value axis is cut close to it. */
const BLEED = 1;
/** Where the value axis starts to count, as a share of the axis over training (of its part before the window). */
const FALL = 0.25;
const FALL_BEFORE_WINDOW = 0.6;

/** One value per checkpoint over training. */
export class CurveView implements View {
  readonly panel: Panel;
  protected readonly frame: TrainingFrame;
  private readonly paths: { path: SVGPathElement; curve: Curve }[] = [];
  private readonly bump: Bump | undefined;
  private readonly dots: SVGGElement;
  private readonly current: SVGCircleElement;
  private readonly curve: Curve | undefined;
  protected y = scaleLinear();

  constructor(
    protected readonly context: Context,
    private readonly options: Options,
  ) {
    const { history } = context;
    const { window, intervals, bump, control: controlName } = history.header;
    this.panel = new Panel(options.name, options.title, options.unit);
    this.frame = new TrainingFrame(context, this.panel.body, `${options.title} over training`, options.height, options.titled, BLEED);
    const [log, control] = [options.logged ? history.log : undefined, history.control(options.variable)];
    this.curve = history.curve(options.variable);
    if (options.isLoss && bump) this.bump = new Bump(context, this.frame.plot, bump);
    if (control) this.addPath("control", control, label(controlName!));
    if (log) this.addPath("log", log, "training");
    if (this.curve) this.addPath("value", this.curve, log ? "held-out" : control ? "this run" : "");
    if (this.bump) this.panel.addLegend("envelope", `convex envelope, ${decimal(bump!.nats)} nats below the bump`);
    if (window) this.panel.addLegend("window", intervals ? "phase window, 90 % intervals of its ends" : "phase window");
    this.dots = svg("g", { class: "ik-dots" }, this.frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, this.frame.plot);
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { axis } = this.context;
    axis.resize(this.frame.width);
    this.y = scaleLinear().domain(this.domain()).nice(10).range([this.frame.height, 0]);
    this.frame.drawAxes(this.y, 4);
    for (const { path, curve } of this.paths) path.setAttribute("d", this.frame.path(curve, this.y));
    this.bump?.draw(this.y);
    this.dots.replaceChildren();
    this.curve?.y.forEach((value, index) => {
      const x = axis.xInside(axis.values[index]!);
      if (Number.isFinite(value) && Number.isFinite(x)) svg("circle", { cx: x, cy: this.y(value), r: 2 }, this.dots);
    });
    this.move();
  }

  update(changed: Changed<State>): void {
    if (changed.has("index")) this.move();
  }

  private move(): void {
    this.frame.moveMarker();
    const { store, axis } = this.context;
    const { index } = store.state;
    const value = this.curve?.y[index];
    const known = value !== undefined && Number.isFinite(value);
    if (known) setAll(this.current, { cx: axis.x(axis.values[index]!), cy: this.y(value) });
    this.current.style.display = known ? "" : "none";
    this.panel.value.textContent = this.curve ? decimal(value, 3) : "";
  }

  private addPath(kind: string, curve: Curve, name: string): void {
    this.paths.push({ path: svg("path", { class: `ik-line ik-line-${kind}` }, this.frame.plot), curve });
    if (name) this.panel.addLegend(kind, name);
  }

  /** Room for the curves of all runs side by side, so that they can be compared. */
  private domain(): [number, number] {
    const { runs } = this.context;
    const from = this.options.isLoss ? this.fallEnds() : 0;
    const curvesOf = (run: History): (Curve | undefined)[] => [
      run.curve(this.options.variable),
      run.control(this.options.variable),
      this.options.logged ? run.log : undefined,
    ];
    const curves = runs.flatMap(curvesOf).filter((curve) => curve !== undefined);
    const seen = curves.flatMap((curve) => this.valuesFrom(curve, from));
    const values = seen.length ? seen : curves.flatMap((curve) => this.valuesFrom(curve, 0));
    if (!values.length) return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low || Math.abs(high) || 1) * 0.08;
    return [low - pad, high + pad];
  }

  /** Where the first fall ends: some way before the earliest window, and before the bump, which must be seen. */
  private fallEnds(): number {
    const { axis, runs } = this.context;
    const starts = runs.flatMap((run) => (run.header.window ? [axis.xOf(run.header.window[0], run)] : []));
    return Math.max(this.frame.width * FALL, starts.length ? Math.min(...starts) * FALL_BEFORE_WINDOW : 0);
  }

  private valuesFrom(curve: Curve, from: number): number[] {
    const { axis } = this.context;
    const elapsed = axis.valuesOf(curve);
    return [...curve.y].filter((value, index) => Number.isFinite(value) && axis.xInside(elapsed[index]!) >= from);
  }
}
