import type { Model } from "../common/model";
import type { Store } from "./store";

/** How one trait of the model and the state stand for each other. */
export interface Trait<State> {
  name: string;
  field: keyof State;
  toModel(): unknown;
  /** What the model's trait says for the state, or undefined if that cannot be shown. */
  fromModel(value: unknown): Partial<State> | undefined;
}

/** Keep traits and state the same. Returns a stop. */
export function link<State extends object>(model: Model, store: Store<State>, traits: Trait<State>[]): () => void {
  const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);
  store.subscribe((changed) => {
    const told = traits.filter(({ name, field, toModel }) => changed.has(field) && !same(model.get(name), toModel()));
    for (const { name, toModel } of told) model.set(name, toModel());
    if (told.length) model.save_changes();
  });
  const stops = traits.map(({ name, fromModel }) => {
    const take = (): void => store.set(fromModel(model.get(name)) ?? {});
    model.on(`change:${name}`, take);
    return () => model.off(`change:${name}`, take);
  });
  return () => stops.forEach((stop) => stop());
}
