import type { Model } from "./model";
import type { Store } from "./store";

const INTERVAL_MS = 60;

/** A trait of the model and the field of the state that it stands for. */
export interface Trait<State> {
  name: string;
  field: keyof State;
  /** Another field of which the trait's value depends. */
  also?: keyof State;
  toTrait(state: State): unknown;
  /** What a value of the trait changes in the state: nothing, where it cannot be shown. */
  toState(value: unknown, state: State): Partial<State>;
}

/** A trait that is one of `values`, of which the state has the index. */
export function oneOf<State>(name: string, field: keyof State, values: Iterable<unknown>): Trait<State> {
  const known = [...values];
  return {
    name,
    field,
    toTrait: (state) => known[state[field] as number],
    toState: (value) => {
      const index = known.indexOf(value);
      return index < 0 ? {} : ({ [field]: index } as Partial<State>);
    },
  };
}

/** The state that a widget opens with: `state`, but for what the model's traits say. */
export function initialState<State extends object>(model: Model, traits: readonly Trait<State>[], state: State): State {
  return traits.reduce((known, { name, toState }) => ({ ...known, ...toState(model.get(name), known) }), state);
}

/** Keep the model's traits and the store's state the same. Returns a stop. */
export function link<State extends object>(model: Model, store: Store<State>, traits: readonly Trait<State>[]): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sent = 0;
  const pending = new Set<Trait<State>>();

  const toModel = (): void => {
    timer = undefined;
    sent = performance.now();
    for (const { name, toTrait } of pending) model.set(name, toTrait(store.state));
    pending.clear();
    model.save_changes();
  };
  // While a slider moves, the kernel hears of its place now and then, and of the last one in any case.
  store.subscribe((changed) => {
    for (const trait of traits) {
      const moved = changed.has(trait.field) || (trait.also !== undefined && changed.has(trait.also));
      if (moved && !alike(trait.toTrait(store.state), model.get(trait.name))) pending.add(trait);
    }
    if (pending.size) timer ??= setTimeout(toModel, Math.max(sent + INTERVAL_MS - performance.now(), 0));
  });

  const stops = traits.map((trait) => {
    // What waits to be sent is newer than what comes in.
    const toStore = (): void => void (pending.has(trait) || store.set(trait.toState(model.get(trait.name), store.state)));
    model.on(`change:${trait.name}`, toStore);
    return () => model.off(`change:${trait.name}`, toStore);
  });
  return () => {
    clearTimeout(timer);
    for (const stop of stops) stop();
  };
}

/** Whether two values of a trait are the same; they are plain JSON. */
function alike(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
