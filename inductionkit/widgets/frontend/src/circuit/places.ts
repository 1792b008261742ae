import type { Circuit } from "./data";

export const MARGIN = { top: 30, right: 4, bottom: 28, left: 44 };
/** A head with its label takes this much at least, of which so much lies left of its middle. */
const [SLOT, LEAD] = [97, 22];
const [MIN_ROW, MAX_ROW, HEIGHT] = [52, 84, 680];
/** Where edges enter a node, from its middle: keys left, values right. */
const PORTS: Record<string, number> = { K: -4.5, Q: 0, V: 4.5 };
/** Sideways bends that an edge may take, in slots, around what is in its way; and how many points of it are looked at. */
const BENDS = [0, -0.3, 0.3, -0.6, 0.6, -0.95, 0.95];
const SAMPLES = 18;

export type Place = readonly [number, number];

/** Pixels for nodes, layers and edges in a given width. */
export class Places {
  readonly height: number;
  readonly slot: number;
  readonly row: number;
  /** The radius of the largest node. */
  readonly radius: number;
  readonly nodes: Place[];
  readonly layers: number[];
  private readonly capacity: number;
  private readonly top: number;

  constructor(
    private readonly circuit: Circuit,
    readonly width: number,
  ) {
    const room = width - MARGIN.left - MARGIN.right;
    const [least, most] = circuit.header.capacities;
    this.capacity = Math.min(Math.max(Math.floor(room / SLOT), least), most);
    this.slot = room / this.capacity;
    const { x, y, layers } = circuit.layout(this.capacity);
    const rows = Math.max(...y, ...layers, 0);
    this.row = Math.min(Math.max(HEIGHT / (rows + 1), MIN_ROW), MAX_ROW);
    this.radius = Math.min(0.29 * this.row, 18);
    this.top = MARGIN.top + rows * this.row;
    this.height = this.top + MARGIN.bottom;
    this.nodes = Array.from(x, (slots, node) => [this.x(slots), this.y(y[node]!)] as const);
    this.layers = Array.from(layers, (rows) => this.y(rows));
  }

  /** The middle of a column of the lattice. */
  column(head: number): number {
    const { nHeads } = this.circuit.header;
    return this.x(nHeads > 1 ? (head / (nHeads - 1)) * (this.capacity - 1) : (this.capacity - 1) / 2);
  }

  /** How far a node's label reaches to the right of it. */
  get labelled(): number {
    return this.slot - LEAD;
  }

  /** Whether a node or its label covers a place. */
  isTaken(x: number, y: number): boolean {
    return this.nodes.some(([left, top]) => Math.abs(top - y) < this.radius + 2 && x > left - LEAD && x < left + this.labelled);
  }

  /** A curve from the top of the sender to the bottom of the receiver; it lies still whatever the size of both. */
  edge(edge: number): { path: string; middle: Place } {
    const [from, to] = this.circuit.header.edges[edge]!;
    const start = this.nodes[from]!;
    const end: Place = [this.nodes[to]![0] + PORTS[this.circuit.side(edge)]!, this.nodes[to]![1] + 2];
    const others = this.nodes.filter((_, node) => node !== from && node !== to);
    const reach = Math.max((start[1] - end[1]) * 0.5, 24);
    const curves = BENDS.map((bend) => {
      const [low, high]: Place[] = [[start[0] + bend * this.slot, start[1] - reach], [end[0] + bend * this.slot, end[1] + reach]];
      return [start, low!, high!, end] as const;
    });
    const costs = curves.map((curve, index) => Math.abs(BENDS[index]!) + this.cost(curve, others));
    const [a, b, c, d] = curves[costs.indexOf(Math.min(...costs))]!;
    const pair = ([x, y]: Place): string => `${x.toFixed(1)},${y.toFixed(1)}`;
    return { path: `M${pair(a)}C${pair(b)} ${pair(c)} ${pair(d)}`, middle: along([a, b, c, d], 0.5) };
  }

  /** How many nodes a curve runs over, and, weighing less, how many labels; leaving the room costs more than any. */
  private cost(curve: readonly [Place, Place, Place, Place], others: readonly Place[]): number {
    const points = Array.from({ length: SAMPLES }, (_, index) => along(curve, (index + 1) / (SAMPLES + 1)));
    const near = this.radius + 5;
    const isOut = ([x]: Place): boolean => x < MARGIN.left || x > this.width - MARGIN.right;
    let cost = points.some(isOut) ? 1e3 : 0;
    for (const [x, y] of others) {
      if (points.some((point) => Math.hypot(point[0] - x, point[1] - y) < near)) cost += 1;
      else if (points.some((point) => point[0] > x && point[0] < x + this.labelled - 8 && Math.abs(point[1] - y) < 14)) cost += 0.4;
    }
    return cost;
  }

  private x(slots: number): number {
    return MARGIN.left + LEAD + slots * this.slot;
  }

  private y(rows: number): number {
    return this.top - rows * this.row;
  }
}

/** A place on a cubic curve, `part` of the way from 0 to 1. */
function along(curve: readonly [Place, Place, Place, Place], part: number): Place {
  const rest = 1 - part;
  const weights = [rest ** 3, 3 * rest ** 2 * part, 3 * rest * part ** 2, part ** 3];
  return [0, 1].map((axis) => curve.reduce((sum, place, index) => sum + weights[index]! * place[axis]!, 0)) as unknown as Place;
}
