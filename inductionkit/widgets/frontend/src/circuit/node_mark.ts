import { setAll, svg } from "../common/dom";
import type { Circuit } from "./data";
import { roleClass, shapeOf } from "./marks";
import type { Places } from "./places";
import { nodeLabel, nodeText } from "./words";

const [LEAST, UNSIZED, ABSENT, LABEL_GAP] = [6, 9, 1.6, 6];

/** A head: a shape for its role, as large as its effect, and its name and figure to the right. */
export class NodeMark {
  readonly element = svg("g", { class: "ik-node", role: "button", tabindex: -1 });
  private readonly hit = svg("rect", { class: "ik-node-hit" }, this.element);
  private readonly ring = svg("circle", { class: "ik-node-ring" }, this.element);
  private readonly mark = svg("path", { class: "ik-node-mark" }, this.element);
  private readonly name = svg("text", { class: "ik-node-name ik-halo" }, this.element);
  private readonly figure = svg("text", { class: "ik-node-figure ik-halo" }, this.element);
  private most = 1;

  constructor(
    private readonly circuit: Circuit,
    readonly node: number,
  ) {
    this.name.textContent = circuit.name(node);
    this.element.dataset.head = circuit.name(node);
    this.element.insertBefore(document.createTextNode(" "), this.figure);
  }

  place([x, y]: readonly [number, number], { radius, slot }: Places): void {
    this.most = radius;
    this.element.setAttribute("transform", `translate(${x.toFixed(1)},${y.toFixed(1)})`);
    setAll(this.hit, { x: -radius, y: -radius, width: Math.min(slot - 8, 92), height: 2 * radius });
  }

  show(step: number, chosen: boolean): void {
    const { circuit, node } = this;
    const role = circuit.role(step, node);
    const size = circuit.size(step, node);
    const known = Number.isFinite(size) ? Math.max(this.most * Math.sqrt(size), LEAST) : circuit.header.size ? LEAST : UNSIZED;
    const radius = role === null ? ABSENT : known;
    this.element.classList.toggle("is-absent", role === null);
    setAll(this.element, { "aria-label": nodeText(circuit, step, node), "aria-pressed": String(chosen), "data-role": role ?? "absent" });
    setAll(this.mark, { class: `ik-node-mark ${roleClass(role ?? "")}`, d: shapeOf(role ?? "") });
    this.mark.style.transform = `scale(${radius.toFixed(2)})`;
    setAll(this.ring, { r: (radius + 4.5).toFixed(1) });
    const figure = role === null ? "" : nodeLabel(circuit, step, node);
    const x = (radius + LABEL_GAP).toFixed(1);
    setAll(this.name, { x, y: figure ? -1.5 : 4 });
    setAll(this.figure, { x, y: 11.5 });
    this.figure.textContent = figure;
  }
}
