import { html, setAll, svg } from "../common/dom";
import { shortened, visible } from "../common/format";
import { MOVES } from "../common/keys";
import { row, type Pattern } from "./pattern_series";
import { Pixels } from "./pixels";

/** Room for the names of tokens, above and to the left. */
const MARGIN = { top: 58, right: 4, bottom: 2, left: 76 };
const MAX_SIDE = 330;
/** Names of tokens stand this far apart at least, and are as long as this at most. */
const [NAME_HEIGHT, NAME_LENGTH] = [11, 9];

export interface Cell {
  query: number;
  key: number | null;
}

/** A lower triangle of attention on canvas, query by key, the tokens along both axes, one cell marked. */
export class Matrix {
  readonly element: HTMLElement;
  readonly overlay = svg("svg", { class: "ik-overlay", tabindex: 0, role: "application", "aria-roledescription": "heat map" });
  private readonly canvas = html("canvas", { class: "ik-canvas" });
  private readonly names = svg("g", { class: "ik-axis ik-token-names" }, this.overlay);
  private readonly marked = svg("g", { class: "ik-token-names" }, this.overlay);
  private readonly row = svg("rect", { class: "ik-row" }, this.overlay);
  private readonly cell = svg("rect", { class: "ik-cell" }, this.overlay);
  private readonly missing = html("p", { class: "ik-missing" });
  private readonly pixels = new Pixels(this.canvas);
  private tokens: readonly string[] = [];
  private side = MAX_SIDE;

  constructor(private readonly pointed: (cell: Cell) => void) {
    this.element = html("div", { class: "ik-matrix" }, this.canvas, this.overlay, this.missing);
  }

  /** The width of the whole, whose pattern is as wide as there is `room` for. */
  resize(room: number): number {
    this.side = Math.max(Math.min(room - MARGIN.left - MARGIN.right, MAX_SIDE), 60);
    const [width, height] = [this.side + MARGIN.left + MARGIN.right, this.side + MARGIN.top + MARGIN.bottom];
    setAll(this.overlay, { width, height });
    this.canvas.style.cssText = `left:${MARGIN.left}px;top:${MARGIN.top}px;width:${this.side}px;height:${this.side}px`;
    return width;
  }

  write(tokens: readonly string[]): void {
    this.tokens = tokens;
    this.names.replaceChildren();
    const every = Math.ceil(NAME_HEIGHT / this.size);
    for (let position = 0; position < tokens.length; position += every) {
      this.name(this.names, position, "key");
      this.name(this.names, position, "query");
    }
    for (const [text, above] of [["key →", 24], ["query ↓", 8]] as const) {
      const place = { x: MARGIN.left - 10, y: MARGIN.top - above, "text-anchor": "end" };
      svg("text", { class: "ik-end", ...place }, this.names).textContent = text;
    }
  }

  /** One pixel per cell, then scaled without smoothing; `why` there is no pattern is said in its place. */
  paint(pattern: Pattern | null, colours: Uint8ClampedArray, why: string): void {
    const n = this.tokens.length;
    this.missing.hidden = pattern !== null;
    this.missing.textContent = why;
    const palette = packed(colours);
    let at = 0; // cells come row by row, as the attention is kept
    this.pixels.paint(n, this.side, pattern && (() => palette[pattern.attention[at++]!]!));
  }

  /** Mark the query's row and the key's cell, and name both tokens. */
  mark({ query, key }: Cell): void {
    const [size, left] = [this.size, MARGIN.left];
    const top = MARGIN.top + query * size;
    setAll(this.row, { x: left, y: top, width: (query + 1) * size, height: Math.max(size, 1) });
    this.cell.style.display = key === null ? "none" : "";
    setAll(this.cell, { x: left + (key ?? 0) * size, y: top, width: Math.max(size, 2), height: Math.max(size, 2) });
    this.marked.replaceChildren();
    const marked = { query, key };
    // A marked name takes the place of those that it would lie on.
    for (const name of this.names.querySelectorAll<SVGTextElement>("[data-axis]")) {
      const at = marked[name.dataset.axis as keyof Cell];
      const away = at === null ? Infinity : Math.abs(Number(name.dataset.position) - at) * size;
      name.style.display = away < NAME_HEIGHT ? "none" : "";
    }
    if (query < this.tokens.length) this.name(this.marked, query, "query");
    if (key !== null && key < this.tokens.length) this.name(this.marked, key, "key");
  }

  cellAt(event: PointerEvent): { query: number; key: number } | null {
    const box = this.overlay.getBoundingClientRect();
    const key = Math.floor((event.clientX - box.left - MARGIN.left) / this.size);
    const query = Math.floor((event.clientY - box.top - MARGIN.top) / this.size);
    return key >= 0 && key <= query && query < this.tokens.length ? { query, key } : null;
  }

  moveByKey(event: KeyboardEvent, { query, key }: Cell): void {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const nextQuery = Math.min(Math.max(query + move[0], 0), Math.max(this.tokens.length - 1, 0));
    this.pointed({ query: nextQuery, key: Math.min(Math.max((key ?? nextQuery) + move[1], 0), nextQuery) });
  }

  private get size(): number {
    return this.side / Math.max(this.tokens.length, 1);
  }

  private middle(position: number): number {
    return (position + 0.5) * this.size;
  }

  private name(parent: SVGGElement, position: number, axis: "query" | "key"): void {
    const at = this.middle(position);
    const place =
      axis === "query"
        ? { x: MARGIN.left - 5, y: MARGIN.top + at, "text-anchor": "end" }
        : { transform: `translate(${MARGIN.left + at},${MARGIN.top - 5}) rotate(-90)`, "text-anchor": "start" };
    const name = svg("text", { ...place, dy: "0.32em", "data-axis": axis, "data-position": position }, parent);
    name.textContent = shortened(visible(this.tokens[position]!), NAME_LENGTH);
  }
}

/** Colours as canvas pixels. */
function packed(colours: Uint8ClampedArray): Uint32Array {
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value++) {
    bytes.set(colours.subarray(3 * value, 3 * value + 3), 4 * value);
    bytes[4 * value + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}

/** The key that a query attends to most. */
export function strongestKey(pattern: Pattern, query: number): number {
  const weights = row(pattern, query);
  return weights.indexOf(Math.max(...weights));
}
