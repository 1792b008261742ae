import { html } from "../common/dom";
import { decimal, label } from "../common/format";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Context, State } from "./diagram";
import { INITIAL } from "./rotation";
import { VectorPlot } from "./vectors";

const MAX_SIDE = 380;

/** The trained weights of one cell, the hovered or else the chosen one. */
export class CellView implements View<State> {
  readonly panel = new Panel("cell", "Trained weights", "columns of W, the best of several starts");
  private readonly plot: VectorPlot;

  constructor(private readonly context: Context) {
    this.plot = new VectorPlot(this.panel.body, "Trained features of the cell as vectors", false);
    this.panel.addLegend("polytope", "extra feature", "var(--ik-accent)");
    this.panel.addLegend("polytope", "the others", "var(--ik-muted)");
  }

  draw(width: number): void {
    this.plot.resize(width, Math.min(width, MAX_SIDE), this.context.diagram.reach);
    this.show();
  }

  update(): void {
    this.show();
  }

  private show(): void {
    const { diagram, store } = this.context;
    const cell = store.state.hover ?? store.state.cell;
    const vectors = Array.from({ length: diagram.nFeatures }, (_, feature) => {
      const extra = feature === diagram.nFeatures - 1;
      return {
        name: extra ? "extra" : String(feature),
        place: diagram.place(cell, feature),
        colour: extra ? "var(--ik-accent)" : "var(--ik-muted)",
        emphasis: extra ? ("strong" as const) : ("none" as const),
        named: !extra,
      };
    });
    this.plot.show(vectors, [], [], INITIAL);
    this.panel.value.textContent = diagram.header.states[diagram.state("trained_state", cell)]!;
  }
}

/** The exact losses of the candidate solutions in one cell, and the trained model's. */
export class SolutionsView implements View<State> {
  readonly panel = new Panel("solutions", "Exact losses", "");
  private readonly body = html("tbody");

  constructor(private readonly context: Context) {
    this.panel.body.append(html("table", { class: "ik-solutions" }, this.body));
  }

  draw(): void {
    this.show();
  }

  update(): void {
    this.show();
  }

  private show(): void {
    const { diagram, store } = this.context;
    const cell = store.state.hover ?? store.state.cell;
    const losses = diagram.header.solutions.map((_, solution) => diagram.loss(solution, cell));
    const trained = diagram.trainedLoss(cell);
    const known = [...losses, trained].filter(Number.isFinite);
    const most = Math.max(...known, 1e-12);
    const best = Math.min(...losses.filter(Number.isFinite));
    const rows = diagram.header.solutions.map((name, solution) => {
      const loss = losses[solution]!;
      return line(label(name), loss, most, loss === best ? "is-best" : "");
    });
    if (diagram.trained) rows.push(line("trained", trained, most, "is-trained"));
    this.body.replaceChildren(...rows);
    this.panel.value.textContent = diagram.describe(cell);
  }
}

function line(name: string, loss: number, most: number, kind: string): HTMLElement {
  const bar = html("span", { class: "ik-bar" });
  bar.hidden = !Number.isFinite(loss);
  bar.style.width = `${((100 * loss) / most).toFixed(1)}%`;
  const number = Number.isFinite(loss) ? decimal(loss, loss < 0.01 ? 5 : 4) : "no solution here";
  return html("tr", { class: kind }, html("th", { scope: "row" }, name), html("td", {}, bar), html("td", {}, number));
}
