import type { Values } from "../common/arrays";
import { count, integer } from "../common/format";
import type { Model } from "../common/model";
import { nearest } from "../common/nearest";
import { StepClock } from "../common/step_clock";
import type { Clock } from "../common/stepper";
import { clockOf } from "./history";
import type { Side } from "./side";
import type { State } from "./state";

/** The checkpoints of one run. */
export class RunClock extends StepClock<State> {
  constructor({ context: { history, store } }: Side) {
    super(store, "index", history.steps, history.tokens);
  }

  stop(): void {}
}

/** Training tokens (or steps), at every checkpoint of any of the runs; each run is at its checkpoint nearest to them. */
export class SharedClock implements Clock {
  private readonly unit: "tokens" | "steps";
  private readonly places: number[];
  private elapsed: number;

  constructor(
    private readonly sides: readonly Side[],
    private readonly model: Model,
  ) {
    this.unit = clockOf(sides.map(({ context }) => context.history));
    this.places = [...new Set(sides.flatMap((side) => [...this.placesOf(side)]))].sort((one, other) => one - other);
    this.elapsed = model.get("clock") as number;
    for (const side of sides) {
      side.context.store.subscribe((changed) => {
        if (!changed.has("index")) return;
        const { index } = side.context.store.state;
        // Moved by itself, not by the clock.
        if (index !== nearest(this.placesOf(side), this.elapsed)) this.set(this.placesOf(side)[index]!);
      });
    }
    model.on("change:clock", this.follow);
  }

  get size(): number {
    return this.places.length;
  }

  get place(): number {
    return nearest(this.places, this.elapsed);
  }

  go(place: number): void {
    this.set(this.places[place]!);
  }

  words(): [string, string] {
    const steps = this.sides.map(({ context: { history, store } }) => integer(history.steps[store.state.index]!));
    const elapsed = this.unit === "tokens" ? `${count(this.elapsed)} tokens` : `step ${integer(this.elapsed)}`;
    return [elapsed, `steps ${steps.join(" and ")}`];
  }

  stop(): void {
    this.model.off("change:clock", this.follow);
  }

  private readonly follow = (): void => this.set(this.model.get("clock") as number);

  private set(elapsed: number): void {
    this.elapsed = elapsed;
    for (const side of this.sides) side.context.store.set({ index: nearest(this.placesOf(side), elapsed) });
    if (this.model.get("clock") === elapsed) return;
    this.model.set("clock", elapsed);
    this.model.save_changes();
  }

  private placesOf({ context: { history } }: Side): Values {
    return history.elapsed(this.unit);
  }
}
