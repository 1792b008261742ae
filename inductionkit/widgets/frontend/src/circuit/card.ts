import { html } from "../common/dom";
import type { Circuit } from "./data";
import { roleName } from "./marks";
import type { Place, Places } from "./places";
import { edgeFigures, edgeOf, nodeFigures } from "./words";

const [WIDTH, GAP, MAX_EDGES] = [232, 12, 5];

/** What is known of the node or edge that is pointed at. Screen readers have it from the node's own name. */
export class Card {
  readonly element = html("div", { class: "ik-card", "aria-hidden": "true" });

  constructor(private readonly circuit: Circuit) {
    this.hide();
  }

  hide(): void {
    this.element.hidden = true;
  }

  showNode(step: number, node: number): void {
    const { circuit } = this;
    const { into, outOf } = circuit.edgesOf(step, node);
    this.write(circuit.name(node), roleName(circuit.role(step, node) ?? ""), [
      this.rows(nodeFigures(circuit, step, node)),
      ...this.edges("from", step, into, 0),
      ...this.edges("to", step, outOf, 1),
    ]);
  }

  showEdge(step: number, edge: number): void {
    const { circuit } = this;
    const [from, to] = circuit.header.edges[edge]!;
    const side: Record<string, string> = { K: "its keys", Q: "its queries", V: "its values" };
    const title = `${circuit.name(from)} → ${circuit.name(to)}`;
    this.write(title, `${circuit.side(edge)}: ${side[circuit.side(edge)]}`, [this.rows(edgeFigures(circuit, step, edge))]);
  }

  /** Near a place, where it hides the fewest of `clear`: the heads that are brought out, with their labels. */
  place([x, y]: Place, { radius, labelled, width, height }: Places, clear: readonly Place[]): void {
    const own = this.element.offsetHeight;
    const lefts = [x + labelled, x - radius - GAP - WIDTH, x - WIDTH / 2, 0, width - WIDTH];
    const tops = [y - own / 2, y - radius - GAP - own, y + radius + GAP, 0, height - own];
    let [best, least] = [[0, 0] as Place, Infinity];
    for (const wanted of lefts.flatMap((left) => tops.map((top) => [left, top] as const))) {
      const left = Math.max(Math.min(wanted[0], width - WIDTH), 0);
      const top = Math.max(Math.min(wanted[1], height - own), 0);
      const hides = ([from, middle]: Place): boolean =>
        from + labelled > left && from - radius < left + WIDTH && middle + radius > top && middle - radius < top + own;
      const away = Math.hypot(left + WIDTH / 2 - x, top + own / 2 - y);
      const cost = clear.filter(hides).length + (hides([x, y]) ? 2 : 0) + away / 600;
      if (cost < least) [best, least] = [[left, top], cost];
    }
    this.element.style.transform = `translate(${best[0].toFixed(0)}px,${best[1].toFixed(0)}px)`;
  }

  private write(title: string, about: string, parts: HTMLElement[]): void {
    this.element.replaceChildren(html("p", {}, html("strong", {}, title), " ", about), ...parts);
    this.element.hidden = false;
  }

  private edges(word: string, step: number, edges: number[], end: 0 | 1): HTMLElement[] {
    if (!edges.length) return [];
    const rows = edges.slice(0, MAX_EDGES).map((edge) => {
      return edgeOf(this.circuit, step, edge, this.circuit.header.edges[edge]![end]);
    });
    const more = edges.length - rows.length;
    return [html("p", { class: "ik-card-title" }, word), this.rows(more ? [...rows, [`and ${more} more`, ""]] : rows)];
  }

  private rows(rows: [string, string][]): HTMLElement {
    return html("dl", {}, ...rows.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
  }
}
