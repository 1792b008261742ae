import { type Entry, readArrays, type Values } from "../common/arrays";

export interface Header {
  arrays: Entry[];
  instances: string[];
  polytopes: string[];
  levels: [string, number][];
  minNorm: number;
  minCosine: number;
  about: string;
  /** Instance, feature, first and last step, nearest level afterwards, whether it falls on a drop. */
  jumps: [number, number, number, number, string, boolean][];
  /** Instance, first and last step. */
  drops: [number, number, number][];
  verdict: string;
}

/** A place in up to three dimensions; those that a model lacks are zero. */
export type Place = [number, number, number];

/** A history of toy models as the browser reads it; the Python half is `_superposition_data.py`. */
export class History {
  readonly steps: Values;
  readonly nInstances: number;
  readonly nSteps: number;
  readonly nHidden: number;
  readonly nFeatures: number;
  private readonly arrays: Map<string, Values>;
  private readonly weights: Values;

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
    this.steps = this.arrays.get("step")!;
    this.weights = this.arrays.get("weight")!;
    const shape = header.arrays.find(({ name }) => name === "weight")!.shape as [number, number, number, number];
    [this.nInstances, this.nSteps, this.nHidden, this.nFeatures] = shape;
  }

  has(name: string): boolean {
    return this.arrays.has(name);
  }

  weight(instance: number, index: number, hidden: number, feature: number): number {
    return this.weights[((instance * this.nSteps + index) * this.nHidden + hidden) * this.nFeatures + feature]!;
  }

  /** A value that each feature has at each step: its dimensionality, polytope, group, goodness. */
  ofFeature(name: string, instance: number, index: number, feature: number): number {
    return this.arrays.get(name)![(instance * this.nSteps + index) * this.nFeatures + feature]!;
  }

  /** A value that each feature has for good: its importance, its density. */
  fixed(name: string, instance: number, feature: number): number {
    return this.arrays.get(name)?.[instance * this.nFeatures + feature] ?? NaN;
  }

  loss(instance: number): Values | undefined {
    return this.arrays.get("loss")?.subarray(instance * this.nSteps, (instance + 1) * this.nSteps);
  }

  polytope(instance: number, index: number, feature: number): string {
    return this.header.polytopes[this.ofFeature("polytope", instance, index, feature)]!;
  }

  place(instance: number, index: number, feature: number): Place {
    const along = (hidden: number): number => (hidden < this.nHidden ? this.weight(instance, index, hidden, feature) : 0);
    return [along(0), along(1), along(2)];
  }

  /** A feature's place in the subspace of its own group. */
  ownPlace(instance: number, index: number, feature: number): Place {
    const own = this.arrays.get("own")!;
    const along = (axis: number): number => own[((instance * this.nSteps + index) * 3 + axis) * this.nFeatures + feature]!;
    return [along(0), along(1), along(2)];
  }

  /** W^T W: how much of one feature is read out as another. */
  overlap(instance: number, index: number, one: number, other: number): number {
    let sum = 0;
    for (let hidden = 0; hidden < this.nHidden; hidden++) {
      sum += this.weight(instance, index, hidden, one) * this.weight(instance, index, hidden, other);
    }
    return sum;
  }

  length(instance: number, index: number, feature: number): number {
    return Math.sqrt(this.overlap(instance, index, feature, feature));
  }

  /** The cosine of two features that interfere, else 0. */
  interference(instance: number, index: number, one: number, other: number): number {
    const { minNorm, minCosine } = this.header;
    const lengths = [one, other].map((feature) => this.length(instance, index, feature)) as [number, number];
    if (!(Math.min(...lengths) >= minNorm)) return 0;
    const cosine = this.overlap(instance, index, one, other) / (lengths[0] * lengths[1]);
    return Math.abs(cosine) >= minCosine ? cosine : 0;
  }

  /** The groups of features that share a subspace at a step, each by its features. */
  groups(instance: number, index: number): number[][] {
    const groups = new Map<number, number[]>();
    for (let feature = 0; feature < this.nFeatures; feature++) {
      const first = this.ofFeature("group", instance, index, feature);
      if (Number.isFinite(first)) groups.set(first, [...(groups.get(first) ?? []), feature]);
    }
    return [...groups.values()];
  }

  /** The length of the longest vector over the training of an instance, at least 1. */
  reach(instance: number): number {
    let longest = 1;
    for (let index = 0; index < this.nSteps; index++) {
      for (let feature = 0; feature < this.nFeatures; feature++) {
        const length = this.length(instance, index, feature);
        if (length > longest && length < Infinity) longest = length;
      }
    }
    return longest;
  }
}
