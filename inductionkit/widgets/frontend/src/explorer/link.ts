import type { Model } from "../common/model";
import type { History } from "./history";
import type { Field, State, Store } from "./state";

const STEP_INTERVAL_MS = 60;
const TRAITS = { index: "step", head: "head", heads: "heads", text: "text" } as const;
type Linked = keyof typeof TRAITS;
const LINKED = Object.keys(TRAITS) as Linked[];

/** Keep the model's traits and the store's state the same. Returns a stop. */
export function linkModel(model: Model, history: History, store: Store): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sent = 0;
  const pending = new Set<Linked>();

  const toModel = (): void => {
    for (const field of pending) model.set(TRAITS[field], traitOf(field, store.state, history));
    pending.clear();
    sent = performance.now();
    model.save_changes();
  };
  // While the slider moves, the kernel hears of its place now and then, and of the last one in any case.
  store.subscribe((changed: ReadonlySet<Field>) => {
    for (const field of LINKED) {
      const differs = changed.has(field) && !alike(traitOf(field, store.state, history), model.get(TRAITS[field]));
      if (differs) pending.add(field);
    }
    if (!pending.size) return;
    clearTimeout(timer);
    const wait = pending.size > 1 || !pending.has("index") ? 0 : sent + STEP_INTERVAL_MS - performance.now();
    timer = setTimeout(toModel, Math.max(wait, 0));
  });

  const toStore = (): void => {
    const state = fromModel(model, history);
    for (const field of pending) delete state[field];
    const moved = state.text !== undefined && state.text !== store.state.text;
    store.set(moved ? { ...state, key: null, query: history.lastQuery(state.text!) } : state);
  };
  const events = Object.values(TRAITS).map((trait) => `change:${trait}`);
  for (const event of events) model.on(event, toStore);
  return () => {
    clearTimeout(timer);
    for (const event of events) model.off(event, toStore);
  };
}

/** The state that the model's traits stand for; what this history does not have is left out. */
export function fromModel(model: Model, history: History): Partial<Pick<State, Linked>> {
  const { layers, heads, texts } = history.header;
  const numberOf = ([layer, head]: [number, number]): number => {
    const [row, column] = [layers.indexOf(layer), heads.indexOf(head)];
    return row < 0 || column < 0 ? -1 : row * heads.length + column;
  };
  const [head, chosen] = [model.get("head"), model.get("heads")] as [[number, number] | null, [number, number][] | null];
  const found = {
    index: history.steps.indexOf(model.get("step") as number),
    head: head ? numberOf(head) : -1,
    text: texts.indexOf(model.get("text") as string),
  };
  const state: Partial<Pick<State, Linked>> = { heads: (chosen ?? []).map(numberOf).filter((number) => number >= 0) };
  for (const field of ["index", "head", "text"] as const) if (found[field] >= 0) state[field] = found[field];
  return state;
}

function traitOf(field: Linked, state: State, { steps, header }: History): unknown {
  const pair = (head: number): [number | undefined, number | undefined] => [
    header.layers[Math.floor(head / header.heads.length)],
    header.heads[head % header.heads.length],
  ];
  if (field === "index") return steps[state.index];
  if (field === "head") return header.layers.length ? pair(state.head) : null;
  if (field === "heads") return state.heads.map(pair);
  return header.texts[state.text] ?? null;
}

/** Whether two values of a trait are the same; they are plain JSON. */
function alike(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
