import type { Alert } from "./alert";
import type { ColourScale } from "./colours";
import { html, pointer, setAll, svg } from "./dom";
import type { Heads } from "./heads";
import { MOVES } from "./keys";
import { Layer } from "./layer";

const MARGIN = { top: 30, right: 2, bottom: 4, left: 38 };
/** Cells at least this large carry their number; those of ROOMY pixels have a gap between them. */
const NUMBER_SIZE = [34, 16] as const;
const ROOMY = 6;

interface Options {
  description: string;
  /** Cells are at most so wide and high, and all of them together so high. */
  maxCell: readonly [number, number];
  maxHeight: number;
  /** Which head the arrow keys move from; without it, the map takes no keys. */
  current?(): number;
  /** `more` is said by the shift key. */
  choose(head: number, more: boolean): void;
  hover(head: number | null): void;
}

/** What stands out on a map. */
export interface Marks {
  chosen: number;
  hover: number | null;
  marked: readonly number[];
}

/** A number for each head, layers down and heads across; missing ones are hatched. */
export class HeadMap {
  readonly element: HTMLElement;
  readonly overlay = svg("svg", { class: "ik-cells" });
  private readonly layer = new Layer();
  private readonly labels = svg("g", { class: "ik-axis", "aria-hidden": "true" }, this.overlay);
  private readonly hatch = svg("path", { class: "ik-hatch" }, this.overlay);
  private readonly marks = svg("g", {}, this.overlay);
  private cell: readonly [number, number] = [1, 1];

  constructor(
    private readonly heads: Heads,
    private readonly options: Options,
    alert: Alert,
  ) {
    this.element = html("div", { class: "ik-stage" }, this.layer.element, this.overlay);
    Object.assign(this.layer.element.style, { left: `${MARGIN.left}px`, top: `${MARGIN.top}px` });
    setAll(this.overlay, { role: "img", "aria-label": options.description });
    this.overlay.addEventListener("pointermove", alert.guard((event: PointerEvent) => options.hover(this.headAt(event))));
    this.overlay.addEventListener("pointerleave", () => options.hover(null));
    this.overlay.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(event);
      if (head !== null) options.choose(head, event.shiftKey);
    }));
    if (!options.current) return;
    setAll(this.overlay, { role: "application", tabindex: 0, "aria-roledescription": "map of heads" });
    this.overlay.addEventListener("keydown", alert.guard((event: KeyboardEvent) => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      options.choose(heads.neighbour(options.current!(), ...move), false);
    }));
  }

  /** In pixels, with labels. */
  get width(): number {
    return MARGIN.left + this.heads.numbers.length * this.cell[0] + MARGIN.right;
  }

  /** Lay the cells out in a width. */
  resize(room: number): void {
    const { layers, numbers } = this.heads;
    const { maxCell, maxHeight } = this.options;
    // Cells of whole pixels leave no seams.
    const whole = (size: number): number => (size >= 3 ? Math.floor(size) : Math.max(size, 0.5));
    const across = whole(Math.min((room - MARGIN.left - MARGIN.right) / numbers.length, maxCell[0]));
    this.cell = [across, whole(Math.min(maxHeight / layers.length, maxCell[1], Math.max(across, 12)))];
    setAll(this.overlay, { width: this.width, height: MARGIN.top + layers.length * this.cell[1] + MARGIN.bottom });
    this.labels.replaceChildren();
    const label = (text: string, place: Record<string, string | number>): void => {
      svg("text", place, this.labels).textContent = text;
    };
    label("head", { x: MARGIN.left, y: 10 });
    label("layer", { x: MARGIN.left - 6, y: 23, "text-anchor": "end" });
    for (const index of ticks(numbers.length, this.cell[0], 18)) {
      label(String(numbers[index]), { x: MARGIN.left + (index + 0.5) * this.cell[0], y: MARGIN.top - 7, "text-anchor": "middle" });
    }
    for (const index of ticks(layers.length, this.cell[1], 12)) {
      const y = MARGIN.top + (index + 0.5) * this.cell[1];
      label(String(layers[index]), { x: MARGIN.left - 6, y, dy: "0.35em", "text-anchor": "end" });
    }
  }

  /** Colour the cells; where there is room they carry their number as `text`. */
  paint(colours: ColourScale, valueOf: (head: number) => number, text: (value: number) => string): void {
    const [width, height] = this.cell;
    const draw = this.layer.begin(width * this.heads.numbers.length, height * this.heads.layers.length);
    // Naming a font has the page's styles computed then and there, so only where there is text to draw.
    if (this.numbered) Object.assign(draw, { textAlign: "center", textBaseline: "middle", font: "11px system-ui, sans-serif" });
    let hatch = "";
    for (let head = 0; head < this.heads.n; head++) {
      const value = valueOf(head);
      const { x, y, width: across, height: down } = this.box(head);
      if (Number.isNaN(value)) {
        hatch += `M${x},${y + down}L${x + across},${y}`;
        continue;
      }
      draw.fillStyle = colours.css(value);
      draw.fillRect(x - MARGIN.left, y - MARGIN.top, across, down);
      if (!this.numbered) continue;
      draw.fillStyle = colours.ink(value);
      draw.fillText(text(value), x - MARGIN.left + across / 2, y - MARGIN.top + down / 2);
    }
    this.hatch.setAttribute("d", hatch);
  }

  mark({ chosen, hover, marked }: Marks): void {
    this.marks.replaceChildren();
    const [width, height] = this.cell;
    const r = Math.min(Math.max(Math.min(width, height) / 7, 1.2), 3.5);
    for (const head of marked) {
      const { x, y, width: across, height: down } = this.box(head);
      // Where cells carry numbers, a mark stands in the corner.
      const [cx, cy] = this.numbered ? [x + across - r - 3, y + r + 3] : [x + across / 2, y + down / 2];
      svg("circle", { class: "ik-cell-marked", cx, cy, r }, this.marks);
    }
    if (hover !== null) svg("rect", { class: "ik-cell-hover", ...this.box(hover) }, this.marks);
    svg("rect", { class: "ik-cell-casing", ...this.box(chosen) }, this.marks);
    svg("rect", { class: "ik-cell-chosen", ...this.box(chosen) }, this.marks);
    this.overlay.style.cursor = hover === null ? "" : "pointer";
  }

  private get numbered(): boolean {
    return this.cell[0] >= NUMBER_SIZE[0] && this.cell[1] >= NUMBER_SIZE[1];
  }

  private box(head: number): { x: number; y: number; width: number; height: number } {
    const [width, height] = this.cell;
    const gap = width >= ROOMY ? 1 : 0;
    const [x, y] = [(head % this.heads.numbers.length) * width, this.heads.layerIndex(head) * height];
    return { x: MARGIN.left + x, y: MARGIN.top + y, width: width - gap, height: Math.max(height - gap, 0.5) };
  }

  private headAt(event: MouseEvent): number | null {
    const { layers, numbers } = this.heads;
    const [x, y] = pointer(event, this.overlay);
    const [column, row] = [Math.floor((x - MARGIN.left) / this.cell[0]), Math.floor((y - MARGIN.top) / this.cell[1])];
    const inside = column >= 0 && column < numbers.length && row >= 0 && row < layers.length;
    return inside ? row * numbers.length + column : null;
  }
}

/** Indices to label, at a step of 1, 2, 5, 10, …, so that each label has `room` pixels. */
function ticks(n: number, cell: number, room: number): number[] {
  let step = 1;
  for (let power = 1; step * cell < room; power *= 10) {
    step = [1, 2, 5].map((digit) => digit * power).find((one) => one * cell >= room) ?? 10 * power;
  }
  return Array.from({ length: Math.ceil(n / step) }, (_, index) => index * step);
}
