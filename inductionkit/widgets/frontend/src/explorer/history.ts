/** A history as the browser reads it; the Python half is `_phase_data.py`. */

import { type Entry, extent, readArrays, type Values } from "../common/arrays";
import { Heads } from "../common/heads";
import type { FilmsHeader } from "./films";

export interface Header {
  arrays: Entry[];
  views: string[];
  elapsed: "tokens" | "steps";
  layers: number[];
  heads: number[];
  scores: { name: string; units: string }[];
  texts: string[];
  tokens: string[][];
  films: FilmsHeader | null;
  patternScale: number;
  window: [number, number] | null;
  intervals: [[number, number], [number, number]] | null;
  bump: { ends: [[number, number], [number, number]]; nats: number } | null;
  model: string;
  control: string | null;
  iclPositions: [number, number] | null;
}

/** A value at places in training, in tokens where these are known, and in steps. */
export interface Curve {
  tokens: Values | undefined;
  steps: Values;
  y: Values;
}

const hasData = (values: Values | undefined): values is Values => values?.some(Number.isFinite) ?? false;

/** One run. */
export class History {
  readonly arrays: ReadonlyMap<string, Values>;
  readonly steps: Values;
  readonly tokens: Values | undefined;
  readonly heads: Heads;
  private readonly extents = new Map<string, [number, number] | null>();

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
    this.steps = this.arrays.get("step")!;
    this.tokens = header.elapsed === "tokens" ? this.arrays.get("elapsed")! : undefined;
    this.heads = new Heads(header.layers, header.heads);
  }

  get nSteps(): number {
    return this.steps.length;
  }

  get scores(): string[] {
    return this.header.scores.map(({ name }) => name);
  }

  /** A score at every checkpoint, head by head. */
  score(name: string): Values | undefined {
    return this.arrays.get(name);
  }

  scoreAt(name: string, index: number, head: number): number {
    return this.arrays.get(name)?.[index * this.heads.n + head] ?? NaN;
  }

  /** From the smallest to the largest value of an array, at any checkpoint. */
  extent(name: string): [number, number] | null {
    if (!this.extents.has(name)) this.extents.set(name, extent(this.arrays.get(name) ?? []));
    return this.extents.get(name)!;
  }

  curve(name: string): Curve | undefined {
    return this.curveOf(this.tokens, this.steps, name);
  }

  get control(): (name: string) => Curve | undefined {
    const [elapsed, steps] = [this.arrays.get("control_elapsed"), this.arrays.get("control_step")];
    return (name) => (steps ? this.curveOf(elapsed, steps, `control_${name}`) : undefined);
  }

  /** The loss that training logged between the checkpoints; its steps follow from the checkpoints'. */
  get log(): Curve | undefined {
    const elapsed = this.arrays.get("log_elapsed");
    if (!elapsed || !this.tokens) return undefined;
    return this.curveOf(elapsed, Float64Array.from(elapsed, (tokens) => this.stepAt(tokens)), "training_loss");
  }

  /** The step at which so many tokens had been seen, on a straight line between the checkpoints. */
  stepAt(tokens: number): number {
    const [seen, { steps, nSteps }] = [this.tokens!, this];
    if (nSteps === 1) return tokens === seen[0] ? steps[0]! : NaN;
    let right = 1;
    while (right < nSteps - 1 && seen[right]! < tokens) right++;
    const [from, to] = [seen[right - 1]!, seen[right]!];
    return steps[right - 1]! + ((steps[right]! - steps[right - 1]!) * (tokens - from)) / (to - from);
  }

  /** The query that a text is first read from: its last token. */
  lastQuery(text: number): number {
    return Math.max((this.header.tokens[text]?.length ?? 1) - 1, 0);
  }

  private curveOf(tokens: Values | undefined, steps: Values, name: string): Curve | undefined {
    const y = this.arrays.get(name);
    return hasData(y) ? { tokens, steps, y } : undefined;
  }
}
