/** What every view shows: one object, changed in one place, told to all once a frame. */
export interface State {
  /** Checkpoint, by index. */
  index: number;
  head: number;
  text: number;
  /** The head under the pointer. */
  hover: number | null;
  query: number;
  key: number | null;
  playing: boolean;
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
      if (this.state[field] === patch[field]) continue;
      Object.assign(this.state, { [field]: patch[field] });
      this.changed.add(field);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.tell());
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
