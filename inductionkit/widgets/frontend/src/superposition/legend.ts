import { html } from "../common/dom";
import type { Panel } from "../common/panel";
import type { History } from "./history";
import { type Context, N_IMPORTANCE_COLOURS } from "./view";

const PLURALS: Record<string, string> = { none: "unnamed", "not represented": "not represented", alone: "alone" };

/** How many of each polytope there are at a step: "2 digons, 1 not represented". */
export function summary(history: History, instance: number, index: number): string {
  const counts = new Map<string, number>();
  for (const group of history.groups(instance, index)) add(counts, history.polytope(instance, index, group[0]!), 1);
  for (let feature = 0; feature < history.nFeatures; feature++) {
    const name = history.polytope(instance, index, feature);
    if (name === "not represented") add(counts, name, 1);
  }
  const order = ({ polytopes }: History["header"], name: string): number => polytopes.indexOf(name);
  return [...counts]
    .sort(([one], [other]) => order(history.header, one) - order(history.header, other))
    .map(([name, number]) => `${number} ${PLURALS[name] ?? (number > 1 ? `${name}s` : name)}`)
    .join(", ");
}

/** The meaning of the colours at the current step. */
export function addLegend(panel: Panel, { history, store }: Context): void {
  const { instance, index, colour } = store.state;
  panel.legend.replaceChildren();
  if (colour === "importance") {
    const importances = Array.from({ length: history.nFeatures }, (_, feature) => history.fixed("importance", instance, feature));
    const [least, most] = [Math.min(...importances), Math.max(...importances)].map((value) => Number(value.toPrecision(2)));
    const ramp = Array.from({ length: N_IMPORTANCE_COLOURS }, (_, rank) => {
      const mark = html("span", { class: "ik-ramp" });
      mark.style.background = `var(--ik-importance-${rank})`;
      return mark;
    });
    panel.legend.append(html("span", { class: "ik-key" }, `importance ${least}`, html("span", {}, ...ramp), String(most)));
    return;
  }
  const seen = new Set(Array.from({ length: history.nFeatures }, (_, feature) => history.ofFeature("polytope", instance, index, feature)));
  for (const [number, name] of history.header.polytopes.entries()) {
    if (seen.has(number)) panel.addLegend("polytope", name === "none" ? "unnamed" : name, `var(--ik-polytope-${number})`);
  }
}

function add(counts: Map<string, number>, name: string, number: number): void {
  counts.set(name, (counts.get(name) ?? 0) + number);
}
