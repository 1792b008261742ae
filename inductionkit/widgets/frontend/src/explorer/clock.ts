import type { Values } from "../common/arrays";
import { count, integer } from "../common/format";
import type { Model } from "../common/model";
import { nearest } from "../common/nearest";
import type { Clock } from "../common/stepper";
import type { Side } from "./side";

/** The checkpoints of one run. */
export class RunClock implements Clock {
  constructor(private readonly side: Side) {}

  get size(): number {
    return this.side.context.history.nSteps;
  }

  get place(): number {
    return this.side.context.store.state.index;
  }

  go(place: number): void {
    this.side.context.store.set({ index: place });
  }

  words(): [string, string] {
    const { steps, tokens } = this.side.context.history;
    return [`step ${integer(steps[this.place]!)}`, tokens ? `${count(tokens[this.place]!)} tokens` : ""];
  }

  stop(): void {}
}

/** Training tokens, at every checkpoint of any of the runs; each run stands at its checkpoint nearest to them. */
export class SharedClock implements Clock {
  private readonly places: number[];
  private tokens: number;

  constructor(
    private readonly sides: readonly Side[],
    private readonly model: Model,
  ) {
    this.places = [...new Set(sides.flatMap((side) => [...tokensOf(side)]))].sort((one, other) => one - other);
    this.tokens = model.get("clock") as number;
    for (const side of sides) {
      side.context.store.subscribe((changed) => {
        if (!changed.has("index")) return;
        const { index } = side.context.store.state;
        // Moved by itself, not by the clock.
        if (index !== nearest(tokensOf(side), this.tokens)) this.set(tokensOf(side)[index]!);
      });
    }
    model.on("change:clock", this.follow);
  }

  get size(): number {
    return this.places.length;
  }

  get place(): number {
    return nearest(this.places, this.tokens);
  }

  go(place: number): void {
    this.set(this.places[place]!);
  }

  words(): [string, string] {
    const steps = this.sides.map(({ context: { history, store } }) => integer(history.steps[store.state.index]!));
    return [`${count(this.tokens)} tokens`, `steps ${steps.join(" and ")}`];
  }

  stop(): void {
    this.model.off("change:clock", this.follow);
  }

  private readonly follow = (): void => this.set(this.model.get("clock") as number);

  private set(tokens: number): void {
    this.tokens = tokens;
    for (const side of this.sides) side.context.store.set({ index: nearest(tokensOf(side), tokens) });
    if (this.model.get("clock") === tokens) return;
    this.model.set("clock", tokens);
    this.model.save_changes();
  }
}

function tokensOf({ context: { history } }: Side): Values {
  return history.tokens ?? history.steps;
}
