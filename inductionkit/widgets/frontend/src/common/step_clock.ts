import type { Values } from "./arrays";
import { count, integer } from "./format";
import type { Clock } from "./stepper";
import type { Store } from "./store";

/** A clock over the checkpoints of a run, of which a field of the state has the index. */
export class StepClock<State extends object> implements Clock {
  constructor(
    private readonly store: Store<State>,
    private readonly field: keyof State,
    private readonly steps: ArrayLike<number>,
    /** What each checkpoint has seen, where it is known. */
    private readonly tokens?: Values,
  ) {}

  get size(): number {
    return this.steps.length;
  }

  get place(): number {
    return this.store.state[this.field] as number;
  }

  go(place: number): void {
    this.store.set({ [this.field]: place } as Partial<State>);
  }

  words(): [string, string] {
    const tokens = this.tokens ? `${count(this.tokens[this.place]!)} tokens` : "";
    return [`step ${integer(this.steps[this.place]!)}`, tokens];
  }
}
