import { pointer, setAll, svg } from "../common/dom";
import { nearestWithin } from "../common/nearest";
import { path } from "../common/path";
import type { Place } from "./history";
import { rotate, type Rotation } from "./rotation";

export interface Vector {
  /** What stands at the tip, and in `data-vector`. */
  name: string;
  place: Place;
  colour: string;
  emphasis: "none" | "strong" | "faint";
  named: boolean;
}

/** A polygon through tips, by their places in the list of vectors. */
export interface Face {
  corners: number[];
  colour: string;
}

/** A line between two tips, broken where the cosine is negative. */
export interface Link {
  from: number;
  to: number;
  cosine: number;
}

const MARGIN = 24;
const NAME_DISTANCE = 12;
const REACH = 16;
/** Seen from above: the first axis to the right, the second up. */
const FACING: Rotation = { azimuth: 0, elevation: Math.PI / 2 };
const CIRCLE = Array.from({ length: 73 }, (_, index) => (index / 72) * 2 * Math.PI);

/** Vectors from the origin, flat or in space, with a circle or a sphere of length 1 behind. */
export class VectorPlot {
  readonly svg: SVGSVGElement;
  private readonly ground: SVGGElement;
  private readonly marks: SVGGElement;
  private tips: [number, number][] = [];
  private scale = 1;
  private middle: [number, number] = [0, 0];

  constructor(
    parent: HTMLElement,
    description: string,
    private readonly spatial: boolean,
  ) {
    this.svg = svg("svg", { class: "ik-chart ik-vectors", role: "img", "aria-label": description }, parent);
    this.ground = svg("g", { class: "ik-sphere" }, this.svg);
    this.marks = svg("g", {}, this.svg);
  }

  /** `reach` is the length of the longest vector to come. */
  resize(width: number, height: number, reach: number, margin = MARGIN): void {
    setAll(this.svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    this.scale = (Math.min(width, height) / 2 - margin) / reach;
    this.middle = [width / 2, height / 2];
  }

  show(vectors: Vector[], faces: Face[], links: Link[], rotation: Rotation): void {
    const turned = vectors.map(({ place }) => rotate(place, this.spatial ? rotation : FACING));
    this.tips = turned.map((place) => this.at(place));
    this.drawGround(rotation);
    this.marks.replaceChildren();
    for (const face of faces) this.drawFace(face);
    for (const link of links) this.drawLink(link);
    const order = vectors.map((_, index) => index).filter((index) => this.tips[index]!.every(Number.isFinite));
    const rank = (index: number): number => (vectors[index]!.emphasis === "strong" ? 1e9 : turned[index]![2]);
    order.sort((one, other) => rank(one) - rank(other));
    for (const index of order) this.drawVector(vectors[index]!, turned[index]!, this.tips[index]!);
  }

  /** The vector whose tip lies nearest to the pointer, within reach. */
  vectorAt(event: MouseEvent): number | null {
    const [x, y] = pointer(event, this.svg);
    return nearestWithin(REACH, this.tips.length, (index) => Math.hypot(this.tips[index]![0] - x, this.tips[index]![1] - y));
  }

  private at([right, up]: Place): [number, number] {
    return [this.middle[0] + right * this.scale, this.middle[1] - up * this.scale];
  }

  private drawGround(rotation: Rotation): void {
    this.ground.replaceChildren();
    const [x, y] = this.middle;
    svg("circle", { cx: x, cy: y, r: this.scale }, this.ground);
    if (!this.spatial) {
      svg("path", { d: `M${x - this.scale},${y}h${2 * this.scale}M${x},${y - this.scale}v${2 * this.scale}` }, this.ground);
      return;
    }
    const circles: ((angle: number) => Place)[] = [
      (angle) => [Math.cos(angle), Math.sin(angle), 0],
      (angle) => [0, Math.cos(angle), Math.sin(angle)],
      (angle) => [Math.cos(angle), 0, Math.sin(angle)],
    ];
    for (const circle of circles) {
      const places = CIRCLE.map((angle) => rotate(circle(angle), rotation));
      for (const front of [false, true]) {
        const half = places.map((place) => (place[2] >= 0 === front ? this.at(place) : null));
        svg("path", { d: path(half), class: front ? "is-front" : "is-back" }, this.ground);
      }
    }
  }

  private drawFace({ corners, colour }: Face): void {
    const tips = corners.map((index) => this.tips[index]!);
    if (!tips.flat().every(Number.isFinite)) return;
    const shape = svg("polygon", { class: "ik-face", points: tips.map((tip) => tip.map((value) => value.toFixed(2)).join()).join(" ") }, this.marks);
    shape.style.fill = shape.style.stroke = colour;
  }

  private drawLink({ from, to, cosine }: Link): void {
    const line = path([this.tips[from]!, this.tips[to]!]);
    const shape = svg("path", { class: `ik-interference ${cosine < 0 ? "is-negative" : "is-positive"}`, d: line }, this.marks);
    shape.style.strokeWidth = `${(1 + 3 * Math.abs(cosine)).toFixed(2)}px`;
  }

  private drawVector({ name, colour, emphasis, named }: Vector, [, , depth]: Place, [x, y]: [number, number]): void {
    const group = svg("g", { class: `ik-vector is-${emphasis}`, "data-vector": name }, this.marks);
    group.style.color = colour;
    if (this.spatial && emphasis === "none") group.style.opacity = String(0.45 + 0.55 * Math.min(Math.max((depth + 1) / 2, 0), 1));
    const [fromX, fromY] = this.middle;
    svg("line", { x1: fromX, y1: fromY, x2: x.toFixed(2), y2: y.toFixed(2) }, group);
    svg("circle", { cx: x.toFixed(2), cy: y.toFixed(2), r: emphasis === "strong" ? 5.5 : 4 }, group);
    if (!named) return;
    const length = Math.hypot(x - fromX, y - fromY) || 1;
    const [awayX, awayY] = [((x - fromX) / length) * NAME_DISTANCE, ((y - fromY) / length) * NAME_DISTANCE];
    const text = svg("text", { x: (x + awayX).toFixed(2), y: (y + awayY).toFixed(2), dy: "0.35em", "text-anchor": "middle" }, group);
    text.textContent = name;
  }
}
