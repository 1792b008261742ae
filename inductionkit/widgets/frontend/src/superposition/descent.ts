import { scaleLog } from "d3-scale";
import type { Alert } from "../common/alert";
import { type Entry, readArrays, type Values } from "../common/arrays";
import { count } from "../common/format";
import type { Along } from "../common/index_frame";
import type { Store } from "../common/store";

export interface Header {
  arrays: Entry[];
  sizes: number[];
  seeds: number[];
  /** The size of the greatest test loss, for each seed. */
  peaks: number[];
  levels: [string, number][];
  projected: boolean;
  about: string;
}

export interface State {
  /** Data set size and seed, by index. */
  size: number;
  seed: number;
}

export interface Context {
  descent: Descent;
  store: Store<State>;
  alert: Alert;
}

export type Kind = "features" | "points";
const NAMES: Record<Kind, [vectors: string, dimensionality: string]> = {
  features: ["weight", "feature_dimensionality"],
  points: ["hidden_point", "point_dimensionality"],
};

/** A result of double descent as the browser reads it; the Python half is `double_descent_view.py`. */
export class Descent {
  private readonly arrays: Map<string, Values>;

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
  }

  /** A value for each size, of one seed. */
  bySize(name: string, seed: number): number[] {
    const { sizes, seeds } = this.header;
    return sizes.map((_, size) => this.arrays.get(name)![size * seeds.length + seed]!);
  }

  /** Both coordinates and the dimensionality of each vector; points that a data set does not have are left out. */
  vectors(kind: Kind, { size, seed }: State): { x: number; y: number; dimensionality: number }[] {
    const [vectors, dimensionality] = NAMES[kind];
    const [places, values] = [this.arrays.get(vectors)!, this.arrays.get(dimensionality)!];
    const n = this.header.arrays.find(({ name }) => name === vectors)!.shape[3]!;
    const at = size * this.header.seeds.length + seed;
    const all = Array.from({ length: n }, (_, index) => ({
      ...{ x: places[2 * at * n + index]!, y: places[(2 * at + 1) * n + index]! },
      dimensionality: values[at * n + index]!,
    }));
    return all.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  }
}

const TICK_DISTANCE = 42;

/** Data set sizes on a log axis. */
export function alongSizes({ descent }: Context): Along {
  const { sizes } = descent.header;
  const [first, last] = [sizes[0]!, Math.max(sizes.at(-1)!, sizes[0]! + 1)];
  return {
    ...{ values: sizes, scale: scaleLog().domain([first, last]), title: "data set size, points (log scale)" },
    ticks: (width) => {
      const every = Math.ceil((sizes.length * TICK_DISTANCE) / width);
      return { values: sizes.filter((_, index) => index % every === 0), text: count };
    },
  };
}
