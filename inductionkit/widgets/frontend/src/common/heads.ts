import { html } from "./dom";
import type { Trait } from "./link";

/** Heads by number: counted through the layers, layer index × heads + head index. */
export class Heads {
  readonly n: number;

  constructor(
    readonly layers: number[],
    readonly numbers: number[],
  ) {
    this.n = layers.length * numbers.length;
  }

  /** All of them, in order. */
  get pairs(): [number, number][] {
    return Array.from({ length: this.n }, (_, head) => this.pair(head));
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

/** The trait `head`: a (layer, head), of which the state has the number. */
export function headTrait<State>(heads: Heads, field: keyof State): Trait<State> {
  return {
    ...{ name: "head", field, toTrait: (state) => heads.pair(state[field] as number) },
    toState: (pair) => {
      const head = heads.of(pair);
      return head === undefined ? {} : ({ [field]: head } as Partial<State>);
    },
  };
}

/** The trait `heads`: several of them; those that are not here are left out. */
export function headsTrait<State>(heads: Heads, field: keyof State): Trait<State> {
  return {
    ...{ name: "heads", field, toTrait: (state) => (state[field] as readonly number[]).map((head) => heads.pair(head)) },
    toState: (pairs) => {
      const known = ((pairs as unknown[] | null) ?? []).map((pair) => heads.of(pair));
      return { [field]: known.filter((head) => head !== undefined) } as Partial<State>;
    },
  };
}

/** The heads for a choice, by their place in the list, under their layers. */
export function headOptions(pairs: readonly (readonly [number, number])[]): HTMLElement[] {
  const groups = new Map<number, HTMLElement>();
  for (const [place, [layer, head]] of pairs.entries()) {
    if (!groups.has(layer)) groups.set(layer, html("optgroup", { label: `Layer ${layer}` }));
    groups.get(layer)!.append(new Option(`${layer}.${head}`, String(place)));
  }
  return [...groups.values()];
}
