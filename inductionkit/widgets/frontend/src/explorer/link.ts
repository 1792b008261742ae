import type { Model } from "../common/model";
import type { History } from "./history";
import type { Field, Store } from "./state";
import { lastQuery } from "./toolbar";

const STEP_INTERVAL_MS = 60;

/** Keep the model's `step`, `head` and `text` and the store's state the same. Returns a stop. */
export function linkModel(model: Model, history: History, store: Store): () => void {
  const { header } = history;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sent = 0;
  const pending = new Set<Field>();

  const toModel = (): void => {
    const { index, head, text } = store.state;
    const [layer, inLayer] = [Math.floor(head / header.heads.length), head % header.heads.length];
    if (pending.has("index")) model.set("step", history.steps[index]);
    if (pending.has("head")) model.set("head", [header.layers[layer], header.heads[inLayer]]);
    if (pending.has("text")) model.set("text", header.texts[text]);
    pending.clear();
    sent = performance.now();
    model.save_changes();
  };
  // While the slider moves, the kernel hears of its place now and then, and of the last one in any case.
  store.subscribe((changed) => {
    const state = fromModel(model, history);
    for (const field of ["index", "head", "text"] as const) {
      if (changed.has(field) && store.state[field] !== state[field]) pending.add(field);
    }
    if (!pending.size) return;
    clearTimeout(timer);
    const wait = pending.size > 1 || !pending.has("index") ? 0 : sent + STEP_INTERVAL_MS - performance.now();
    timer = setTimeout(toModel, Math.max(wait, 0));
  });

  const toStore = (): void => {
    const state = fromModel(model, history);
    for (const field of pending) delete state[field as keyof typeof state];
    const moved = state.text !== undefined && state.text !== store.state.text;
    store.set(moved ? { ...state, key: null, query: lastQuery({ history }, state.text!) } : state);
  };
  const events = ["change:step", "change:head", "change:text"];
  for (const event of events) model.on(event, toStore);
  return () => {
    clearTimeout(timer);
    for (const event of events) model.off(event, toStore);
  };
}

/** The state that the model's traits stand for. */
export function fromModel(model: Model, history: History): Partial<Record<"index" | "head" | "text", number>> {
  const { layers, heads, texts } = history.header;
  const [layer, head] = (model.get("head") as [number, number] | null) ?? [layers[0], heads[0]];
  return {
    index: Math.max(history.steps.indexOf(model.get("step") as number), 0),
    head: Math.max(layers.indexOf(layer!) * heads.length + heads.indexOf(head!), 0),
    text: Math.max(texts.indexOf(model.get("text") as string), 0),
  };
}
