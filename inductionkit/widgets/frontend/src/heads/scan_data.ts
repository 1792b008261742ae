/** A scan as the browser reads it; the Python half is `head_scan_view.py`. */

import { type Entry, readArrays, type Values } from "../common/arrays";
import type { Alert } from "../common/alert";
import { Heads } from "../common/heads";
import { type Store, toggled } from "../common/store";

export interface Header {
  arrays: Entry[];
  layers: number[];
  heads: number[];
  model: string;
  scores: Omit<Score, "values" | "nullValues" | "p" | "threshold">[];
  thresholds: Record<string, number>;
  /** The role of each head, and by which path it copies; both empty where they are not known. */
  roles: string[];
  paths: string[];
  /** The roles of the heads that `induction_heads` names. */
  inductionRoles: string[];
  unscored: string[];
}

/** One score of every head, the end of its scale, and what it is on models without structure. */
export interface Score {
  name: string;
  units: string;
  longName: string;
  limit: number;
  signed: boolean;
  digits: number | null;
  /** Its value for a head that prefers no token, null where that is 0 or not known. */
  noPreference: number | null;
  /** The range of its null values. */
  nulls: [number, number] | null;
  values: Values;
  nullValues: Values | undefined;
  /** How surprising each head is beside the null. */
  p: Values | undefined;
  threshold: number | undefined;
}

export interface State {
  head: number;
  hover: number | null;
  /** The marked heads, in order. */
  marked: readonly number[];
  /** The scores of the scatter, by index. */
  x: number;
  y: number;
}

export interface Context {
  scan: Scan;
  store: Store<State>;
  alert: Alert;
  root: HTMLElement;
}

export class Scan {
  readonly heads: Heads;
  readonly scores: Score[];

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    const arrays = readArrays(header.arrays, data);
    this.heads = new Heads(header.layers, header.heads);
    this.scores = header.scores.map((score, index) => ({
      ...score,
      values: arrays.get(`score ${index}`)!,
      nullValues: arrays.get(`null ${index}`),
      p: arrays.get(`p ${index}`),
      threshold: header.thresholds[score.name],
    }));
  }

  /** What a head's role is called. */
  role(head: number): string[] {
    const { roles, inductionRoles } = this.header;
    const role = roles[head];
    return role ? [role, ...(inductionRoles.includes(role) ? ["induction"] : [])] : [];
  }

  /** The scores with a value at all: those that can be drawn against each other. */
  get axes(): number[] {
    return [...this.scores.keys()].filter((index) => this.scores[index]!.values.some(Number.isFinite));
  }

  indexOf(name: unknown): number {
    return Math.max(this.scores.findIndex((score) => score.name === name), 0);
  }
}

/** Choose a head; or mark it, or no longer. */
export function mark(store: Store<State>, head: number, more: boolean): void {
  store.set(more ? { marked: toggled(store.state.marked, head).sort((one, other) => one - other) } : { head });
}

/** Whether a head lies above every null value or, for a signed score, below every one. */
export function isBeyond(score: Score, head: number): boolean {
  const value = score.values[head]!;
  return score.nulls !== null && (value > score.nulls[1] || (score.signed && value < score.nulls[0]));
}
