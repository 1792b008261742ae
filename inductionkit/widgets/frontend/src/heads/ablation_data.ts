/** Ablations as the browser reads them; the Python half is `_ablation_data.py`. */

import type { Alert } from "../common/alert";
import { type Entry, readArrays, type Values } from "../common/arrays";
import { label } from "../common/format";
import { Heads } from "../common/heads";
import type { Store } from "../common/store";
import { digitsOf, limitOf, number } from "./numbers";

export interface Random {
  heads: string;
  kind: string;
  among: string;
  share: number | null;
  interval: [number | null, number | null];
  p: number | null;
}

export interface Header {
  arrays: Entry[];
  model: string;
  kinds: string[];
  layers: number[];
  heads: number[];
  sets: string[];
  elapsed: "tokens" | "steps" | null;
  metrics: string[];
  iclPositions: [number, number] | null;
  random: Random | null;
}

/** A unit is what is zeroed together: one head, or a set of heads. */
export interface State {
  unit: number;
  hover: number | null;
  /** Checkpoint, by index; 0 without steps. */
  step: number;
  /** The change on show, by index. */
  metric: number;
}

export interface Context {
  data: Ablations;
  store: Store<State>;
  alert: Alert;
  root: HTMLElement;
}

export class Ablations {
  readonly heads: Heads;
  readonly nUnits: number;
  readonly nSteps: number;
  /** In optimiser steps, and in what training is measured by; empty without steps. */
  readonly steps: Values;
  readonly elapsed: Values;
  /** The middle of each bin of positions. */
  readonly position: Values;
  private readonly arrays: Map<string, Values>;

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
    this.heads = new Heads(header.layers, header.heads);
    this.nUnits = this.heads.n || header.sets.length;
    this.steps = this.arrays.get("step") ?? new Float64Array();
    this.elapsed = this.arrays.get("elapsed") ?? new Float64Array();
    this.nSteps = Math.max(this.steps.length, 1);
    this.position = this.arrays.get("position")!;
  }

  name(unit: number): string {
    return this.heads.n ? this.heads.name(unit) : label(this.header.sets[unit]!);
  }

  change(kind: number, metric: number, step: number, unit: number): number {
    return this.allChanges(kind, metric)[step * this.nUnits + unit]!;
  }

  /** At every step, of every unit. */
  allChanges(kind: number, metric: number): Values {
    return this.arrays.get(`${kind} ${this.header.metrics[metric]}`)!;
  }

  /** The change for each kind of ablation. */
  changes(metric: number, step: number, unit: number): number[] {
    return this.header.kinds.map((_, kind) => this.change(kind, metric, step, unit));
  }

  /** The end of the scale of a change: the same for all kinds and steps, so that they compare. */
  limit(metric: number): number {
    return limitOf(this.header.kinds.flatMap((_, kind) => [...this.allChanges(kind, metric)]));
  }

  text(metric: number, change: number): string {
    return number(change, digitsOf(this.limit(metric)));
  }

  baseline(step: number): Values {
    const n = this.position.length;
    return this.arrays.get("baseline")!.subarray(step * n, (step + 1) * n);
  }

  losses(kind: number, step: number, unit: number): Values {
    const [n, at] = [this.position.length, step * this.nUnits + unit];
    return this.arrays.get(`${kind} losses`)!.subarray(at * n, (at + 1) * n);
  }

  get random(): { about: Random; draws: Values; interval: Values } | undefined {
    const about = this.header.random;
    return about ? { about, draws: this.arrays.get("random")!, interval: this.arrays.get("random interval")! } : undefined;
  }
}

const TITLES: Record<string, string> = {
  icl_score_change: "Change of in-context-learning score",
  loss_change: "Change of mean loss",
};

export function metricTitle(name: string): string {
  return TITLES[name] ?? label(name);
}

export function kindName(kind: string): string {
  return label(kind).replaceAll("_", "-");
}
