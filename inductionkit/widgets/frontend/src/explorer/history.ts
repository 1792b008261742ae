/** A history as the browser reads it; the Python half is `_phase_data.py`. */

import { type Entry, readArrays, type Values } from "../common/arrays";

export interface Header {
  arrays: Entry[];
  elapsed: "tokens" | "steps";
  layers: number[];
  heads: number[];
  texts: string[];
  tokens: string[][];
  patternScale: number;
  window: [number, number] | null;
  model: string;
  control: string | null;
  iclPositions: [number, number] | null;
}

export interface Curve {
  x: Values;
  y: Values;
}

const hasData = (values: Values | undefined): values is Values => values?.some(Number.isFinite) ?? false;

/** One run. A head is one number here, counted through the layers: layer index × heads + head index. */
export class History {
  readonly steps: Values;
  readonly elapsed: Values;
  readonly nHeads: number;
  readonly prefix: Values | undefined;
  readonly copying: Values | undefined;
  private readonly arrays: Map<string, Values>;
  private readonly pattern: Values | undefined;
  private readonly packedSize: number;

  constructor(
    readonly header: Header,
    data: DataView,
  ) {
    this.arrays = readArrays(header.arrays, data);
    this.steps = this.arrays.get("step")!;
    this.elapsed = this.arrays.get("elapsed")!;
    this.nHeads = header.layers.length * header.heads.length;
    this.prefix = this.withData("prefix_matching");
    this.copying = this.withData("copying");
    this.pattern = this.withData("pattern");
    this.packedSize = header.arrays.find((entry) => entry.name === "pattern")?.shape.at(-1) ?? 0;
  }

  get nSteps(): number {
    return this.steps.length;
  }

  get hasPatterns(): boolean {
    return this.pattern !== undefined && this.nHeads > 0;
  }

  curve(x: string, y: string): Curve | undefined {
    const [xs, ys] = [this.arrays.get(x), this.withData(y)];
    return xs && ys ? { x: xs, y: ys } : undefined;
  }

  headName(head: number): string {
    const { layers, heads } = this.header;
    return `${layers[Math.floor(head / heads.length)]}.${heads[head % heads.length]}`;
  }

  layerIndex(head: number): number {
    return Math.floor(head / this.header.heads.length);
  }

  /** Attention of one query position to keys 0 … query, 0 … 255. */
  attention(index: number, head: number, text: number, query: number): Values | undefined {
    const block = ((index * this.nHeads + head) * this.header.texts.length + text) * this.packedSize;
    const start = block + (query * (query + 1)) / 2;
    return this.pattern?.subarray(start, start + query + 1);
  }

  private withData(name: string): Values | undefined {
    const values = this.arrays.get(name);
    return hasData(values) ? values : undefined;
  }
}
