import { html, setAll, svg } from "../common/dom";
import { label } from "../common/format";
import { MOVES } from "../common/keys";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import { type Context, short, type State } from "./diagram";

const MARGIN = { left: 44, bottom: 38, top: 2, right: 4 };
const MAX_SIDE = 330;
const SIDE_BY_SIDE = 420;
const GAP = 20;
const TICK_DISTANCE = 34;
type Which = "best_state" | "trained_state";

/** The state of the extra feature in every cell, in closed form and trained. */
export class MapsView implements View<State> {
  readonly panel: Panel;
  private readonly maps: { which: Which; svg: SVGSVGElement; marks: SVGGElement }[] = [];
  private size = 0;

  constructor(private readonly context: Context) {
    const { diagram } = context;
    this.panel = new Panel("maps", "What becomes of the extra feature", label(diagram.header.about));
    for (const [state, name] of diagram.header.states.entries()) this.panel.addLegend("state", name, `var(--ik-state-${state})`);
    const row = html("div", { class: "ik-maps" });
    this.panel.body.append(row);
    row.append(this.map("best_state", "Closed form"));
    if (!diagram.trained) return;
    row.append(this.map("trained_state", "Trained"));
    this.panel.addLegend("disagrees", "disagrees");
    const { agreement } = diagram.header;
    if (agreement === null) return;
    const share = `${Math.floor(100 * agreement)} % of the cells away from a boundary agree.`;
    this.panel.element.append(html("p", { class: "ik-verdict" }, share));
  }

  draw(width: number): void {
    const { diagram } = this.context;
    const beside = this.maps.length > 1 && width >= SIDE_BY_SIDE;
    const outer = Math.min(beside ? Math.floor((width - GAP) / 2) : width, MAX_SIDE);
    this.size = (outer - MARGIN.left - MARGIN.right) / Math.max(diagram.nRows, diagram.nColumns);
    const [inner, tall] = [this.size * diagram.nRows, this.size * diagram.nColumns];
    for (const { which, svg: element, marks } of this.maps) {
      const [fullWidth, fullHeight] = [inner + MARGIN.left + MARGIN.right, tall + MARGIN.top + MARGIN.bottom];
      setAll(element, { width: fullWidth, height: fullHeight, viewBox: `${-MARGIN.left} ${-MARGIN.top} ${fullWidth} ${fullHeight}` });
      element.replaceChildren();
      this.drawCells(which, element);
      this.drawAxes(element, inner, tall);
      element.append(marks);
    }
    this.mark();
  }

  update(): void {
    this.mark();
  }

  private map(which: Which, title: string): HTMLElement {
    const { store, alert } = this.context;
    const name = `${title}: density against relative importance; arrow keys choose a cell`;
    const element = svg("svg", { class: "ik-map", "data-map": which, role: "application", tabindex: 0, "aria-label": name });
    this.maps.push({ which, svg: element, marks: svg("g") });
    element.addEventListener("pointermove", alert.guard((event: PointerEvent) => store.set({ hover: this.cellAt(event, element) })));
    element.addEventListener("pointerleave", () => store.set({ hover: null }));
    element.addEventListener("click", alert.guard((event: MouseEvent) => {
      const cell = this.cellAt(event, element);
      if (cell !== null) store.set({ cell });
    }));
    element.addEventListener("keydown", alert.guard((event: KeyboardEvent) => {
      const step = MOVES[event.key];
      if (!step) return;
      event.preventDefault();
      store.set({ cell: this.beside(store.state.cell, step) });
    }));
    return html("div", {}, html("h4", { class: "ik-map-title" }, title), element);
  }

  private drawCells(which: Which, parent: Element): void {
    const { diagram } = this.context;
    for (let cell = 0; cell < diagram.nRows * diagram.nColumns; cell++) {
      const state = diagram.state(which, cell);
      const square = svg("rect", { class: "ik-square", "data-cell": cell, ...this.box(cell) }, parent);
      square.style.fill = `var(--ik-state-${state})`;
      if (which === "trained_state" && state !== diagram.state("best_state", cell)) {
        const { x, y, width } = this.box(cell);
        svg("rect", { class: "ik-disagrees", x: x + 2, y: y + 2, width: width - 4, height: width - 4 }, parent);
      }
    }
  }

  private drawAxes(parent: Element, inner: number, tall: number): void {
    const { diagram } = this.context;
    const every = Math.max(1, Math.ceil(TICK_DISTANCE / this.size));
    const write = (text: string, attributes: Record<string, string | number>): void => {
      svg("text", attributes, parent).textContent = text;
    };
    for (let row = 0; row < diagram.nRows; row += every) {
      write(short(1 - diagram.sparsity[row]!), { x: (row + 0.5) * this.size, y: tall + 14, "text-anchor": "middle" });
    }
    for (let column = 0; column < diagram.nColumns; column += every) {
      const y = tall - (column + 0.5) * this.size;
      write(short(diagram.importance[column]!), { x: -6, y, dy: "0.35em", "text-anchor": "end" });
    }
    write("density 1 − S, sparser →", { x: inner / 2, y: tall + 32, "text-anchor": "middle" });
    write("relative importance", { transform: `translate(${8 - MARGIN.left},${tall / 2}) rotate(-90)`, "text-anchor": "middle" });
  }

  private mark(): void {
    const { cell, hover } = this.context.store.state;
    for (const { marks } of this.maps) {
      marks.replaceChildren();
      svg("rect", { class: "ik-chosen-cell", ...this.box(cell) }, marks);
      svg("rect", { class: "ik-chosen-cell", ...this.box(cell) }, marks);
      if (hover !== null) svg("rect", { class: "ik-hover-cell", ...this.box(hover) }, marks);
    }
  }

  private box(cell: number): { x: number; y: number; width: number; height: number } {
    const { nColumns } = this.context.diagram;
    const [row, column] = [Math.floor(cell / nColumns), cell % nColumns];
    return { x: row * this.size, y: (nColumns - 1 - column) * this.size, width: this.size, height: this.size };
  }

  private cellAt(event: MouseEvent, element: Element): number | null {
    const { nRows, nColumns } = this.context.diagram;
    const box = element.getBoundingClientRect();
    const row = Math.floor((event.clientX - box.left - MARGIN.left) / this.size);
    const column = nColumns - 1 - Math.floor((event.clientY - box.top - MARGIN.top) / this.size);
    return row >= 0 && row < nRows && column >= 0 && column < nColumns ? row * nColumns + column : null;
  }

  private beside(cell: number, [down, right]: [number, number]): number {
    const { nRows, nColumns } = this.context.diagram;
    const row = Math.min(Math.max(Math.floor(cell / nColumns) + right, 0), nRows - 1);
    const column = Math.min(Math.max((cell % nColumns) - down, 0), nColumns - 1);
    return row * nColumns + column;
  }
}
