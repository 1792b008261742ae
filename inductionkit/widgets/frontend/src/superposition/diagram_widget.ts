import { html } from "../common/dom";
import { initialState, type Trait } from "../common/link";
import { inColumns, mounted } from "../common/shell";
import { Store } from "../common/store";
import { type Context, Diagram, type Header, type State } from "./diagram";
import { CellView, SolutionsView } from "./diagram_cell";
import { MapsView } from "./diagram_maps";
import styles from "./superposition.css";

/** PhaseDiagramView. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const diagram = new Diagram(model.get("_header") as Header, model.get("_data") as DataView);
  const pairOf = (cell: number): [number, number] => [Math.floor(cell / diagram.nColumns), cell % diagram.nColumns];
  const trait: Trait<State> = {
    ...{ name: "cell", field: "cell", toTrait: ({ cell }) => pairOf(cell) },
    toState: (pair) => {
      const [row, column] = pair as [number, number];
      return { cell: row * diagram.nColumns + column };
    },
  };
  const store = new Store(initialState<State>(model, [trait], { cell: 0, hover: null }));
  const context: Context = { diagram, store, alert };
  const [maps, beside] = [[new MapsView(context), new SolutionsView(context)], diagram.trained ? [new CellView(context)] : []];
  const readout = html("output", { class: "ik-said", "aria-live": "polite" });
  root.append(html("div", { class: "ik-toolbar" }, readout), inColumns(maps, ...(beside.length ? [beside] : [])));
  return {
    ...{ store, traits: [trait], views: [...maps, ...beside] },
    changed: () => {
      const { cell, hover } = store.state;
      // What is pointed at is shown everywhere; a reader that spoke it would never finish.
      readout.setAttribute("aria-live", hover === null ? "polite" : "off");
      const text = inWords(diagram, hover ?? cell);
      if (readout.textContent !== text) readout.textContent = text;
      Object.assign(root.dataset, { cell: pairOf(cell).join(), hover: hover ?? "" });
    },
  };
});

function inWords(diagram: Diagram, cell: number): string {
  const { states } = diagram.header;
  const closed = states[diagram.state("best_state", cell)]!;
  const trained = diagram.trained ? `; trained: ${states[diagram.state("trained_state", cell)]!}` : "";
  return `Cell of ${diagram.describe(cell)}. Closed form: ${closed}${trained}.`;
}
