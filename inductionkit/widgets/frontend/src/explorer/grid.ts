import { ColourScale } from "../common/colours";
import { html, pointer, setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { MOVES } from "../common/keys";
import { Layer } from "../common/layer";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { scoreChoice, scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, sharedExtent, type View } from "./view";

const MARGIN = { top: 30, right: 2, bottom: 4, left: 38 };
const [MAX_CELL, MAX_HEIGHT, MAX_ROW] = [56, 236, 34];
/** Cells at least this large carry their number. */
const NUMBER_SIZE = [34, 16] as const;
const FIELDS: Field[] = ["index", "head", "heads", "hover", "score"];

/** Any score of every head at the current checkpoint, layer by head. */
export class GridView implements View {
  readonly panel = new Panel("grid", "Heads, layer by head", "");
  private readonly choice: ReturnType<typeof scoreChoice>;
  private readonly bar = new ScaleBar();
  private readonly layer = new Layer();
  private readonly overlay = svg("svg", { class: "ik-cells", tabindex: 0, role: "application", "aria-roledescription": "heat map" });
  private readonly labels = svg("g", { class: "ik-axis" }, this.overlay);
  private readonly marks = svg("g", {}, this.overlay);
  private cell: [number, number] = [1, 1];

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.choice = scoreChoice(context, "Colour", "score");
    this.panel.legend.append(this.choice.element, this.bar.element);
    this.panel.body.append(html("div", { class: "ik-stage" }, this.layer.element, this.overlay));
    Object.assign(this.layer.element.style, { left: `${MARGIN.left}px`, top: `${MARGIN.top}px` });
    this.overlay.addEventListener("pointermove", alert.guard((event: PointerEvent) => store.set({ hover: this.headAt(event) })));
    this.overlay.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.overlay.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(event);
      if (head !== null) pick(store, head, event.shiftKey);
    }));
    this.overlay.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.moveByKey(event)));
  }

  draw(width: number): void {
    const { layers, heads } = this.context.history.header;
    const across = Math.min((width - MARGIN.left - MARGIN.right) / heads.length, MAX_CELL);
    this.cell = [across, Math.min(MAX_HEIGHT / layers.length, MAX_ROW, Math.max(across, 12))];
    const [right, bottom] = [MARGIN.left + heads.length * across, MARGIN.top + layers.length * this.cell[1]];
    setAll(this.overlay, { width: right + MARGIN.right, height: bottom + MARGIN.bottom });
    this.labels.replaceChildren();
    const label = (text: string, place: Record<string, string | number>): void => {
      svg("text", place, this.labels).textContent = text;
    };
    label("head", { x: MARGIN.left, y: 10 });
    label("layer", { x: MARGIN.left - 6, y: 23, "text-anchor": "end" });
    const every = (size: number, least: number): number => Math.ceil(least / size);
    heads.forEach((head, index) => {
      if (index % every(across, 18)) return;
      label(String(head), { x: MARGIN.left + (index + 0.5) * across, y: MARGIN.top - 7, "text-anchor": "middle" });
    });
    layers.forEach((layer, index) => {
      if (index % every(this.cell[1], 12)) return;
      const y = MARGIN.top + (index + 0.5) * this.cell[1];
      label(String(layer), { x: MARGIN.left - 6, y, dy: "0.35em", "text-anchor": "end" });
    });
    this.choice.show();
    this.paint();
    this.mark();
  }

  update(changed: Changed<State>): void {
    if (changed.has("score")) this.choice.show();
    if (changed.has("index") || changed.has("score")) this.paint();
    if (FIELDS.some((field) => changed.has(field))) this.mark();
  }

  private paint(): void {
    const { history, store, runs, root } = this.context;
    const { index, score } = store.state;
    const { layers, heads } = history.header;
    const [width, height] = this.cell;
    const scale = ColourScale.over(themeOf(root), sharedExtent(runs, score));
    const draw = this.layer.begin(width * heads.length, height * layers.length);
    const numbered = width >= NUMBER_SIZE[0] && height >= NUMBER_SIZE[1];
    // Naming a font has the page's styles computed then and there, so only where there is text to draw.
    if (numbered) Object.assign(draw, { textAlign: "center", textBaseline: "middle", font: "11px system-ui, sans-serif" });
    const gap = width > 8 ? 1 : 0;
    for (let head = 0; head < history.heads.n; head++) {
      const value = history.scoreAt(score, index, head);
      const [x, y] = this.place(head);
      if (Number.isNaN(value)) continue;
      draw.fillStyle = scale.css(value);
      draw.fillRect(x, y, width - gap, height - gap);
      if (!numbered) continue;
      draw.fillStyle = scale.ink(value);
      draw.fillText(decimal(value), x + width / 2, y + height / 2);
    }
    this.bar.show("", scale, (value) => decimal(value));
  }

  private mark(): void {
    const { history, store } = this.context;
    const { index, head, heads, hover, score } = store.state;
    const [width, height] = this.cell;
    this.marks.replaceChildren();
    const box = (kind: string, other: number): void => {
      const [x, y] = this.place(other);
      svg("rect", { class: kind, x: MARGIN.left + x, y: MARGIN.top + y, width: width - 1, height: height - 1 }, this.marks);
    };
    for (const other of heads) box("ik-cell-pinned", other);
    if (hover !== null) box("ik-cell-hover", hover);
    box("ik-cell-chosen", head);
    const shown = hover ?? head;
    const value = scoreText(this.context, score, history.scoreAt(score, index, shown));
    this.panel.value.textContent = `${history.heads.name(shown)}: ${value}`;
    this.panel.element.dataset.head = history.heads.name(head);
    const help = "Arrow keys choose a head, shift-click highlights one.";
    this.overlay.setAttribute("aria-label", `Heads, layer by head. Head ${history.heads.name(head)}: ${value}. ${help}`);
  }

  private place(head: number): [number, number] {
    const across = this.context.history.header.heads.length;
    return [(head % across) * this.cell[0], Math.floor(head / across) * this.cell[1]];
  }

  private headAt(event: MouseEvent): number | null {
    const { layers, heads } = this.context.history.header;
    const [x, y] = pointer(event, this.overlay);
    const [column, row] = [Math.floor((x - MARGIN.left) / this.cell[0]), Math.floor((y - MARGIN.top) / this.cell[1])];
    return column >= 0 && column < heads.length && row >= 0 && row < layers.length ? row * heads.length + column : null;
  }

  private moveByKey(event: KeyboardEvent): void {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const { store, history } = this.context;
    store.set({ head: history.heads.neighbour(store.state.head, ...move) });
  }
}
