import type { Model } from "../common/model";
import { headTrait, headsTrait } from "../common/heads";
import { initialState, oneOf, type Trait } from "../common/link";
import { Store, toggled } from "../common/store";
import { type Clock, clockOf, type History } from "./history";

/** What the views of one run show. */
export interface State {
  /** Checkpoint, by index. */
  index: number;
  /** The checkpoint that the model knows of while others play by themselves. */
  resting: number | null;
  /** The head whose pattern is shown. */
  head: number;
  /** The highlighted heads. */
  heads: readonly number[];
  text: number;
  /** The head under the pointer. */
  hover: number | null;
  query: number;
  key: number | null;
  /** The checkpoint that a text's losses are held against. */
  reference: number;
  /** What the heads are searched for. */
  search: string;
  /** The scores on show: over training and in the grid; across and up in the scatter; its colours, or "layer". */
  score: string;
  across: string;
  up: string;
  colour: string;
  scale: "log" | "linear";
  unit: Clock;
}

export type Field = keyof State;

/** What a reader has set in the front end alone, and keeps while the history grows. */
export type Settings = Partial<Pick<State, "search" | "score" | "across" | "up" | "colour" | "scale" | "unit">>;

/** Choose a head; or highlight it, or no longer. */
export function pick(store: Store<State>, head: number, highlight: boolean): void {
  store.set(highlight ? { heads: toggled(store.state.heads, head) } : { head });
}

/** A store as it is in the beginning. */
export function openStore(model: Model, history: History, runs: readonly History[], settings: Settings): Store<State> {
  const unit = clockOf(runs) === "steps" ? { unit: "steps" as const } : {};
  return new Store(initialState(model, traitsOf(history), { ...unchosen(history, runs), ...settings, ...unit }));
}

/** A text is read from the token that shows most at first. */
export function atText(history: History, text: number): Pick<State, "text" | "query" | "key"> {
  return { text, query: history.firstQuery(text), key: null };
}

export function traitsOf(history: History): Trait<State>[] {
  const { heads, steps, header } = history;
  const [step, text] = [oneOf<State>("step", "index", steps), oneOf<State>("text", "text", header.texts)];
  return [
    {
      ...{ ...step, also: "resting" },
      toTrait: ({ index, resting }) => steps[resting ?? index],
      toState: (value, state) => ({ ...step.toState(value, state), resting: null }),
    },
    headTrait(heads, "head"),
    headsTrait(heads, "heads"),
    {
      ...text,
      toState: (name, state) => {
        const { text: next = state.text } = text.toState(name, state);
        return next === state.text ? {} : atText(history, next);
      },
    },
  ];
}

/** The state before anything is chosen; losses of a text are held against the last checkpoint before the first window. */
function unchosen(history: History, runs: readonly History[]): State {
  const { scores, nSteps } = history;
  const score = scores[0] ?? "";
  const unit = clockOf(runs);
  const start = Math.min(...runs.map((run) => (run.header.window ? run.on(unit, run.header.window[0]) : Infinity)));
  const before = Number.isFinite(start) ? history.elapsed(unit).findLastIndex((seen) => seen <= start) : 0;
  return {
    ...{ index: nSteps - 1, resting: null, head: 0, heads: [], hover: null, reference: Math.max(before, 0), ...atText(history, 0) },
    ...{ search: "", score, across: score, up: scores[1] ?? "", colour: "layer" },
    ...{ scale: "log", unit },
  };
}
