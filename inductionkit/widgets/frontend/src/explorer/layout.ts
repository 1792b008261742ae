import { html } from "../common/dom";
import { label } from "../common/format";
import type { Hero } from "./hero";
import type { Side } from "./side";

/** The two columns of one run's views; views in one row stand side by side where there is room. */
const COLUMNS = [
  [["loss"], ["icl"], ["slopes"], ["trajectories"]],
  [["grid", "scatter"], ["circuit"], ["pattern"], ["text"]],
];

/** One run's hero strip, and everything else below it. */
export function heroLayout(hero: Hero, side: Side): HTMLElement[] {
  const details = html("section", { class: "ik-details" }, html("h2", {}, "Details"), runLayout(side));
  return [hero.strip, details];
}

/** One run: two columns of views, or one where there are few. */
export function runLayout({ views }: Side): HTMLElement {
  const grid = html("div", { class: "ik-grid" });
  for (const column of COLUMNS) {
    const rows = column.map((names) => names.filter((name) => views.has(name))).filter((names) => names.length);
    if (!rows.length) continue;
    const elements = rows.map((names) => {
      const panels = names.map((name) => views.get(name)!.panel.element);
      return panels.length === 1 ? panels[0]! : html("div", { class: "ik-pair" }, ...panels);
    });
    grid.append(html("div", { class: "ik-column" }, ...elements));
  }
  if (!views.size) grid.append(html("p", { class: "ik-missing" }, "no data: this history has nothing to draw"));
  return grid;
}

/** Several runs side by side: a column each, a row for each view that any of them has. */
export function sidesLayout(sides: readonly Side[], choices: readonly HTMLElement[][]): HTMLElement {
  const grid = html("div", { class: "ik-sides" });
  sides.forEach((side, index) => {
    const name = html("h2", { class: "ik-run" }, label(side.context.history.header.model) || `run ${index + 1}`);
    grid.append(html("div", { class: "ik-run-head" }, name, ...choices[index]!));
  });
  for (const view of COLUMNS.flat(2)) {
    if (!sides.some(({ views }) => views.has(view))) continue;
    for (const { views } of sides) {
      grid.append(views.get(view)?.panel.element ?? html("p", { class: "ik-missing" }, "not in this run's history"));
    }
  }
  return grid;
}
