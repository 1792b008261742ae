/** What the views of a widget show: one object, changed in one place, told to all once a frame. */
export class Store<State extends object> {
  private readonly listeners: ((changed: ReadonlySet<keyof State>) => void)[] = [];
  private changed = new Set<keyof State>();
  private frame = 0;

  constructor(readonly state: State) {}

  set(patch: Partial<State>): void {
    for (const field of Object.keys(patch) as (keyof State)[]) {
      if (this.state[field] === patch[field]) continue;
      Object.assign(this.state, { [field]: patch[field] });
      this.changed.add(field);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.tell());
  }

  subscribe(listener: (changed: ReadonlySet<keyof State>) => void): void {
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
