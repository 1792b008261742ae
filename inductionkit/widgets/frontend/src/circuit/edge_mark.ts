import { setAll, svg } from "../common/dom";
import type { Circuit } from "./data";
import { minus, roleClass } from "./marks";
import { shareWidth, sideDash } from "./strokes";

/** An edge: a curve in its sender's colour and as wide as its share, with a sign on it where that is negative, and a wider one for the pointer. */
export class EdgeMark {
  readonly element = svg("g", { class: "ik-edge" });
  middle: readonly [number, number] = [0, 0];
  private readonly line = svg("path", { class: "ik-edge-line" });
  private readonly hit = svg("path", { class: "ik-edge-hit" });
  private readonly sign: SVGGElement;

  constructor(
    private readonly circuit: Circuit,
    readonly edge: number,
  ) {
    this.element.append(this.hit, this.line);
    this.sign = minus(this.element);
    const [from, to] = circuit.header.edges[edge]!;
    this.element.dataset.edge = `${circuit.name(from)} ${circuit.name(to)} ${circuit.side(edge)}`;
  }

  place({ path, middle }: { path: string; middle: readonly [number, number] }): void {
    for (const one of [this.line, this.hit]) one.setAttribute("d", path);
    this.sign.setAttribute("transform", `translate(${middle[0].toFixed(1)},${middle[1].toFixed(1)})`);
    this.middle = middle;
  }

  show(step: number): void {
    const share = this.circuit.share(step, this.edge);
    const here = Number.isFinite(share);
    this.element.classList.toggle("is-absent", !here);
    if (!here) return;
    const sender = this.circuit.role(step, this.circuit.header.edges[this.edge]![0]) ?? "";
    this.line.setAttribute("class", `ik-edge-line ${roleClass(sender)}${share < 0 ? " is-negative" : ""}`);
    const width = shareWidth(share);
    setAll(this.line, { "stroke-width": width.toFixed(2), "stroke-dasharray": sideDash(this.circuit.side(this.edge), width) });
    this.sign.style.display = share < 0 ? "" : "none";
    this.element.dataset.share = share.toFixed(3);
  }
}
