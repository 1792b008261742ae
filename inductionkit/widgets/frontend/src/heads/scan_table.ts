import { html } from "../common/dom";
import { label } from "../common/format";
import { findHeads, SEARCH_FIELD } from "../common/head_search";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { number, spaced } from "./numbers";
import { type Context, isBeyond, mark, type State } from "./scan_data";

/** Rows for the first heads in order; search and order bring the others. */
const MAX_ROWS = 200;
const P_DIGITS = 3;

interface Column {
  name: string;
  title: string;
  text(head: number): string;
  value(head: number): number;
  strong(head: number): boolean;
}

/** The heads in any order, searched by name; a box marks them. */
export class HeadTable implements View<State> {
  readonly panel = new Panel("table", "Heads", "");
  private readonly search = html("input", SEARCH_FIELD);
  private readonly rowsBody = html("tbody");
  private readonly note = html("p", { class: "ik-note" });
  private readonly columns: Column[];
  private readonly headers: HTMLElement[] = [];
  private readonly rows = new Map<number, HTMLTableRowElement>();
  private order = { column: 0, down: true };
  private shown: number[] = [];

  constructor(private readonly context: Context) {
    const { scan, store, alert } = context;
    this.columns = columnsOf(context);
    const first = scan.scores.findIndex((score) => score.name === "prefix_matching");
    this.order.column = this.columns.findIndex((column) => column.name === scan.scores[Math.max(first, 0)]!.name);
    const all = Array.from({ length: scan.heads.n }, (_, head) => head);
    const marks = [...new Set(all.flatMap((head) => scan.role(head))), "none"].map((role) => {
      const button = html("button", { type: "button", class: "ik-button", "data-mark": role }, role);
      button.addEventListener("click", alert.guard(() => store.set({ marked: all.filter((head) => scan.role(head).includes(role)) })));
      return button;
    });
    this.search.addEventListener("input", alert.guard(() => this.list()));
    const table = html("table", { class: "ik-table" }, html("thead", {}, this.headRow()), this.rowsBody);
    const scroller = html("div", { class: "ik-scroll", tabindex: 0, role: "region", "aria-label": "Table of heads" }, table);
    const marking = html("div", { class: "ik-choices", role: "group", "aria-label": "Mark heads by role" }, html("span", {}, "Mark"), ...marks);
    this.panel.body.append(html("div", { class: "ik-choices" }, this.search), marking, scroller, this.note);
    this.rowsBody.addEventListener("pointerover", alert.guard((event: Event) => store.set({ hover: this.headOf(event) })));
    this.rowsBody.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.rowsBody.addEventListener("click", alert.guard((event: Event) => this.press(event)));
    this.rowsBody.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.move(event)));
    if (scan.scores.some((score) => score.nulls)) this.panel.addLegend("bold", "beyond every re-initialised head");
    this.list();
  }

  draw(): void {
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("marked") && (this.search.value.trim() || this.order.column === 0)) this.list();
    this.point();
  }

  private headRow(): HTMLTableRowElement {
    const row = html("tr");
    for (const [index, column] of this.columns.entries()) {
      const button = html("button", { type: "button", title: column.title }, spaced(label(column.name)));
      button.addEventListener("click", this.context.alert.guard(() => this.sort(index)));
      const cell = html("th", { scope: "col", "data-column": column.name }, button);
      this.headers.push(cell);
      row.append(cell);
    }
    return row;
  }

  /** A press on the column that orders turns the order round. */
  private sort(column: number): void {
    const down = column === this.order.column ? !this.order.down : this.columns[column]!.name !== "head";
    this.order = { column, down };
    this.list();
    this.point();
  }

  private list(): void {
    const { scan, store } = this.context;
    const found = [...(this.found() ?? Array(scan.heads.n).keys())];
    const { value } = this.columns[this.order.column]!;
    const sign = this.order.down ? -1 : 1;
    const rank = (head: number): number => (Number.isNaN(value(head)) ? Infinity : sign * value(head));
    found.sort((one, other) => (rank(one) === rank(other) ? one - other : rank(one) - rank(other)));
    this.shown = found.slice(0, MAX_ROWS);
    this.rows.clear();
    this.rowsBody.replaceChildren(...this.shown.map((head) => this.row(head)));
    const left = found.length - this.shown.length;
    const few = left ? `the first ${MAX_ROWS} of ${found.length} heads in this order` : "";
    this.note.textContent = found.length ? few : "no such head";
    for (const [index, cell] of this.headers.entries()) {
      const sorted = index === this.order.column ? (this.order.down ? "descending" : "ascending") : "none";
      cell.setAttribute("aria-sort", sorted);
    }
    this.panel.value.textContent = `${store.state.marked.length} marked of ${scan.heads.n}`;
  }

  /** "> 0.5" is of the score that orders the table, or else of the first to the right in the scatter. */
  private found(): Set<number> | null {
    const { scan, store } = this.context;
    const scores = scan.scores.map(({ name }) => name);
    const ordering = this.columns[this.order.column]!.name;
    const shown = scores.includes(ordering) ? ordering : scores[store.state.x]!;
    const value = (name: string, head: number): number => scan.scores[scores.indexOf(name)]?.values[head] ?? NaN;
    const role = (head: number): string[] => scan.role(head);
    return findHeads({ heads: scan.heads, scores, shown, value, marked: store.state.marked, role }, this.search.value);
  }

  private row(head: number): HTMLTableRowElement {
    const name = this.context.scan.heads.name(head);
    const box = html("input", { type: "checkbox", "aria-label": `Mark head ${name}` });
    const swatch = html("span", { class: "ik-swatch" });
    swatch.style.background = `var(--ik-layer-${this.context.scan.heads.layerIndex(head)})`;
    const button = html("button", { type: "button", class: "ik-head-button" }, swatch, name);
    const row = html("tr", { "data-head": name }, html("td", {}, box), html("th", { scope: "row" }, button));
    for (const column of this.columns.slice(2)) {
      row.append(html("td", column.strong(head) ? { class: "is-beyond" } : {}, column.text(head)));
    }
    this.rows.set(head, row);
    return row;
  }

  private point(): void {
    const { head, hover, marked } = this.context.store.state;
    const isMarked = new Set(marked);
    const focusable = this.rows.has(head) ? head : this.shown[0];
    for (const [own, row] of this.rows) {
      row.classList.toggle("is-chosen", own === head);
      row.classList.toggle("is-hovered", own === hover);
      const [box, button] = [row.querySelector("input")!, row.querySelector("button")!];
      box.checked = isMarked.has(own);
      box.tabIndex = button.tabIndex = own === focusable ? 0 : -1;
      button.setAttribute("aria-pressed", String(own === head));
    }
    this.panel.value.textContent = `${marked.length} marked of ${this.context.scan.heads.n}`;
  }

  private press(event: Event): void {
    const head = this.headOf(event);
    if (head === null) return;
    const { store } = this.context;
    mark(store, head, event.target instanceof HTMLInputElement);
  }

  /** Up and down choose the next head in this order. */
  private move(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const head = this.headOf(event);
    if (!step || head === null) return;
    event.preventDefault();
    const next = this.shown[this.shown.indexOf(head) + step];
    if (next === undefined) return;
    this.context.store.set({ head: next });
    const kind = event.target instanceof HTMLInputElement ? "input" : "button";
    this.rows.get(next)!.querySelector<HTMLElement>(kind)!.focus();
  }

  private headOf(event: Event): number | null {
    const name = (event.target as Element).closest("tr")?.dataset.head;
    return this.shown.find((head) => this.context.scan.heads.name(head) === name) ?? null;
  }
}

function columnsOf({ scan, store }: Context): Column[] {
  const plain = { strong: () => false, text: () => "" };
  const isMarked = (head: number): number => Number(store.state.marked.includes(head));
  const box: Column = { ...plain, name: "mark", title: "marked heads first", value: isMarked };
  const name: Column = { ...plain, name: "head", title: "layer and head", value: (head) => head };
  const scores = scan.scores.map((score): Column => ({
    name: score.name,
    title: label(score.longName),
    text: (head) => number(score.values[head], score.digits),
    value: (head) => score.values[head]!,
    strong: (head) => isBeyond(score, head),
  }));
  const surprises = scan.scores.flatMap(({ name, p }): Column[] => {
    if (!p) return [];
    const title = "share of null heads that score as high";
    const text = (head: number): string => number(p[head], P_DIGITS);
    return [{ ...plain, name: `${name} p`, title, text, value: (head) => p[head]! }];
  });
  return [box, name, ...words("role", "what the head does", scan.header.roles), ...words("path", "how it copies", scan.header.paths), ...scores, ...surprises];
}

/** A column of words, in the order of the alphabet; nothing where there are none. */
function words(name: string, title: string, texts: readonly string[]): Column[] {
  if (!texts.some(Boolean)) return [];
  const kinds = [...new Set(texts)].sort();
  return [{ name, title, strong: () => false, text: (head) => texts[head]!, value: (head) => kinds.indexOf(texts[head]!) }];
}
