import type { Alert } from "../common/alert";
import { findHeads } from "../common/head_search";
import type * as stage from "../common/stage";
import type { Store } from "../common/store";
import type { ElapsedAxis } from "./elapsed";
import type { PatternSeries } from "./pattern_series";
import type { History } from "./history";
import type { State } from "./state";

/** What every view is built from. */
export interface Context {
  history: History;
  /** The runs side by side, this one among them: their views share the extent of their axes. */
  runs: readonly History[];
  store: Store<State>;
  axis: ElapsedAxis;
  series: PatternSeries;
  alert: Alert;
  root: HTMLElement;
}

export type View = stage.View<State>;

/** From the smallest to the largest value of an array in any of the runs. */
export function sharedExtent(runs: readonly History[], name: string): [number, number] | null {
  const known = runs.map((run) => run.extent(name)).filter((one) => one !== null);
  return known.length ? [Math.min(...known.map(([low]) => low)), Math.max(...known.map(([, high]) => high))] : null;
}

/** The heads that the search finds at the current checkpoint; null where it is empty: all of them. */
export function foundHeads({ history, store }: Context): Set<number> | null {
  const { index, search, score, heads } = store.state;
  const value = (name: string, head: number): number => history.scoreAt(name, index, head);
  const role = (head: number): readonly string[] => history.role(index, head);
  return findHeads({ heads: history.heads, scores: history.scores, shown: score, value, marked: heads, role }, search);
}

/** A score's or another name as words. */
export function words(name: string): string {
  return name.replaceAll("_", " ").replace(/\bov\b/, "OV").replace(/\bqk\b/, "QK").replace(/\b([kqv]) /, (_, letter: string) => `${letter.toUpperCase()}-`);
}
