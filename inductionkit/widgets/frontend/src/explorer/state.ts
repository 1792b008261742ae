/** What every view shows: one object, changed in one place, told to all once a frame. */
export interface State {
  /** Checkpoint, by index. */
  index: number;
  /** The head whose pattern is shown. */
  head: number;
  /** The highlighted heads. */
  heads: readonly number[];
  text: number;
  /** The head under the pointer. */
  hover: number | null;
  query: number;
  key: number | null;
  /** The checkpoint that a text's losses are held against. */
  reference: number;
  /** What the heads are searched for. */
  search: string;
  /** The scores on show: over training and in the grid; across and up in the scatter; its colours, or "layer". */
  score: string;
  across: string;
  up: string;
  colour: string;
  scale: "log" | "linear";
  unit: "tokens" | "steps";
}

export type Field = keyof State;
type Listener = (changed: ReadonlySet<Field>) => void;

export class Store {
  private readonly listeners: Listener[] = [];
  private changed = new Set<Field>();
  private frame = 0;

  constructor(readonly state: State) {}

  set(patch: Partial<State>): void {
    for (const field of Object.keys(patch) as Field[]) {
      if (same(this.state[field], patch[field])) continue;
      Object.assign(this.state, { [field]: patch[field] });
      this.changed.add(field);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.tell());
  }

  /** Highlight a head, or no longer. */
  toggle(head: number): void {
    const { heads } = this.state;
    this.set({ heads: heads.includes(head) ? heads.filter((other) => other !== head) : [...heads, head] });
  }

  subscribe(listener: Listener): void {
    this.listeners.push(listener);
  }

  stop(): void {
    cancelAnimationFrame(this.frame);
    this.listeners.length = 0;
  }

  private tell(): void {
    const changed = this.changed;
    this.changed = new Set();
    this.frame = 0;
    for (const listener of this.listeners) listener(changed);
  }
}

function same(one: unknown, other: unknown): boolean {
  if (!Array.isArray(one) || !Array.isArray(other)) return one === other;
  return one.length === other.length && one.every((value, index) => value === other[index]);
}
