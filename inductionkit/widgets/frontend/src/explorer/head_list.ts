import { choice } from "../common/controls";
import { html } from "../common/dom";
import { integer } from "../common/format";
import { SEARCH_FIELD } from "../common/head_search";
import type { Changed } from "../common/store";
import { scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, foundHeads, sharedExtent, words } from "./view";

/** More rows than these are not read, and each costs at every step; a search narrows them. */
const MAX_ROWS = 24;
const BY_NAME = "layer and head";
const FIELDS: Field[] = ["head", "heads", "search", "score"];
/** Nobody reads a list that is sorted anew in every frame: it follows the step once that rests. */
const REST_MS = 80;

interface Row {
  element: HTMLElement;
  pin: HTMLButtonElement;
  pick: HTMLButtonElement;
  name: HTMLElement;
  role: HTMLElement;
  value: HTMLElement;
  /** What it shows. */
  shown: string;
}

/** The heads, searched and sorted by any score at the current checkpoint; each can be chosen and highlighted. */
export class HeadList {
  readonly element: HTMLElement;
  private readonly field: HTMLInputElement;
  private readonly sort: HTMLSelectElement;
  private readonly list = html("ul", { class: "ik-head-list", "aria-label": "Heads" });
  private readonly note = html("span", { class: "ik-note", role: "status" });
  private readonly rows: Row[] = [];
  private shown: number[] = [];
  private resting: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    this.field = html("input", SEARCH_FIELD);
    this.field.addEventListener("input", alert.guard(() => store.set({ search: this.field.value })));
    const options = [BY_NAME, ...history.scores].map((name) => new Option(words(name), name));
    const { element: sort, select } = choice("Sort by", options, alert.guard(() => this.show()));
    this.sort = select;
    this.sort.value = history.scores[0] ?? BY_NAME;
    const tools = html("div", { class: "ik-list-tools" }, this.field, sort, this.note);
    this.element = html("div", { class: "ik-heads-found" }, tools, this.list);
    this.list.addEventListener("click", alert.guard((event: MouseEvent) => {
      const place = this.rows.findIndex(({ element }) => element.contains(event.target as Node));
      const head = this.shown[place];
      if (head === undefined) return;
      pick(store, head, this.rows[place]!.pin.contains(event.target as Node) || event.shiftKey);
    }));
  }

  update(changed?: Changed<State>): void {
    if (!changed || FIELDS.some((field) => changed.has(field))) this.show();
    else if (changed.has("index")) {
      clearTimeout(this.resting);
      this.resting = setTimeout(this.context.alert.guard(() => this.show()), REST_MS);
    }
  }

  private show(): void {
    clearTimeout(this.resting);
    const { history, store, runs } = this.context;
    const { index, head, heads, score } = store.state;
    const found = foundHeads(this.context);
    const sorted = this.sorted(found ? [...found] : Array.from({ length: history.heads.n }, (_, other) => other));
    this.shown = sorted.slice(0, MAX_ROWS);
    const hidden = sorted.length - this.shown.length;
    this.note.textContent = !sorted.length ? "no such head" : hidden ? `${integer(hidden)} more: search to narrow` : "";
    while (this.rows.length < this.shown.length) this.addRow();
    const most = sharedExtent(runs, score)?.[1] ?? 1;
    for (const [place, row] of this.rows.entries()) {
      const { element, pin, pick, name, role, value } = row;
      const own = this.shown[place];
      element.hidden = own === undefined;
      if (own === undefined) continue;
      const number = history.scoreAt(score, index, own);
      const text = scoreText(this.context, score, number);
      const share = Number.isFinite(number) && most > 0 ? Math.min(Math.max(number / most, 0), 1) : 0;
      const called = history.role(index, own)[0] ?? "";
      const shown = [own, called, text, share.toFixed(2), own === head, heads.includes(own)].join();
      // A row that is the same as before costs the page nothing.
      if (row.shown === shown) continue;
      row.shown = shown;
      name.textContent = history.heads.name(own);
      role.textContent = role.title = called;
      value.textContent = text;
      pick.style.backgroundSize = `${(100 * share).toFixed(0)}% 2px`;
      pick.style.backgroundImage = `linear-gradient(var(--ik-layer-${history.heads.layerIndex(own)}) 0 0)`;
      pick.setAttribute("aria-pressed", String(own === head));
      pin.setAttribute("aria-pressed", String(heads.includes(own)));
      pin.setAttribute("aria-label", `Highlight head ${history.heads.name(own)}`);
    }
  }

  private sorted(heads: number[]): number[] {
    const { history, store } = this.context;
    if (this.sort.value === BY_NAME) return heads;
    const value = (head: number): number => {
      const score = history.scoreAt(this.sort.value, store.state.index, head);
      return Number.isNaN(score) ? -Infinity : score;
    };
    // Equal ones, infinite or missing, stay in the model's order.
    return heads.sort((one, other) => (value(other) > value(one) ? 1 : value(other) < value(one) ? -1 : one - other));
  }

  private addRow(): void {
    const pin = html("button", { type: "button", class: "ik-pin", title: "Highlight (or shift-click a line or a dot)" }, "★");
    const [name, role, value] = [html("span"), html("span", { class: "ik-head-role" }), html("span", { class: "ik-head-value" })];
    const pick = html("button", { type: "button", class: "ik-pick" }, name, role, value);
    const element = html("li", { class: "ik-head-row" }, pin, pick);
    this.rows.push({ element, pin, pick, name, role, value, shown: "" });
    this.list.append(element);
  }
}
