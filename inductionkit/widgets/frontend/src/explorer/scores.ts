import { choice } from "../common/controls";
import { decimal, label } from "../common/format";
import type { State } from "./state";
import { type Context, words } from "./view";

type Chooser = { element: HTMLElement; show: () => void };

/** A choice of one of the history's scores, kept in a field of the state; `more` names what else may be chosen. */
export function scoreChoice(
  { history, store }: Context,
  name: string,
  field: "score" | "across" | "up" | "colour",
  more: string[] = [],
): Chooser {
  const options = [...more, ...history.scores].map((score) => new Option(words(score), score));
  const { element, select } = choice(name, options, (score) => store.set({ [field]: score } as Partial<State>));
  return { element, show: () => void (select.value = store.state[field]) };
}

/** A head's value of a score, with its unit if it has one. */
export function scoreText({ history }: Context, name: string, value: number): string {
  const units = history.header.scores.find((score) => score.name === name)?.units;
  const text = decimal(value, Math.abs(value) >= 100 ? 0 : 2);
  return units && Number.isFinite(value) ? `${text} ${label(units)}` : text;
}
