/** Heads by number: counted through the layers, layer index × heads + head index. */
export class Heads {
  readonly n: number;

  constructor(
    readonly layers: number[],
    readonly numbers: number[],
  ) {
    this.n = layers.length * numbers.length;
  }

  name(head: number): string {
    return this.pair(head).join(".");
  }

  layerIndex(head: number): number {
    return Math.floor(head / this.numbers.length);
  }

  pair(head: number): [number, number] {
    return [this.layers[this.layerIndex(head)]!, this.numbers[head % this.numbers.length]!];
  }

  /** The head of a (layer, head) pair, or undefined if there is none such. */
  of(pair: unknown): number | undefined {
    if (!Array.isArray(pair)) return undefined;
    const [layer, head] = [this.layers.indexOf(pair[0]), this.numbers.indexOf(pair[1])];
    return layer < 0 || head < 0 ? undefined : layer * this.numbers.length + head;
  }

  /** The neighbour of a head in the grid of layers and heads. */
  neighbour(head: number, down: number, right: number): number {
    const last = [this.layers.length - 1, this.numbers.length - 1] as const;
    const layer = Math.min(Math.max(this.layerIndex(head) + down, 0), last[0]);
    const number = Math.min(Math.max((head % this.numbers.length) + right, 0), last[1]);
    return layer * this.numbers.length + number;
  }
}
