import { type Entry, readArrays, type Values } from "../common/arrays";
import type { Alert } from "../common/alert";
import type { Store } from "../common/store";
import type { Place } from "./history";

export interface Header {
  arrays: Entry[];
  states: string[];
  solutions: string[];
  agreement: number | null;
  about: string;
}

export interface State {
  /** The chosen cell and the one under the pointer: row × columns + column, a row a sparsity. */
  cell: number;
  hover: number | null;
}

export interface Context {
  diagram: Diagram;
  store: Store<State>;
  alert: Alert;
}

/** A phase diagram as the browser reads it; the Python half is `phase_diagram_view.py`. */
export class Diagram {
  readonly sparsity: Values;
  readonly importance: Values;
  readonly nRows: number;
  readonly nColumns: number;
  readonly nFeatures: number;
  private readonly arrays: Map<string, Values>;
  private readonly nHidden: number;

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
    this.sparsity = this.arrays.get("sparsity")!;
    this.importance = this.arrays.get("relative_importance")!;
    [this.nRows, this.nColumns] = [this.sparsity.length, this.importance.length];
    const shape = header.arrays.find(({ name }) => name === "weight")?.shape ?? [0, 0, 0, 0];
    [this.nHidden, this.nFeatures] = [shape[2]!, shape[3]!];
  }

  get trained(): boolean {
    return this.arrays.has("trained_state");
  }

  state(which: "best_state" | "trained_state", cell: number): number {
    return this.arrays.get(which)![cell]!;
  }

  /** The exact loss of a candidate solution, NaN where it is none. */
  loss(solution: number, cell: number): number {
    return this.arrays.get("loss")![solution * this.nRows * this.nColumns + cell]!;
  }

  trainedLoss(cell: number): number {
    return this.arrays.get("trained_loss")?.[cell] ?? NaN;
  }

  place(cell: number, feature: number): Place {
    const weight = this.arrays.get("weight")!;
    const along = (hidden: number): number =>
      hidden < this.nHidden ? weight[(cell * this.nHidden + hidden) * this.nFeatures + feature]! : 0;
    return [along(0), along(1), 0];
  }

  /** The length of the longest vector of all cells, at least 1. */
  get reach(): number {
    let longest = 1;
    for (let cell = 0; cell < this.nRows * this.nColumns; cell++) {
      for (let feature = 0; feature < this.nFeatures; feature++) {
        const length = Math.hypot(...this.place(cell, feature));
        if (length > longest && length < Infinity) longest = length;
      }
    }
    return longest;
  }

  /** A cell in words. */
  describe(cell: number): string {
    const [row, column] = [Math.floor(cell / this.nColumns), cell % this.nColumns];
    return `sparsity ${short(this.sparsity[row]!)}, relative importance ${short(this.importance[column]!)}`;
  }
}

export function short(value: number): string {
  return String(Number(value.toPrecision(2)));
}
