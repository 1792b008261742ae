import type { Alert } from "../common/alert";
import type { ColourScale } from "../common/colours";
import { html, pointer, setAll, svg } from "../common/dom";
import type { Heads } from "../common/heads";
import { MOVES } from "../common/keys";

const MARGIN = { top: 2, right: 2, bottom: 27, left: 34 };
const [MIN_CELL, MAX_CELL] = [3, 28];
/** A grid is at most this high, and by default this wide. */
const [MAX_WIDTH, MAX_HEIGHT] = [204, 300];
/** Cells of this size have gaps and hatching. */
const ROOMY = 6;

interface Options {
  description: string;
  /** Arrow keys move the choice on this grid. */
  focusable: boolean;
  maxWidth?: number;
  choose(head: number): void;
  hover(head: number | null): void;
}

/** A number per head as a map, layers down and heads across; missing ones are hatched. */
export class HeadGrid {
  readonly element: HTMLElement;
  /** In pixels, with labels. */
  readonly width: number;
  private readonly canvas = html("canvas", { class: "ik-canvas" });
  private readonly overlay = svg("svg", { class: "ik-overlay ik-grid-overlay" });
  private readonly labels = svg("g", { class: "ik-axis", "aria-hidden": "true" }, this.overlay);
  private readonly hatch = svg("path", { class: "ik-hatch" }, this.overlay);
  private readonly marks = svg("path", { class: "ik-cell-mark" }, this.overlay);
  private readonly hovered = svg("rect", { class: "ik-cell-hover" }, this.overlay);
  private readonly chosen = svg("rect", { class: "ik-cell-chosen" }, this.overlay);
  private readonly cell: number;

  constructor(
    private readonly heads: Heads,
    private readonly options: Options,
    alert: Alert,
  ) {
    const { layers, numbers } = heads;
    const room = Math.min((options.maxWidth ?? MAX_WIDTH) / numbers.length, MAX_HEIGHT / layers.length);
    this.cell = Math.min(Math.max(Math.floor(room), MIN_CELL), MAX_CELL);
    const [width, height] = [numbers.length * this.cell, layers.length * this.cell];
    setAll(this.overlay, { width: width + MARGIN.left + MARGIN.right, height: height + MARGIN.top + MARGIN.bottom });
    setAll(this.overlay, { role: options.focusable ? "application" : "img", "aria-label": options.description });
    this.canvas.style.cssText = `left:${MARGIN.left}px;top:${MARGIN.top}px;width:${width}px;height:${height}px`;
    this.width = width + MARGIN.left + MARGIN.right;
    this.element = html("div", { class: "ik-head-grid" }, this.canvas, this.overlay);
    this.drawLabels();
    this.overlay.addEventListener("pointermove", alert.guard((event: PointerEvent) => options.hover(this.at(event))));
    this.overlay.addEventListener("pointerleave", () => options.hover(null));
    this.overlay.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.at(event);
      if (head !== null) options.choose(head);
    }));
  }

  /** Let arrow keys move the choice from `current()`. */
  takeKeys(current: () => number, alert: Alert): void {
    setAll(this.overlay, { tabindex: 0, "aria-roledescription": "map of heads" });
    this.overlay.addEventListener("keydown", alert.guard((event: KeyboardEvent) => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      this.options.choose(this.heads.neighbour(current(), ...move));
    }));
  }

  paint(colours: ColourScale, valueOf: (head: number) => number): void {
    const { cell, heads } = this;
    const gap = cell >= ROOMY ? 1 : 0;
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(heads.numbers.length * cell * ratio);
    this.canvas.height = Math.round(heads.layers.length * cell * ratio);
    const draw = this.canvas.getContext("2d")!;
    draw.scale(ratio, ratio);
    let hatch = "";
    for (let head = 0; head < heads.n; head++) {
      const [x, y] = this.place(head);
      const value = valueOf(head);
      if (Number.isNaN(value)) {
        hatch += `M${MARGIN.left + x},${MARGIN.top + y + cell}l${cell},${-cell}`;
        continue;
      }
      draw.fillStyle = colours.css(value);
      draw.fillRect(x, y, cell - gap, cell - gap);
    }
    this.hatch.setAttribute("d", hatch);
  }

  point(chosen: number, hover: number | null): void {
    this.frame(this.chosen, chosen);
    this.frame(this.hovered, hover);
    this.overlay.style.cursor = hover === null ? "" : "pointer";
  }

  /** Mark heads with a dot; dots are told apart on any colour by their rim. */
  mark(marked: Iterable<number>): void {
    let path = "";
    const radius = Math.max(this.cell / 7, 1.2);
    for (const head of marked) {
      const [x, y] = this.place(head);
      const gap = this.cell >= ROOMY ? 1 : 0;
      const [cx, cy] = [MARGIN.left + x + (this.cell - gap) / 2, MARGIN.top + y + (this.cell - gap) / 2];
      path += `M${cx - radius},${cy}a${radius},${radius} 0 1 0 ${2 * radius},0a${radius},${radius} 0 1 0 ${-2 * radius},0`;
    }
    this.marks.setAttribute("d", path);
  }

  private place(head: number): [number, number] {
    return [(head % this.heads.numbers.length) * this.cell, this.heads.layerIndex(head) * this.cell];
  }

  private frame(rectangle: SVGRectElement, head: number | null): void {
    rectangle.style.display = head === null ? "none" : "";
    if (head === null) return;
    const [x, y] = this.place(head);
    const side = this.cell - (this.cell >= ROOMY ? 1 : 0);
    setAll(rectangle, { x: MARGIN.left + x, y: MARGIN.top + y, width: side, height: side });
  }

  private at(event: MouseEvent): number | null {
    const [x, y] = pointer(event, this.overlay);
    const [number, layer] = [Math.floor((x - MARGIN.left) / this.cell), Math.floor((y - MARGIN.top) / this.cell)];
    const { layers, numbers } = this.heads;
    const inside = number >= 0 && layer >= 0 && number < numbers.length && layer < layers.length;
    return inside ? layer * numbers.length + number : null;
  }

  private drawLabels(): void {
    const { layers, numbers } = this.heads;
    const { left, top } = MARGIN;
    const [width, height] = [numbers.length * this.cell, layers.length * this.cell];
    const write = (text: string, place: Record<string, string | number>): void => {
      svg("text", { "text-anchor": "middle", ...place }, this.labels).textContent = text;
    };
    for (const index of ticks(numbers.length, this.cell, 18)) {
      write(String(numbers[index]), { x: left + (index + 0.5) * this.cell, y: top + height + 12 });
    }
    for (const index of ticks(layers.length, this.cell, 13)) {
      write(String(layers[index]), { x: left - 5, y: top + (index + 0.5) * this.cell + 3.5, "text-anchor": "end" });
    }
    write("head", { x: left + width / 2, y: top + height + 24 });
    write("layer", { transform: `translate(8 ${top + height / 2}) rotate(-90)` });
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
