import { scaleLog, type ScaleLogarithmic } from "d3-scale";
import { count } from "../common/format";
import type { History } from "./history";

/** Share of the axis that lies between the first checkpoint after the start and the start itself. */
const ROOM_FOR_START = 0.06;

/** Training elapsed on a log axis. The untrained model, at 0, stands at its left end. */
export class ElapsedAxis {
  readonly scale: ScaleLogarithmic<number, number>;
  private readonly hasStart: boolean;
  private width = 1;

  constructor(private readonly history: History) {
    const positive = [...history.elapsed].filter((value) => value > 0);
    let [low, high] = positive.length ? [Math.min(...positive), Math.max(...positive)] : [1, 10];
    if (low === high) [low, high] = [low / 2, high * 2];
    this.hasStart = positive.length < history.nSteps;
    if (this.hasStart) low /= (high / low) ** ROOM_FOR_START;
    this.scale = scaleLog().domain([low, high]);
  }

  resize(width: number): void {
    this.width = width;
    this.scale.range([0, width]);
  }

  get title(): string {
    return this.history.header.elapsed === "tokens" ? "training tokens seen (log scale)" : "training step (log scale)";
  }

  x(value: number): number {
    return value > 0 ? Math.min(Math.max(this.scale(value), 0), this.width) : 0;
  }

  /** Where a value lies, or NaN outside the axis: a line then has a gap instead of a pile at the edge. */
  xInside(value: number): number {
    if (value <= 0 && this.hasStart) return 0;
    const x = value > 0 ? this.scale(value) : NaN;
    return x >= -0.5 && x <= this.width + 0.5 ? x : NaN;
  }

  nearestIndex(x: number): number {
    let best = 0;
    const { elapsed } = this.history;
    for (let i = 1; i < elapsed.length; i++) {
      if (Math.abs(this.x(elapsed[i]!) - x) < Math.abs(this.x(elapsed[best]!) - x)) best = i;
    }
    return best;
  }

  ticks(): { values: number[]; text: (value: number) => string } {
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
