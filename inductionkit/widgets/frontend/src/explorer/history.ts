/** A history as the browser reads it; the Python half is `_phase_data.py`. */

import { type Entry, extent, readArrays, type Values } from "../common/arrays";
import { Heads } from "../common/heads";
import type { CircuitHeader } from "../circuit/data";
import type { SeriesHeader } from "./pattern_series";

export interface Header {
  arrays: Entry[];
  views: string[];
  layers: number[];
  heads: number[];
  /** `noPreference` is a score's value for a head that prefers no token, null where that is 0 or not known. */
  scores: { name: string; units: string; noPreference: number | null }[];
  texts: string[];
  /** What roles are called, by number: a search finds them by each of the names, of which the first is shown. */
  roles: string[][];
  tokens: string[][];
  series: SeriesHeader | null;
  patternScale: number;
  window: [number, number] | null;
  intervals: [[number, number], [number, number]] | null;
  bump: { ends: [[number, number], [number, number]]; nats: number } | null;
  model: string;
  /** What was found about a phase change, in one sentence. */
  verdict: string;
  /** The token from which each text is read at first, and for each token of each text the place that induction points to. */
  queries: number[];
  targets: (number | null)[][];
  /** Where the hero strip opens, and between which checkpoints it plays; null without one. */
  hero: { index: number; first: number; last: number } | null;
  control: string | null;
  iclPositions: [number, number] | null;
  /** How many held-out examples the losses were measured on. */
  nExamples: number | null;
  circuit?: CircuitHeader;
}

/** What training is counted in. */
export type Clock = "tokens" | "steps";

/** A value at places in training, in tokens where these are known, and in steps. */
export interface Curve {
  tokens: Values | undefined;
  steps: Values;
  y: Values;
}

/** Tokens where all runs and their controls know them, otherwise steps. */
export function clockOf(runs: readonly History[]): Clock {
  return runs.every((run) => run.countsTokens) ? "tokens" : "steps";
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
    this.tokens = this.arrays.get("tokens_seen");
    this.heads = new Heads(header.layers, header.heads);
  }

  get nSteps(): number {
    return this.steps.length;
  }

  get countsTokens(): boolean {
    return this.tokens !== undefined && (this.header.control === null || this.arrays.has("control tokens_seen"));
  }

  /** How much training each checkpoint has seen; without `clock` on the run's own, as window and bump are. */
  elapsed(clock: Clock = this.tokens ? "tokens" : "steps"): Values {
    return clock === "tokens" ? this.tokens! : this.steps;
  }

  get scores(): string[] {
    return this.header.scores.map(({ name }) => name);
  }

  /** What a head's role is called at a checkpoint. */
  role(index: number, head: number): readonly string[] {
    return this.header.roles[this.arrays.get("role")?.[index * this.heads.n + head] ?? -1] ?? [];
  }

  noPreference(name: string): number | null | undefined {
    return this.header.scores.find((score) => score.name === name)?.noPreference;
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
    const [tokens, steps] = [this.arrays.get("control tokens_seen"), this.arrays.get("control step")];
    return (name) => (steps ? this.curveOf(tokens, steps, `control ${name}`) : undefined);
  }

  /** The loss that training logged between the checkpoints; steps follow from the checkpoints' where it has tokens. */
  get log(): Curve | undefined {
    const elapsed = this.arrays.get("log elapsed");
    if (!elapsed) return undefined;
    const steps = Float64Array.from(elapsed, (value) => this.on("steps", value));
    return this.curveOf(this.tokens && elapsed, steps, "training_loss");
  }

  /** Elapsed training on the run's own clock as `clock` counts it; steps are on a straight line between checkpoints. */
  on(clock: Clock, elapsed: number): number {
    const { tokens, steps, nSteps } = this;
    if (clock === "tokens" || !tokens) return elapsed;
    if (nSteps === 1) return elapsed === tokens[0] ? steps[0]! : NaN;
    let right = 1;
    while (right < nSteps - 1 && tokens[right]! < elapsed) right++;
    const [from, to] = [tokens[right - 1]!, tokens[right]!];
    return steps[right - 1]! + ((steps[right]! - steps[right - 1]!) * (elapsed - from)) / (to - from);
  }

  /** The query that a text is first read from; its last token, unless there is one that shows more. */
  firstQuery(text: number): number {
    return this.header.queries[text] ?? Math.max((this.header.tokens[text]?.length ?? 1) - 1, 0);
  }

  private curveOf(tokens: Values | undefined, steps: Values, name: string): Curve | undefined {
    const y = this.arrays.get(name);
    return hasData(y) ? { tokens, steps, y } : undefined;
  }
}
