import { scaleSymlog } from "d3-scale";
import type { Alert } from "../common/alert";
import { count } from "../common/format";
import { type Along, IndexFrame } from "../common/index_frame";
import type { Store } from "../common/store";
import type { History } from "./history";
import type { Rotation } from "./rotation";

export interface State {
  /** Recorded step, by index. */
  index: number;
  instance: number;
  feature: number | null;
  /** The feature under the pointer. */
  hover: number | null;
  colour: "polytope" | "importance";
  rotation: Rotation;
}

/** What every view of SuperpositionView is built from. */
export interface Context {
  history: History;
  store: Store<State>;
  alert: Alert;
}

/** The feature that views give emphasis to. */
export function featured({ hover, feature }: State): number | null {
  return hover ?? feature;
}

/** The colour of a feature at the current step. */
export function featureColour({ history, store }: Context, feature: number): string {
  const { index, instance, colour } = store.state;
  if (colour === "polytope") return `var(--ik-polytope-${history.ofFeature("polytope", instance, index, feature)})`;
  return `var(--ik-importance-${importanceRank(history, instance, feature)})`;
}

export const N_IMPORTANCE_COLOURS = 5;

/** Where a feature's importance lies between the least and the greatest, on a log scale, as one of a few colours. */
function importanceRank(history: History, instance: number, feature: number): number {
  const all = Array.from({ length: history.nFeatures }, (_, other) => Math.log(history.fixed("importance", instance, other)));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const share = high > low ? (all[feature]! - low) / (high - low) : 1;
  return Math.round((Number.isFinite(share) ? share : 0) * (N_IMPORTANCE_COLOURS - 1));
}

/** A frame over the recorded steps, on an axis that is logarithmic and has a place for 0. */
export function stepFrame(
  { history, store, alert }: Context,
  body: HTMLElement,
  options: { description: string; height: number; right: number; titled: boolean },
): IndexFrame {
  const { steps } = history;
  const [first, last] = [steps[0]!, Math.max(steps.at(-1)!, steps[0]! + 1)];
  const decades = [0, ...Array.from({ length: 12 }, (_, power) => 10 ** power)].filter((value) => value >= first && value <= last);
  const along: Along = {
    ...{ values: steps, scale: scaleSymlog().constant(1).domain([first, last]), title: "training step (log scale)" },
    ticks: () => ({ values: decades.length > 1 ? decades : [first, last], text: count }),
  };
  const chosen = { chosen: () => store.state.index, choose: (index: number) => store.set({ index }) };
  return new IndexFrame(along, alert, body, { ...options, ...chosen });
}

/** Room to the right of the frames over training: for the levels' names, where they fit. */
export function roomForNames(width: number): { right: number; named: boolean } {
  return width < 420 ? { right: 40, named: false } : { right: 124, named: true };
}
