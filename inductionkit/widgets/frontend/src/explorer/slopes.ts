import { scaleLog } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { ColourScale } from "../common/colours";
import { decimal, integer } from "../common/format";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { TrainingFrame } from "./over_training";
import type { State } from "./state";
import type { Context, View } from "./view";

const HEIGHT = 158;
const BLEED = 1;
/** Colours reach to the largest slope but for this share: the first checkpoints' would drown the rest. */
const BEYOND = 0.02;

/** How fast the loss falls along the context, by token index, over training. */
export class SlopeView implements View {
  readonly panel = new Panel("slopes", "Loss slope along the context", "nats per e-fold of the index");
  private readonly frame: TrainingFrame;
  private readonly bar = new ScaleBar();
  private readonly y = scaleLog();
  private readonly cell: SVGRectElement;
  private at: { index: number; row: number } | null = null;

  constructor(
    private readonly context: Context,
    titled: boolean,
  ) {
    const { alert } = context;
    this.frame = new TrainingFrame(context, this.panel.body, "Loss slope by token index over training, a heat map", HEIGHT, titled, BLEED);
    this.frame.stage.classList.add("ik-on-map");
    this.cell = svg("rect", { class: "ik-cell" }, this.frame.plot);
    this.panel.legend.append(this.bar.element);
    this.frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      const [x, y] = this.frame.place(event);
      const row = this.edges.findLastIndex((edge) => this.y(edge) >= y);
      this.at = row >= 0 && row < this.positions.length && x >= 0 ? { index: this.frame.nearestIndex(x), row } : null;
      this.readOut();
    }));
    this.frame.svg.addEventListener("pointerleave", alert.guard(() => {
      this.at = null;
      this.readOut();
    }));
  }

  draw(width: number): void {
    const { root, axis, history } = this.context;
    this.frame.resize(width);
    axis.resize(this.frame.width);
    const [lowest, highest] = [this.edges[0]!, this.edges.at(-1)!];
    this.y.domain([lowest, highest]).range([this.frame.height, 0]);
    this.frame.drawAxes(this.y.copy(), 3);
    const limit = this.limit();
    const scale = new ColourScale(themeOf(root), -limit, limit);
    const draw = this.frame.beginLayer();
    const slopes = history.arrays.get("loss slope")!;
    const lefts = this.lefts();
    for (let index = 0; index < history.nSteps; index++) {
      for (let row = 0; row < this.positions.length; row++) {
        const slope = slopes[index * this.positions.length + row]!;
        if (!Number.isFinite(slope)) continue;
        const [top, bottom] = [this.y(this.edges[row + 1]!), this.y(this.edges[row]!)];
        // Negative: more context helps, and is drawn blue, as all that is good.
        draw.fillStyle = scale.css(-slope);
        draw.fillRect(lefts[index]!, top, lefts[index + 1]! - lefts[index]! + 0.4, bottom - top + 0.4);
      }
    }
    this.bar.show("blue: context helps", scale, (value) => decimal(value, 2), true);
    this.readOut();
  }

  update(changed: Changed<State>): void {
    if (!changed.has("index")) return;
    this.frame.moveMarker();
    this.readOut();
  }

  private get positions(): ArrayLike<number> {
    return this.context.history.arrays.get("slope position")!;
  }

  /** Where the rows begin and end, half-way between the indices. */
  private get edges(): number[] {
    const at = Array.from(this.positions);
    const ratio = Math.sqrt(at[1]! / at[0]!);
    return [at[0]! / ratio, ...at.map((position) => position * ratio)];
  }

  /** Where the columns begin and end, half-way between the checkpoints. */
  private lefts(): number[] {
    const { axis } = this.context;
    const places = Array.from(axis.values, (value) => axis.x(value));
    return [0, ...places.slice(1).map((place, index) => (place + places[index]!) / 2), this.frame.width];
  }

  private limit(): number {
    const sizes = this.context.runs.flatMap(({ arrays }) => [...(arrays.get("loss slope") ?? [])].filter(Number.isFinite).map(Math.abs));
    sizes.sort((one, other) => one - other);
    return sizes[Math.floor((sizes.length - 1) * (1 - BEYOND))] || 1;
  }

  /** The slope under the pointer, else that of the last index at the current checkpoint. */
  private readOut(): void {
    const { history, store } = this.context;
    const shown = this.at ?? { index: store.state.index, row: this.positions.length - 1 };
    const slope = history.arrays.get("loss slope")![shown.index * this.positions.length + shown.row];
    const step = this.at ? `step ${integer(history.steps[shown.index]!)}, ` : "";
    this.panel.value.textContent = `${step}index ${Math.round(this.positions[shown.row]!)}: ${decimal(slope)}`;
    this.cell.style.display = this.at ? "" : "none";
    if (!this.at) return;
    const lefts = this.lefts();
    const [top, bottom] = [this.y(this.edges[shown.row + 1]!), this.y(this.edges[shown.row]!)];
    setAll(this.cell, { x: lefts[shown.index]!, width: lefts[shown.index + 1]! - lefts[shown.index]!, y: top, height: bottom - top });
  }
}
