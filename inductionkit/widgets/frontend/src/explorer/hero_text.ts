import { html, setAll, svg } from "../common/dom";
import { decimal, label, shortened } from "../common/format";
import { Panel } from "../common/panel";
import type { Changed } from "../common/store";
import { row } from "./pattern_series";
import type { State } from "./state";
import type { Context, View } from "./view";

/** Longer tokens are cut, in characters; each takes this much more room than its characters. */
const [LONGEST, SPACING] = [16, 0.5];
/** Above the line of tokens there is room for the arc. */
const ARC_HEIGHT = 62;

/** The text as a line: an arc from the token being read to where induction points, and how likely the next token is. */
export class HeroText implements View {
  readonly panel = new Panel("hero-text", "Copying the next token");
  private readonly line = html("div", { class: "ik-hero-line" });
  private readonly arcs = svg("svg", { class: "ik-hero-arcs", "aria-hidden": "true", height: ARC_HEIGHT });
  private readonly arc = svg("path", { class: "ik-hero-arc" }, this.arcs);
  private readonly head = svg("path", { class: "ik-hero-arrow" }, this.arcs);
  private readonly weight = svg("text", { class: "ik-halo", "text-anchor": "middle" }, this.arcs);
  private readonly words = html("div", { class: "ik-hero-words" });
  private readonly says = html("p", { class: "ik-hero-says" });
  private readonly before = html("span", { class: "ik-hero-before" });
  private readonly bar = html("div", { class: "ik-hero-bar" }, html("span", { class: "ik-hero-filled" }), this.before);
  private readonly nextName = html("span");
  private readonly likely = html("strong", { class: "ik-hero-likely" });
  private readonly next = html("div", { class: "ik-hero-next" }, this.nextName, this.bar, this.likely);
  private width = 0;

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.line.append(this.arcs, this.words);
    this.panel.body.append(this.line, this.next, this.says);
    this.words.addEventListener("pointerdown", alert.guard((event: PointerEvent) => {
      const token = (event.target as HTMLElement).closest<HTMLElement>("[data-position]");
      if (token) store.set({ query: Number(token.dataset.position), key: null });
    }));
  }

  draw(width: number): void {
    this.width = width;
    this.write();
    this.refresh();
  }

  update(changed: Changed<State>): void {
    if (changed.has("text") || changed.has("query")) this.write();
    if (["index", "head", "text", "query"].some((field) => changed.has(field as keyof State))) this.refresh();
  }

  /** Show attention and probability at the checkpoint; the pattern may just have arrived. */
  refresh(): void {
    const { tokens, query, target } = this;
    const { heads, header } = this.context.history;
    const { index, head } = this.context.store.state;
    const [attention, probability] = [this.attention(), this.probability(index)];
    const before = header.hero && header.window ? this.probability(header.hero.first) : null;
    this.arc.style.strokeWidth = String(1.5 + 5 * (attention ?? 0));
    const shade = attention === null ? 1 : 0.25 + 0.75 * Math.sqrt(attention);
    for (const mark of [this.arc, this.head]) mark.style.opacity = String(shade);
    this.weight.textContent = attention === null ? "" : percent(attention);
    this.next.hidden = probability === null;
    (this.bar.firstElementChild as HTMLElement).style.width = `${100 * (probability ?? 0)}%`;
    this.likely.textContent = probability === null ? "" : percent(probability);
    this.bar.title = probability === null ? "" : `probability ${decimal(probability, 3)}`;
    this.before.hidden = before === null;
    this.before.style.left = `${100 * (before ?? 0)}%`;
    this.before.title = "before the window";
    this.words.style.setProperty("--ik-likely", `${100 * (probability ?? 0)}%`);
    Object.assign(this.panel.element.dataset, { query, target: String(target), attention: String(attention), probability: String(probability) });
    const [read, next] = [tokens[query], tokens[query + 1]];
    const named = (token: string): HTMLElement => html("code", {}, shown(token));
    const parts: (string | Node)[] = [];
    if (read !== undefined && target === null) parts.push(named(read), " has not come before in this text: there is nothing to copy. ");
    else if (read !== undefined) {
      parts.push(named(read), " came before, and ", html("code", { class: "is-target" }, shown(tokens[target!]!)), " followed it. ");
      if (attention !== null) parts.push(`Head ${heads.name(head)} looks there with ${percent(attention)} of its attention. `);
    }
    if (next !== undefined && probability !== null) {
      const since = before === null ? "" : `, against ${percent(before)} before the window`;
      parts.push("The model expects ", named(next), ` next with probability ${percent(probability)}${since}.`);
      this.nextName.replaceChildren("next: ", named(next));
    }
    this.says.replaceChildren(...parts);
  }

  private get tokens(): readonly string[] {
    const { history, store } = this.context;
    return history.header.tokens[store.state.text] ?? [];
  }

  private get query(): number {
    return Math.min(this.context.store.state.query, Math.max(this.tokens.length - 1, 0));
  }

  /** Where induction points to: the token after an earlier copy of the query. */
  private get target(): number | null {
    const { history, store } = this.context;
    return history.header.targets[store.state.text]?.[this.query] ?? null;
  }

  /** Attention from the query to the target, null where it is not known. */
  private attention(): number | null {
    const { history, series, store } = this.context;
    const { index, head, text } = store.state;
    if (this.target === null || !series.any) return null;
    const pattern = series.get(index, head, text);
    return typeof pattern === "string" || !pattern.attention[0] ? null : row(pattern, this.query)[this.target]! * history.header.patternScale;
  }

  /** Of the token after the query, null where it is not known. */
  private probability(index: number): number | null {
    const { history, store } = this.context;
    const losses = history.curve("text_loss")?.y;
    const { text } = store.state;
    if (!losses || this.query + 1 >= this.tokens.length) return null;
    const length = losses.length / history.nSteps / history.header.texts.length;
    const loss = losses[(index * history.header.texts.length + text) * length + this.query + 1]!;
    return Number.isFinite(loss) ? Math.exp(-loss) : null;
  }

  /** Write the part of the text that tells the story, and draw the arc over it. */
  private write(): void {
    const { tokens, query, target } = this;
    this.words.replaceChildren();
    const size = this.measure();
    const chosen = excerpt(tokens, query, target, Math.max(Math.floor(this.width / size) - 2, 8));
    const places = new Map<number, HTMLElement>();
    let before = -1;
    for (const position of chosen) {
      if (position > before + 1) this.words.append(html("span", { class: "ik-hero-gap" }, "…"));
      const marks = [position === query && "is-query", position === target && "is-target", position === query + 1 && "is-next"];
      const element = html("span", { class: `ik-hero-token ${marks.filter(Boolean).join(" ")}`, "data-position": position }, shown(tokens[position]!));
      places.set(position, element);
      this.words.append(element);
      before = position;
    }
    const [from, to] = [places.get(query), target === null ? undefined : places.get(target)];
    for (const mark of [this.arc, this.head, this.weight]) mark.style.display = from && to ? "" : "none";
    setAll(this.arcs, { width: Math.max(this.width, 1) });
    if (from && to) this.bend(middle(from), middle(to));
  }

  private bend(from: number, to: number): void {
    const [low, high] = [ARC_HEIGHT - 3, ARC_HEIGHT - Math.min(24 + Math.abs(from - to) / 6, ARC_HEIGHT - 16)];
    // A cubic's middle lies three quarters of the way to its handles.
    const handle = low - (low - high) / 0.75;
    this.arc.setAttribute("d", `M${from},${low}C${from},${handle} ${to},${handle} ${to},${low - 5}`);
    this.head.setAttribute("d", `M${to - 5},${low - 7}h10l-5,8z`);
    setAll(this.weight, { x: Math.min(Math.max((from + to) / 2, 16), this.width - 16), y: high - 5 });
  }

  /** The width of a character. */
  private measure(): number {
    const probe = html("span", { class: "ik-hero-token" }, "x".repeat(20));
    this.words.append(probe);
    const width = probe.offsetWidth / 20;
    probe.remove();
    return width || 9;
  }
}

/** Positions around the query and its target, in order, that fit into so many characters. */
function excerpt(tokens: readonly string[], query: number, target: number | null, room: number): number[] {
  const chosen = new Set<number>();
  let left = room;
  const take = (position: number, needed: boolean): boolean => {
    if (position < 0 || position > query + 1 || position >= tokens.length || chosen.has(position)) return true;
    const size = [...shown(tokens[position]!)].length + SPACING;
    if (!needed && left < size) return false;
    left -= size;
    chosen.add(position);
    return true;
  };
  const ends = target === null ? [query] : [query, target - 1];
  for (const position of [query, query + 1, ...(target === null ? [] : [target - 1, target])]) take(position, true);
  for (let distance = 1; distance <= query; distance++) {
    const around = [...ends.map((end) => end - distance), ...(target === null ? [] : [target + distance])];
    if (!around.every((position) => take(position, false))) break;
  }
  return [...chosen].sort((one, other) => one - other);
}

/** A token as text: its spaces stay spaces, and several count as one. */
function shown(token: string): string {
  return shortened(label(token).replace(/ {2,}/g, " "), LONGEST) || "∅";
}

function middle(element: HTMLElement): number {
  return element.offsetLeft + element.offsetWidth / 2;
}

function percent(share: number): string {
  return share > 0 && share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}
