export type Changed<S> = ReadonlySet<keyof S>;

/** What all views of a widget show: one object, changed in one place, told to all once a frame. */
export class Store<S extends object> {
  private readonly listeners: ((changed: Changed<S>) => void)[] = [];
  private changed = new Set<keyof S>();
  private frame = 0;

  constructor(readonly state: S) {}

  set(patch: Partial<S>): void {
    for (const field of Object.keys(patch) as (keyof S)[]) {
      if (this.state[field] === patch[field]) continue;
      this.state[field] = patch[field] as S[keyof S];
      this.changed.add(field);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.tell());
  }

  subscribe(listener: (changed: Changed<S>) => void): void {
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
