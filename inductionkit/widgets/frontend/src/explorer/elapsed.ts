import { scaleLinear, scaleLog, type ScaleLinear, type ScaleLogarithmic } from "d3-scale";
import { extent, type Values } from "../common/arrays";
import { count } from "../common/format";
import type { Along } from "../common/index_frame";
import type { Curve, History } from "./history";
import type { State } from "./state";

/** Share of a log axis that lies between the first checkpoint after the start and the start itself. */
const ROOM_FOR_START = 0.06;

type Choice = Pick<State, "scale" | "unit">;

/** Training elapsed, in tokens or steps, on a log or a linear axis that all `runs` share.
 * On a log axis the untrained model, at 0, stands at the left end. */
export class ElapsedAxis implements Along {
  scale!: ScaleLogarithmic<number, number> | ScaleLinear<number, number>;
  private choice!: Choice;
  private hasStart = false;

  constructor(
    private readonly history: History,
    private readonly runs: readonly History[],
    choice: Choice,
    /** Where a log axis begins at the earliest, on the run's own clock. */
    private readonly from = 0,
  ) {
    this.choose(choice);
  }

  choose(choice: Choice): void {
    this.choice = choice;
    const all = this.runs.flatMap((run) => [...run.elapsed(choice.unit)]);
    let [low, high] = extent(choice.scale === "log" ? all.filter((value) => value > 0) : all) ?? [1, 10];
    if (low === high) [low, high] = [low / 2, high * 2 || 1];
    this.hasStart = choice.scale === "log" && all.some((value) => value <= 0);
    const from = this.from > 0 && choice.scale === "log" ? this.history.on(choice.unit, this.from) : 0;
    if (from > low && from < high) [low, this.hasStart] = [from, false];
    if (this.hasStart) low /= (high / low) ** ROOM_FOR_START;
    this.scale = (choice.scale === "log" ? scaleLog() : scaleLinear()).domain([low, high]);
  }

  resize(width: number): void {
    this.scale.range([0, width]);
  }

  private get width(): number {
    return this.scale.range()[1]!;
  }

  get title(): string {
    const scale = this.choice.scale === "log" ? " (log scale)" : "";
    return (this.choice.unit === "tokens" ? "training tokens seen" : "training step") + scale;
  }

  /** Where the checkpoints of this axis' run are counted. */
  get values(): Values {
    return this.history.elapsed(this.choice.unit);
  }

  valuesOf({ tokens, steps }: Curve): Values {
    return this.choice.unit === "tokens" ? tokens! : steps;
  }

  x(value: number): number {
    if (this.choice.scale === "log" && value <= 0) return 0;
    return Math.min(Math.max(this.scale(value), 0), this.width);
  }

  /** The place of elapsed training on the clock of a run, by default this axis' own, in either unit of the axis. */
  xOf(elapsed: number, run = this.history): number {
    return this.x(run.on(this.choice.unit, elapsed));
  }

  /** Where a value lies, or NaN outside the axis: a line then has a gap instead of a pile at the edge. */
  xInside(value: number): number {
    if (value <= 0 && this.choice.scale === "log") return this.hasStart ? 0 : NaN;
    const x = this.scale(value);
    return x >= -0.5 && x <= this.width + 0.5 ? x : NaN;
  }

  ticks(): { values: number[]; text: (value: number) => string } {
    if (this.choice.scale === "linear") {
      return { values: this.scale.ticks(Math.max(this.width / 90, 2)), text: (value) => (value ? count(value) : "0") };
    }
    const [low, high] = this.scale.domain() as [number, number];
    const decades = Math.log10(high / low);
    const mantissas = decades < 1.2 ? [1, 2, 3, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
    const mantissa = (value: number): number => Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
    // The left end stands for 0 where there is an untrained checkpoint.
    const values = this.scale.ticks(10).filter((value) => !this.hasStart || this.scale(value) > 24);
    return {
      values: this.hasStart ? [low, ...values] : values,
      text: (value) => {
        if (this.hasStart && value === low) return "0";
        return mantissas.includes(mantissa(value)) ? count(Number(value.toPrecision(6))) : "";
      },
    };
  }
}
