import type { Model } from "../common/model";
import type { Store } from "./store";

const INTERVAL_MS = 60;

/** A trait of the model and the part of the state that it stands for. */
export interface Trait<S> {
  name: string;
  toTrait(state: S): unknown;
  toState(value: unknown): Partial<S>;
}

/** Keep the model's traits and the store's state the same. Returns a stop. */
export function link<S extends object>(model: Model, store: Store<S>, traits: Trait<S>[]): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sent = 0;
  const differs = ({ name, toTrait }: Trait<S>): boolean => JSON.stringify(model.get(name)) !== JSON.stringify(toTrait(store.state));

  const toModel = (): void => {
    timer = undefined;
    sent = performance.now();
    for (const trait of traits.filter(differs)) model.set(trait.name, trait.toTrait(store.state));
    model.save_changes();
  };
  // While a slider moves, the kernel hears of its place now and then, and of the last one in any case.
  store.subscribe(() => {
    if (timer === undefined && traits.some(differs)) {
      timer = setTimeout(toModel, Math.max(sent + INTERVAL_MS - performance.now(), 0));
    }
  });

  const stops = traits.map(({ name, toState }) => {
    // What waits to be sent is newer than what comes in.
    const toStore = (): void => void (timer === undefined && store.set(toState(model.get(name))));
    model.on(`change:${name}`, toStore);
    return () => model.off(`change:${name}`, toStore);
  });
  return () => {
    clearTimeout(timer);
    stops.forEach((stop) => stop());
  };
}
