export type Changed<State> = ReadonlySet<keyof State>;

/** What the views of a widget show: one object, changed in one place, told to all once a frame. */
export class Store<State extends object> {
  private readonly listeners: ((changed: Changed<State>) => void)[] = [];
  private changed = new Set<keyof State>();
  private frame = 0;

  constructor(readonly state: State) {}

  set(patch: Partial<State>): void {
    for (const field of Object.keys(patch) as (keyof State)[]) {
      if (same(this.state[field], patch[field])) continue;
      Object.assign(this.state, { [field]: patch[field] });
      this.changed.add(field);
    }
    if (this.changed.size && !this.frame) this.frame = requestAnimationFrame(() => this.tell());
  }

  subscribe(listener: (changed: Changed<State>) => void): void {
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

/** The values with one more, or one fewer where it is among them. */
export function toggled<Value>(values: readonly Value[], value: Value): Value[] {
  return values.includes(value) ? values.filter((other) => other !== value) : [...values, value];
}

function same(one: unknown, other: unknown): boolean {
  if (!Array.isArray(one) || !Array.isArray(other)) return one === other;
  return one.length === other.length && one.every((value, index) => value === other[index]);
}
