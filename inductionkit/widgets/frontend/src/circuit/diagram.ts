import type { Alert } from "../common/alert";
import { html, setAll, svg } from "../common/dom";
import { Card } from "./card";
import type { Circuit } from "./data";
import { EdgeMark } from "./edge_mark";
import { Lattice } from "./lattice";
import { NodeMark } from "./node_mark";
import { Places } from "./places";

/** What a diagram shows: a step, the chosen node, and the node that is pointed at. */
export interface Shown {
  step: number;
  chosen: number | null;
  hovered: number | null;
}

interface Hooks {
  choose(node: number): void;
  hover(node: number | null): void;
}

/** Heads as nodes, layers upwards, and curves from sender to receiver. Nothing moves from step to step. */
export class Diagram {
  readonly element: HTMLElement;
  private readonly svg = svg("svg", { class: "ik-circuit", role: "group", "aria-label": "Induction circuit. Arrow keys move between heads, Enter chooses one" });
  private readonly lattice: Lattice;
  private readonly nodes: NodeMark[];
  private readonly edges: EdgeMark[];
  private readonly card: Card;
  private places: Places | undefined;
  private shown: Shown = { step: 0, chosen: null, hovered: null };
  private edge: number | null = null;
  /** The node that is pointed at in this diagram, and not in another view. */
  private own: number | null = null;
  /** The node that the arrow keys stand at. */
  private at = 0;

  constructor(
    private readonly circuit: Circuit,
    private readonly hooks: Hooks,
    alert: Alert,
  ) {
    this.lattice = new Lattice(circuit);
    this.edges = circuit.header.edges.map((_, edge) => new EdgeMark(circuit, edge));
    this.nodes = circuit.header.nodes.map((_, node) => new NodeMark(circuit, node));
    this.card = new Card(circuit);
    // The widest lie lowest.
    const order = [...this.edges].sort((one, other) => circuit.extreme(other.edge).most - circuit.extreme(one.edge).most);
    this.svg.append(this.lattice.element, ...order.map(({ element }) => element), ...this.nodes.map(({ element }) => element));
    this.element = html("div", { class: "ik-stage ik-circuit-stage" }, this.svg as unknown as HTMLElement, this.card.element);
    for (const { edge, element } of this.edges) {
      element.addEventListener("pointerenter", alert.guard(() => this.pointAt(edge)));
      element.addEventListener("pointerleave", alert.guard(() => this.pointAt(null)));
    }
    for (const { node, element } of this.nodes) this.listen(node, element, alert);
  }

  draw(width: number): void {
    const places = new Places(this.circuit, width);
    this.places = places;
    setAll(this.svg, { width, height: places.height, viewBox: `0 0 ${width} ${places.height}` });
    this.lattice.draw(places);
    for (const mark of this.edges) mark.place(places.edge(mark.edge));
    for (const mark of this.nodes) mark.place(places.nodes[mark.node]!, places);
    this.mark();
    this.light();
  }

  show(shown: Shown): void {
    const before = this.shown;
    this.shown = shown;
    if (!this.places) return;
    if (shown.step !== before.step || shown.chosen !== before.chosen) this.mark();
    this.light();
  }

  /** What depends on the step and the chosen node. */
  private mark(): void {
    const { step, chosen } = this.shown;
    for (const mark of this.edges) mark.show(step);
    for (const mark of this.nodes) mark.show(step, mark.node === chosen);
    if (chosen !== null && !this.svg.matches(":focus-within")) this.at = chosen;
    if (this.circuit.nNodes && !this.isHere(this.at)) this.at = this.order.at(0) ?? 0;
    for (const mark of this.nodes) mark.element.setAttribute("tabindex", mark.node === this.at ? "0" : "-1");
  }

  private listen(node: number, element: SVGGElement, alert: Alert): void {
    element.addEventListener("pointerenter", alert.guard(() => this.hover(node)));
    element.addEventListener("pointerleave", alert.guard(() => this.hover(null)));
    element.addEventListener("click", alert.guard(() => this.hooks.choose(node)));
    element.addEventListener("focus", alert.guard(() => {
      this.at = node;
      if (element.matches(":focus-visible")) this.hover(node);
    }));
    element.addEventListener("blur", alert.guard(() => this.hover(null)));
    element.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.onKey(event, node)));
  }

  private onKey(event: KeyboardEvent, node: number): void {
    if (event.key === "Escape") this.hover(null);
    else if (event.key === "Enter") this.hooks.choose(node);
    const next = this.next(event.key, node);
    if (event.key === "Enter" || next !== undefined) event.preventDefault();
    if (next !== undefined) this.nodes[next]!.element.focus();
  }

  /** Left and right go through all heads, row by row; up and down to the nearest of the next row. */
  private next(key: string, node: number): number | undefined {
    const { order } = this;
    const index = order.indexOf(node);
    const far: Record<string, number> = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: order.length - 1 };
    if (key in far) return order[Math.min(Math.max(far[key]!, 0), order.length - 1)];
    const up = { ArrowUp: 1, ArrowDown: -1 }[key];
    if (!up) return undefined;
    const [x, y] = this.places!.nodes[node]!;
    const away = (other: number): number => {
      const [left, top] = this.places!.nodes[other]!;
      // A row further counts for more than any distance sideways.
      return up * (y - top) > 1 ? Math.abs(left - x) + 1e4 * Math.abs(y - top) : Infinity;
    };
    return order.filter((other) => away(other) < Infinity).sort((one, other) => away(one) - away(other))[0] ?? node;
  }

  /** The nodes of this step, row by row upwards, each row from left to right. */
  private get order(): number[] {
    const { nodes } = this.places!;
    const here = [...nodes.keys()].filter((node) => this.isHere(node));
    return here.sort((one, other) => nodes[other]![1] - nodes[one]![1] || nodes[one]![0] - nodes[other]![0]);
  }

  private isHere(node: number): boolean {
    return this.circuit.role(this.shown.step, node) !== null;
  }

  private hover(node: number | null): void {
    this.own = node;
    this.hooks.hover(node);
  }

  private pointAt(edge: number | null): void {
    this.edge = edge;
    this.light();
  }

  /** Bring out what is pointed at, with what it is joined to, and write its card. */
  private light(): void {
    const { step, hovered } = this.shown;
    const edge = this.edge !== null && Number.isFinite(this.circuit.share(step, this.edge)) ? this.edge : null;
    const node = edge === null && hovered !== null && this.isHere(hovered) ? hovered : null;
    this.svg.classList.toggle("is-spotlit", edge !== null || node !== null);
    const lit = new Set<number>(node === null ? [] : [node]);
    for (const mark of this.edges) {
      const [from, to] = this.circuit.header.edges[mark.edge]!;
      const on = mark.edge === edge || (node !== null && (from === node || to === node) && Number.isFinite(this.circuit.share(step, mark.edge)));
      mark.element.classList.toggle("is-lit", on);
      if (on) lit.add(from).add(to);
    }
    for (const mark of this.nodes) mark.element.classList.toggle("is-lit", lit.has(mark.node));
    if (edge === null && (node === null || node !== this.own)) return this.card.hide();
    if (node === null) this.card.showEdge(step, edge!);
    else this.card.showNode(step, node);
    const place = node === null ? this.edges[edge!]!.middle : this.places!.nodes[node]!;
    this.card.place(place, this.places!, [...lit].map((other) => this.places!.nodes[other]!));
  }
}
