import { html } from "../common/dom";
import { type Context, Diagram, type Header, type State } from "./diagram";
import { CellView, SolutionsView } from "./diagram_cell";
import { MapsView } from "./diagram_maps";
import type { Trait } from "./link";
import { type Bar, mounted, type View } from "./shell";
import { Store } from "./store";

/** PhaseDiagramView. */
export const mount = mounted<State>((model, alert) => {
  const diagram = new Diagram(model.get("_header") as Header, model.get("_data") as DataView);
  const trait: Trait<State> = {
    name: "cell",
    toTrait: ({ cell }) => [Math.floor(cell / diagram.nColumns), cell % diagram.nColumns],
    toState: (cell) => ({ cell: (cell as [number, number])[0] * diagram.nColumns + (cell as [number, number])[1] }),
  };
  const store = new Store<State>({ cell: 0, hover: null, ...trait.toState(model.get("cell")) });
  const context: Context = { diagram, store, alert };
  const columns: View<State>[][] = [[new MapsView(context), new SolutionsView(context)]];
  if (diagram.trained) columns.push([new CellView(context)]);
  return {
    ...{ store, traits: [trait], bar: new CellBar(context), columns },
    describe: (state) => ({ cell: (trait.toTrait(state) as number[]).join(), hover: state.hover ?? "" }),
  };
});

/** The chosen cell in words. */
class CellBar implements Bar<State> {
  private readonly readout = html("output", { class: "ik-said", "aria-live": "polite" });
  readonly element = html("div", { class: "ik-toolbar" }, this.readout);

  constructor(private readonly context: Context) {}

  onKey(): void {}

  update(): void {
    const { diagram, store } = this.context;
    const { cell } = store.state;
    const { states } = diagram.header;
    const closed = states[diagram.state("best_state", cell)]!;
    const trained = diagram.trained ? `; trained: ${states[diagram.state("trained_state", cell)]!}` : "";
    const text = `Cell of ${diagram.describe(cell)}. Closed form: ${closed}${trained}.`;
    if (this.readout.textContent !== text) this.readout.textContent = text;
  }

  stop(): void {}
}
