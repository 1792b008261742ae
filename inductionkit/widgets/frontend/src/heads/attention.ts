import { choice, Segments } from "../common/controls";
import { html } from "../common/dom";
import { shortened, visible } from "../common/format";
import { headOptions } from "../common/heads";
import { MOVES } from "../common/keys";
import { initialState, type Trait } from "../common/link";
import { mounted } from "../common/shell";
import { Store } from "../common/store";
import { DrawnPattern, loadCircuitsVis, unzipped } from "./circuitsvis";
import { heading } from "./heading";
import styles from "./heads.css";
import { type State, Thumbnails } from "./thumbnails";

interface Header {
  model: string;
  tokens: string[];
  names: [number, number][];
  /** Where each head's pattern lies in the data, compressed: offset and length. */
  places: [number, number][];
  patternScale: number;
}

/** CircuitsVis shows values as they come. */
const DECIMALS = 1000;
/** Pixels of the drawing: its labels, at most a cell, at most all of it. */
const [LABEL_WIDTH, CELL, MAX_WIDTH] = [160, 28, 900];

/** AttentionView. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const header = model.get("_header") as Header;
  const names = header.names.map((pair) => pair.join("."));
  const tokens = header.tokens.map((token) => shortened(visible(token)));
  const traits: Trait<State>[] = [
    {
      ...{ name: "head", field: "index", toTrait: ({ index }) => header.names[index] },
      toState: (pair) => {
        const index = names.indexOf((pair as number[] | null)?.join(".") ?? "");
        return index < 0 ? {} : { index };
      },
    },
  ];
  const store = new Store(initialState<State>(model, traits, { index: 0, hover: null, hidesFirst: false, scale: "square root" }));
  const place = html("div", { class: "ik-circuitsvis", role: "img", "aria-busy": "true" });
  const status = html("p", { class: "ik-note", role: "status" }, "loading CircuitsVis …");
  const heads = headOptions(header.names);
  const chosen = choice("Head", heads, alert.guard((index: string) => store.set({ index: Number(index) })));
  const steps = [-1, 1].map((step) => {
    const title = step < 0 ? "Previous head" : "Next head";
    const button = html("button", { type: "button", class: "ik-button", "aria-label": title, title }, step < 0 ? "‹" : "›");
    button.addEventListener("click", alert.guard(() => store.set({ index: store.state.index + step })));
    return button;
  });
  const first = html("input", { type: "checkbox", class: "ik-first" });
  first.addEventListener("change", alert.guard(() => store.set({ hidesFirst: first.checked })));
  const scale = new Segments("Colours of the small patterns", ["linear", "square root"], alert.guard((value: State["scale"]) => store.set({ scale: value })));
  const levels = (index: number): Promise<Uint8Array> => readLevels(model.get("_data") as DataView, header, index);
  const thumbnails = new Thumbnails(header.names, tokens.length, levels, store, root, alert);
  thumbnails.panel.legend.append(html("label", { class: "ik-choice" }, first, "hide the first token"), scale.element);
  // A few tokens need no large cells.
  place.style.maxWidth = `${Math.min(LABEL_WIDTH + CELL * tokens.length, MAX_WIDTH)}px`;
  const title = heading(header.model, `attention, query by key, on ${tokens.length} tokens`);
  root.append(title, html("div", { class: "ik-choices" }, steps[0]!, chosen.element, steps[1]!), thumbnails.panel.element, status, place);

  const drawn = loadCircuitsVis(model).then((circuitsVis) => {
    const pattern = new DrawnPattern(circuitsVis);
    // The place says what is drawn; CircuitsVis' canvas has no name.
    pattern.element.setAttribute("aria-hidden", "true");
    place.replaceChildren(pattern.element);
    return pattern;
  });
  let stopped = false;
  const onShow = (): string => `${store.state.hover ?? store.state.index},${store.state.hidesFirst}`;
  const show = async (index: number): Promise<void> => {
    place.setAttribute("aria-busy", "true");
    const wanted = onShow();
    const pattern = await drawn;
    const rows = rowsOf(await levels(index), header, store.state.hidesFirst);
    // Another head may have been chosen meanwhile.
    if (stopped || wanted !== onShow()) return;
    pattern.draw({ tokens, attention: rows, minValue: -1, maxValue: 1 });
    status.textContent = summary(names[index]!, tokens, rows);
    place.setAttribute("aria-label", `Attention pattern of head ${names[index]}, query by key, drawn by CircuitsVis`);
    place.setAttribute("aria-busy", "false");
    root.dataset.shown = names[index];
  };
  return {
    ...{ store, traits, views: [thumbnails] },
    changed: () => {
      const { index, hover } = store.state;
      first.checked = store.state.hidesFirst;
      scale.show(store.state.scale);
      chosen.select.value = String(index);
      steps[0]!.disabled = index === 0;
      steps[1]!.disabled = index === names.length - 1;
      root.dataset.head = names[index];
      show(hover ?? index).catch((error: unknown) => alert.show(error));
    },
    // Up is an earlier layer, as the rows stand.
    onKey: (event) => {
      const move = MOVES[event.key];
      if (!move || (event.target as Element).closest("select, input")) return;
      event.preventDefault();
      const [layer, head] = header.names[store.state.index]!;
      const layers = [...new Set(header.names.map(([own]) => own))];
      const wanted = [layers[layers.indexOf(layer) + move[0]], head + move[1]].join(".");
      if (names.includes(wanted)) store.set({ index: names.indexOf(wanted) });
    },
    stop: () => {
      stopped = true;
      drawn.then((pattern) => pattern.draw(null)).catch(() => undefined);
    },
  };
});

function readLevels(data: DataView, { places }: Header, index: number): Promise<Uint8Array> {
  const [offset, length] = places[index]!;
  return unzipped(new DataView(data.buffer, data.byteOffset + offset, length));
}

/** The rows of one head, sparse: CircuitsVis makes a block of every entry, and those that round to 0 are white anyway. */
function rowsOf(packed: Uint8Array, { tokens, patternScale }: Header, hidesFirst: boolean): number[][] {
  return tokens.map((_, query) => {
    const start = (query * (query + 1)) / 2;
    const row: number[] = [];
    for (let key = Number(hidesFirst); key <= query; key++) {
      const level = packed[start + key]!;
      if (level) row[key] = Math.round(level * patternScale * DECIMALS) / DECIMALS;
    }
    return row;
  });
}

/** What a reader who does not see the pattern is told: where attention is strongest, a resting place at the start aside. */
function summary(name: string, tokens: string[], rows: number[][]): string {
  let [query, key, most] = [0, 0, 0];
  for (const [row, values] of rows.entries()) {
    values.forEach((value, column) => {
      if (column && value > most) [query, key, most] = [row, column, value];
    });
  }
  const place = (position: number): string => `${position} “${tokens[position]}”`;
  if (!most) return `head ${name}: all attention to the first token`;
  return `head ${name}: most attention beyond the first token from query ${place(query)} to key ${place(key)}, ${most.toFixed(2)}`;
}
