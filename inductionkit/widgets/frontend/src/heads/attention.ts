import { choice } from "../common/controls";
import { html } from "../common/dom";
import { shortened, visible } from "../common/format";
import { headOptions } from "../common/heads";
import { initialState, type Trait } from "../common/link";
import { mounted } from "../common/shell";
import { Store } from "../common/store";
import { DrawnPattern, loadCircuitsVis, unzipped } from "./circuitsvis";
import { heading } from "./heading";
import styles from "./heads.css";

interface Header {
  model: string;
  tokens: string[];
  names: [number, number][];
  /** Where each head's pattern lies in the data, compressed: offset and length. */
  places: [number, number][];
  patternScale: number;
}

interface State {
  /** The head on show, by its place among those that travelled. */
  index: number;
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
  const store = new Store(initialState<State>(model, traits, { index: 0 }));
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
  // A few tokens need no large cells.
  place.style.maxWidth = `${Math.min(LABEL_WIDTH + CELL * tokens.length, MAX_WIDTH)}px`;
  const title = heading(header.model, `attention, query by key, on ${tokens.length} tokens`);
  root.append(title, html("div", { class: "ik-choices" }, steps[0]!, chosen.element, steps[1]!), status, place);

  const drawn = loadCircuitsVis(model).then((circuitsVis) => {
    const pattern = new DrawnPattern(circuitsVis);
    // The place says what is drawn; CircuitsVis' canvas has no name.
    pattern.element.setAttribute("aria-hidden", "true");
    place.replaceChildren(pattern.element);
    return pattern;
  });
  let stopped = false;
  const show = async (index: number): Promise<void> => {
    place.setAttribute("aria-busy", "true");
    const pattern = await drawn;
    const rows = await readPattern(model.get("_data") as DataView, header, index);
    // Another head may have been chosen meanwhile.
    if (stopped || index !== store.state.index) return;
    pattern.draw({ tokens, attention: rows, minValue: -1, maxValue: 1 });
    status.textContent = summary(names[index]!, tokens, rows);
    place.setAttribute("aria-label", `Attention pattern of head ${names[index]}, query by key, drawn by CircuitsVis`);
    place.setAttribute("aria-busy", "false");
    root.dataset.shown = names[index];
  };
  return {
    ...{ store, traits, views: [] },
    changed: () => {
      const { index } = store.state;
      chosen.select.value = String(index);
      steps[0]!.disabled = index === 0;
      steps[1]!.disabled = index === names.length - 1;
      root.dataset.head = names[index];
      show(index).catch((error: unknown) => alert.show(error));
    },
    stop: () => {
      stopped = true;
      drawn.then((pattern) => pattern.draw(null)).catch(() => undefined);
    },
  };
});

/** The rows of one head, sparse: CircuitsVis makes a block of every entry, and those that round to 0 are white anyway. */
async function readPattern(data: DataView, { tokens, places, patternScale }: Header, index: number): Promise<number[][]> {
  const [offset, length] = places[index]!;
  const packed = await unzipped(new DataView(data.buffer, data.byteOffset + offset, length));
  return tokens.map((_, query) => {
    const start = (query * (query + 1)) / 2;
    const row: number[] = [];
    for (let key = 0; key <= query; key++) {
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
