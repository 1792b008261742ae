/** Circuits as the browser reads them; the Python half is `_circuit_data.py`. */

import { extent, type Values } from "../common/arrays";

export interface CircuitHeader {
  nLayers: number;
  nHeads: number;
  /** Each node's layer and head, layer by layer. */
  nodes: [number, number][];
  /** Sender and receiver, by node, and the side that the edge enters at. */
  edges: [number, number, number][];
  roles: string[];
  sides: string[];
  figures: string[];
  /** What the label of each role shows: a figure, and the words before and after it. */
  labels: Record<string, [string | null, string, string]>;
  /** The figure that says how large a head is drawn. */
  size: string | null;
  capacities: [number, number];
  /** What the circuit is, in one sentence, at each step. */
  sentences: string[];
}

const ABSENT = 255;

/** A circuit at one or more steps. */
export class Circuit {
  /** The largest size at any step. */
  readonly largest: number;

  constructor(
    readonly header: CircuitHeader,
    private readonly arrays: ReadonlyMap<string, Values>,
  ) {
    const [low, high] = (header.size ? extent(this.array(header.size)) : null) ?? [0, 0];
    this.largest = Math.max(-low, high);
  }

  get nNodes(): number {
    return this.header.nodes.length;
  }

  name(node: number): string {
    return this.header.nodes[node]!.join(".");
  }

  side(edge: number): string {
    return this.header.sides[this.header.edges[edge]![2]]!;
  }

  /** A node's role at a step, null where it takes no part. */
  role(step: number, node: number): string | null {
    const role = this.array("role")[step * this.nNodes + node]!;
    return role === ABSENT ? null : this.header.roles[role]!;
  }

  figure(name: string, step: number, node: number): number {
    return this.array(name)[step * this.nNodes + node]!;
  }

  /** How large a node is beside the largest, 0 to 1; NaN where nothing says so. */
  size(step: number, node: number): number {
    const { size } = this.header;
    return size && this.largest ? Math.abs(this.figure(size, step, node)) / this.largest : NaN;
  }

  /** An edge's share at a step, NaN where there is none. */
  share(step: number, edge: number): number {
    return this.array("share")[step * this.header.edges.length + edge]!;
  }

  measured(step: number, edge: number): number {
    return this.array("measured")[step * this.header.edges.length + edge]!;
  }

  /** The largest magnitude of an edge's share at any step, and whether it is ever negative. */
  extreme(edge: number): { most: number; negative: boolean } {
    let [most, negative] = [0, false];
    for (let step = 0; step < this.header.sentences.length; step++) {
      const share = this.share(step, edge);
      if (Math.abs(share) > most) most = Math.abs(share);
      if (share < 0) negative = true;
    }
    return { most, negative };
  }

  /** The edges that a node has at a step, the largest share first. */
  edgesOf(step: number, node: number): { into: number[]; outOf: number[] } {
    const here = [...this.header.edges.keys()].filter((edge) => Number.isFinite(this.share(step, edge)));
    here.sort((one, other) => Math.abs(this.share(step, other)) - Math.abs(this.share(step, one)));
    const [from, to] = [0, 1].map((end) => here.filter((edge) => this.header.edges[edge]![end] === node));
    return { into: to!, outOf: from! };
  }

  /** Where nodes and layers are drawn with room for so many heads beside each other. */
  layout(capacity: number): { x: Values; y: Values; layers: Values } {
    const places = this.array(`layout ${capacity}`);
    const n = this.nNodes;
    return { x: places.subarray(0, n), y: places.subarray(n, 2 * n), layers: places.subarray(2 * n) };
  }

  private array(name: string): Values {
    return this.arrays.get(`circuit ${name}`)!;
  }
}
