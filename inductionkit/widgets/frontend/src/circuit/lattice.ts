import { setAll, svg } from "../common/dom";
import type { Circuit } from "./data";
import { MARGIN, type Places } from "./places";

/** What stands behind a circuit: a dot for each head that takes no part, and the numbers of the layers. */
export class Lattice {
  readonly element = svg("g", { "aria-hidden": "true" });
  private readonly dots = svg("path", { class: "ik-lattice" }, this.element);
  private readonly labels = svg("g", { class: "ik-axis" }, this.element);

  constructor(private readonly circuit: Circuit) {}

  draw(places: Places): void {
    const { nLayers, nHeads, nodes } = this.circuit.header;
    const nodesIn = new Set(nodes.map(([layer]) => layer));
    let dots = "";
    for (let layer = 0; layer < nLayers; layer++) {
      for (let head = 0; head < nHeads; head++) {
        const [x, y] = [places.column(head), places.layers[layer]!];
        if (!nodesIn.has(layer) || !places.isTaken(x, y)) dots += `M${x.toFixed(1)},${y.toFixed(1)}h0`;
      }
    }
    this.dots.setAttribute("d", dots);
    this.labels.replaceChildren();
    this.label("layer", 12);
    for (let first = 0; first < nLayers; first++) {
      let last = first;
      if (!nodesIn.has(first)) while (last + 1 < nLayers && !nodesIn.has(last + 1)) last += 1;
      const y = (places.layers[first]! + places.layers[last]!) / 2;
      const text = this.label(first === last ? String(first) : `${first}–${last}`, y + 4);
      if (nodesIn.has(first)) text.classList.add("ik-layer-taking-part");
      first = last;
    }
  }

  private label(text: string, y: number): SVGTextElement {
    const label = svg("text", {}, this.labels);
    setAll(label, { x: MARGIN.left - 12, y, "text-anchor": "end" });
    label.textContent = text;
    return label;
  }
}
