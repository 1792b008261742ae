import { scaleLinear } from "d3-scale";
import type { Alert } from "./alert";
import { setAll, svg } from "./dom";
import { Frame } from "./frame";
import type { Heads } from "./heads";
import type { Marks } from "./head_map";
import { nearestWithin } from "./nearest";
import { path } from "./path";
import { NO_PREFERENCE } from "./scale_bar";
import { themeOf } from "./theme";

const HEIGHT = 280;
const MARGIN = { top: 10, right: 16, bottom: 42, left: 62 };
/** With more heads than these the dots are smaller. */
const MANY = 64;
const [SMALL, RADIUS, CHOSEN_RADIUS, RING_RADIUS, CLOUD_RADIUS] = [3, 4.5, 6.5, 8, 1.6];
const REACH = 18;
/** A name's height, and its width for each character, a little more than the font has. */
const [NAME_HEIGHT, CHARACTER] = [14, 7.6];

type Place = readonly [number, number];

interface Options {
  description: string;
  choose(head: number, more: boolean): void;
  hover(head: number | null): void;
}

export interface Axis {
  title: string;
  /** From the least to the greatest that must be seen. */
  extent: readonly [number, number];
  threshold?: number | undefined;
  /** Where a head lies that prefers no token. */
  noPreference?: number | null | undefined;
}

export interface Dots {
  /** Both scores of a head. */
  at(head: number): Place;
  colour(head: number): string;
  /** Whether dots have a rim: weak colours of a scale are near the ground's. */
  rimmed: boolean;
  /** Dots behind, of no head: what models without structure score. */
  cloud?: Iterable<Place>;
}

/** Two scores against each other, a dot for each head. */
export class HeadScatter {
  private readonly frame: Frame;
  private readonly x = scaleLinear();
  private readonly y = scaleLinear();
  private readonly zeros: SVGPathElement;
  private readonly thresholds: SVGGElement;
  private readonly trail: SVGPathElement;
  private readonly rings: SVGGElement;
  private readonly chosen: SVGCircleElement;
  private readonly names: SVGGElement;
  private places: (Place | null)[] = [];
  private colour: (head: number) => string = () => "";

  constructor(
    body: HTMLElement,
    private readonly heads: Heads,
    private readonly root: HTMLElement,
    { description, choose, hover }: Options,
    alert: Alert,
  ) {
    this.frame = new Frame(body, description, HEIGHT, MARGIN);
    const { plot, front, svg: surface } = this.frame;
    this.zeros = svg("path", { class: "ik-zero" }, plot);
    this.thresholds = svg("g", {}, plot);
    this.trail = svg("path", { class: "ik-trail" }, plot);
    this.rings = svg("g", {}, plot);
    this.chosen = svg("circle", { class: "ik-dot-chosen", r: CHOSEN_RADIUS }, plot);
    this.names = svg("g", {}, front);
    surface.addEventListener("pointermove", alert.guard((event: PointerEvent) => hover(this.headAt(event))));
    surface.addEventListener("pointerleave", () => hover(null));
    surface.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(event);
      if (head !== null) choose(head, event.shiftKey);
    }));
  }

  /** Draw the axes in a width, by default the one that was there. */
  drawAxes(across: Axis, up: Axis, outerWidth = this.frame.outerWidth): void {
    this.frame.resize(outerWidth);
    const { width, height } = this.frame;
    this.x.domain(across.extent).nice(5).range([0, width]);
    this.y.domain(up.extent).nice(5).range([height, 0]);
    const xTicks = { values: this.x.ticks(Math.min(8, width / 60)), text: this.x.tickFormat(6) };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 5, grid: true, xTitle: across.title, yTitle: up.title });
    this.zeros.setAttribute("d", `M0,${this.y(0)}H${width}M${this.x(0)},0V${height}`);
    this.thresholds.replaceChildren();
    const line = (ends: Record<string, number>): void => void svg("line", { class: "ik-threshold", ...ends }, this.thresholds);
    for (const [axis, isAcross] of [[across, true], [up, false]] as const) {
      if (typeof axis.noPreference !== "number") continue;
      const at = (isAcross ? this.x : this.y)(axis.noPreference);
      const ends = isAcross ? { x1: at, x2: at, y1: 0, y2: height } : { x1: 0, x2: width, y1: at, y2: at };
      svg("line", { class: "ik-neutral", ...ends }, this.thresholds);
      const place = isAcross ? { transform: `translate(${at - 4},4) rotate(-90)` } : { x: width, y: at - 4 };
      svg("text", { class: "ik-neutral-name ik-halo", "text-anchor": "end", ...place }, this.thresholds).textContent = NO_PREFERENCE;
    }
    if (across.threshold !== undefined) line({ x1: this.x(across.threshold), x2: this.x(across.threshold), y1: 0, y2: height });
    if (up.threshold !== undefined) line({ x1: 0, x2: width, y1: this.y(up.threshold), y2: this.y(up.threshold) });
  }

  /** Put a dot for each head on the canvas. */
  paint({ at, colour, rimmed, cloud }: Dots): void {
    this.places = Array.from({ length: this.heads.n }, (_, head) => this.place(at(head)));
    this.colour = colour;
    const draw = this.frame.beginLayer();
    const grey = themeOf(this.root) === "dark" ? "#9aa5b1" : "#5b6673";
    const disc = ([x, y]: Place, radius: number): void => {
      draw.beginPath();
      draw.arc(x, y, radius, 0, 2 * Math.PI);
      draw.fill();
    };
    Object.assign(draw, { fillStyle: grey, globalAlpha: 0.35 });
    for (const scores of cloud ?? []) {
      const place = this.place(scores);
      if (place) disc(place, CLOUD_RADIUS);
    }
    Object.assign(draw, { strokeStyle: grey, lineWidth: 0.75, globalAlpha: rimmed ? 0.95 : 0.65 });
    const radius = this.heads.n > MANY ? SMALL : RADIUS;
    for (const [head, place] of this.places.entries()) {
      if (!place) continue;
      draw.fillStyle = colour(head);
      disc(place, radius);
      if (rimmed) draw.stroke();
    }
    draw.globalAlpha = 1;
  }

  /** Where a head has been, as its scores, in a colour. */
  drawTrail(scores: Iterable<Place>, colour: string): void {
    this.trail.style.stroke = colour;
    this.trail.setAttribute("d", path(Array.from(scores, (each) => this.place(each))));
  }

  /** Bring heads out: names that would lie on those before them are left out, but for the chosen and the hovered head's. */
  mark({ chosen, hover, marked }: Marks): void {
    const place = this.places[chosen];
    this.chosen.style.display = place ? "" : "none";
    if (place) setAll(this.chosen, { cx: place[0].toFixed(2), cy: place[1].toFixed(2) });
    this.chosen.style.fill = this.colour(chosen);
    this.rings.replaceChildren();
    for (const head of marked) {
      const at = this.places[head];
      if (at) svg("circle", { class: "ik-ring", r: RING_RADIUS, cx: at[0].toFixed(2), cy: at[1].toFixed(2) }, this.rings);
    }
    this.names.replaceChildren();
    const taken: Place[][] = [];
    for (const head of new Set([chosen, ...(hover === null ? [] : [hover]), ...marked])) this.putName(head, head === chosen, head === hover, taken);
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
  }

  private place([x, y]: Place): Place | null {
    const place = [this.x(x), this.y(y)] as const;
    return place.every(Number.isFinite) ? place : null;
  }

  /** To the right of a dot, else to its left, above it or below it. */
  private putName(head: number, strong: boolean, hovered: boolean, taken: Place[][]): void {
    const place = this.places[head];
    if (!place) return;
    const name = this.heads.name(head);
    const [width, away] = [name.length * CHARACTER, RING_RADIUS + 4];
    const [x, y] = place;
    const starts = [[x + away, y], [x - away - width, y], [x - width / 2, y - away - 4], [x - width / 2, y + away + 4]] as const;
    const boxes = starts.map(([left, middle]): Place[] => [[left, middle - NAME_HEIGHT / 2], [left + width, middle + NAME_HEIGHT / 2]]);
    const fits = ([low, high]: Place[]): boolean =>
      low![0] >= -MARGIN.left && high![0] <= this.frame.width + MARGIN.right && low![1] >= -MARGIN.top && high![1] <= this.frame.height + NAME_HEIGHT;
    const free = (box: Place[]): boolean => taken.every((other) => !overlap(box, other));
    const best = boxes.findIndex((box) => fits(box) && free(box));
    // There is always room for the first; what is pointed at is named in any case.
    if (best < 0 && !strong && !hovered) return;
    const [[left, top], [right]] = boxes[Math.max(best, 0)] as [Place, Place];
    taken.push(boxes[Math.max(best, 0)]!);
    const kind = `ik-head-name ik-halo ${strong ? "ik-strong" : ""}`;
    const text = svg("text", { class: kind, x: (left + right) / 2, y: top + NAME_HEIGHT / 2, dy: "0.35em", "text-anchor": "middle" }, this.names);
    text.textContent = name;
  }

  private headAt(event: MouseEvent): number | null {
    const [x, y] = this.frame.place(event);
    return nearestWithin(REACH, this.places.length, (head) => {
      const place = this.places[head];
      return place ? Math.hypot(place[0] - x, place[1] - y) : NaN;
    });
  }
}

function overlap([low, high]: Place[], [otherLow, otherHigh]: Place[]): boolean {
  return low![0] < otherHigh![0] && otherLow![0] < high![0] && low![1] < otherHigh![1] && otherLow![1] < high![1];
}
