import { html, setAll, svg } from "../common/dom";
import { decimal, shortened, visible } from "../common/format";
import type { Field } from "./state";
import { TokenStrip } from "./strip";
import { attentionColours, type Theme } from "../common/theme";
import { Panel } from "../common/panel";
import type { Context, View } from "./view";

const MARGIN = { top: 22, right: 2, bottom: 2, left: 42 };
/** Kept free of ticks for the names of the axes, at their ends. */
const [NAME_WIDTH, NAME_HEIGHT] = [46, 18];
const MAX_SIDE = 300;
/** Narrower than this, the tokens stand below the pattern instead of beside it. */
const BESIDE = 470;
const COLUMN_GAP = 20;
const MOVES: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

/** Attention of the chosen head on the chosen text: query by key, and the text itself. */
export class PatternView implements View {
  readonly panel = new Panel("pattern", "Attention pattern", "");
  private readonly layout = html("div", { class: "ik-pattern" });
  private readonly canvas = html("canvas", { class: "ik-canvas" });
  private readonly overlay = svg("svg", { class: "ik-overlay", tabindex: 0, role: "application" });
  private readonly ticks = svg("g", { class: "ik-axis" }, this.overlay);
  private readonly row = svg("rect", { class: "ik-row" }, this.overlay);
  private readonly cell = svg("rect", { class: "ik-cell" }, this.overlay);
  private readonly missing = html("p", { class: "ik-missing" }, "no data at this checkpoint");
  private readonly readout = html("p", { class: "ik-readout" });
  private readonly strip: TokenStrip;
  private readonly small = document.createElement("canvas");
  private colours = attentionColours("light");
  private side = MAX_SIDE;

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.strip = new TokenStrip(context);
    const plot = html("div", { class: "ik-matrix" }, this.canvas, this.overlay, this.missing);
    const beside = html("div", { class: "ik-beside" }, this.readout, this.strip.element);
    this.layout.append(html("div", {}, plot, scaleBar()), beside);
    this.panel.body.append(this.layout);
    setAll(this.overlay, {
      "aria-label": "Attention pattern, query by key. Arrow keys move the query and the key that are read out.",
      "aria-roledescription": "heat map",
    });
    const point = alert.guard((event: PointerEvent) => {
      const at = this.at(event);
      store.set(at ?? { key: null });
    });
    this.overlay.addEventListener("pointermove", point);
    this.overlay.addEventListener("pointerdown", point);
    this.overlay.addEventListener("pointerleave", () => store.set({ key: null }));
    this.overlay.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.moveByKey(event)));
  }

  private get nTokens(): number {
    return this.context.history.header.tokens[this.context.store.state.text]?.length ?? 0;
  }

  draw(width: number): void {
    const beside = width >= BESIDE;
    this.layout.classList.toggle("is-beside", beside);
    const room = (beside ? (width - COLUMN_GAP) * 0.54 : width) - MARGIN.left - MARGIN.right;
    this.side = Math.max(Math.min(room, MAX_SIDE), 60);
    this.layout.style.setProperty("--ik-side", `${this.side + MARGIN.left + MARGIN.right}px`);
    this.colours = attentionColours((this.context.root.dataset.theme ?? "light") as Theme);
    setAll(this.overlay, { width: this.side + MARGIN.left + MARGIN.right, height: this.side + MARGIN.top + MARGIN.bottom });
    this.canvas.style.cssText = `left:${MARGIN.left}px;top:${MARGIN.top}px;width:${this.side}px;height:${this.side}px`;
    this.paintScaleBar();
    this.drawTicks();
    this.paint();
    this.strip.draw(this.colours);
    this.point();
  }

  update(changed: ReadonlySet<Field>): void {
    if (changed.has("text")) this.drawTicks();
    if (changed.has("index") || changed.has("head") || changed.has("text")) this.paint();
    this.strip.update(changed, this.colours);
    if (["index", "head", "text", "query", "key"].some((field) => changed.has(field as Field))) this.point();
  }

  /** One pixel per cell, then scaled without smoothing. */
  private paint(): void {
    const { history, store } = this.context;
    const { index, head, text } = store.state;
    const n = this.nTokens;
    const first = n ? history.attention(index, head, text, 0) : undefined;
    // The first token can attend to itself alone; a scan that left it at 0 wrote no pattern here.
    this.missing.hidden = Boolean(first?.[0]);
    setAll(this.overlay, { "data-shown": `${index}/${head}/${text}` });
    this.small.width = this.small.height = Math.max(n, 1);
    const image = new ImageData(this.small.width, this.small.height);
    for (let query = 0; query < n && first?.[0]; query++) {
      const weights = history.attention(index, head, text, query)!;
      for (let key = 0; key <= query; key++) {
        const [to, from] = [4 * (query * n + key), 3 * weights[key]!];
        for (let channel = 0; channel < 3; channel++) image.data[to + channel] = this.colours[from + channel]!;
        image.data[to + 3] = 255;
      }
    }
    this.small.getContext("2d")!.putImageData(image, 0, 0);
    const pixels = Math.round(this.side * devicePixelRatio);
    if (this.canvas.width !== pixels) this.canvas.width = this.canvas.height = pixels;
    const draw = this.canvas.getContext("2d")!;
    draw.imageSmoothingEnabled = false;
    draw.clearRect(0, 0, pixels, pixels);
    draw.drawImage(this.small, 0, 0, pixels, pixels);
    this.panel.value.textContent = `head ${history.headName(head)}`;
    this.panel.element.dataset.head = history.headName(head);
  }

  private drawTicks(): void {
    const n = this.nTokens;
    this.ticks.replaceChildren();
    const step = n <= 12 ? 2 : n <= 32 ? 8 : n <= 96 ? 16 : n <= 320 ? 64 : 128;
    const size = this.side / Math.max(n, 1);
    for (let position = 0; position < n; position += step) {
      const at = (position + 0.5) * size;
      if (at < this.side - NAME_WIDTH) {
        const tick = svg("text", { x: MARGIN.left + at, y: MARGIN.top - 5, "text-anchor": "middle" }, this.ticks);
        tick.textContent = String(position);
      }
      if (at < this.side - NAME_HEIGHT) {
        const place = { x: MARGIN.left - 5, y: MARGIN.top + at, dy: "0.35em", "text-anchor": "end" };
        svg("text", place, this.ticks).textContent = String(position);
      }
    }
    const key = svg("text", { x: MARGIN.left + this.side, y: MARGIN.top - 5, class: "ik-name", "text-anchor": "end" });
    key.textContent = "key →";
    const query = svg("text", { x: MARGIN.left - 5, y: MARGIN.top + this.side - 3, class: "ik-name", "text-anchor": "end" });
    query.textContent = "query";
    this.ticks.append(key, query);
  }

  /** Mark the query's row and the key's cell, and say what is there. */
  private point(): void {
    const { history, store } = this.context;
    const { index, head, text, query, key } = store.state;
    const tokens = history.header.tokens[text] ?? [];
    const size = this.side / Math.max(tokens.length, 1);
    const weights = tokens.length ? history.attention(index, head, text, query) : undefined;
    const [top, left] = [MARGIN.top + query * size, MARGIN.left];
    setAll(this.row, { x: left, y: top, width: (query + 1) * size, height: Math.max(size, 1) });
    this.cell.style.display = key === null ? "none" : "";
    setAll(this.cell, { x: left + (key ?? 0) * size, y: top, width: Math.max(size, 2), height: Math.max(size, 2) });
    if (!weights) return this.readout.replaceChildren("no data");
    const shown = key ?? weights.indexOf(Math.max(...weights));
    const value = weights[shown]! * history.header.patternScale;
    this.readout.replaceChildren(
      tokenBox(tokens[query]!, `query ${query}`),
      html("span", { class: "ik-arrow" }, key === null ? "most to" : "→"),
      tokenBox(tokens[shown]!, `key ${shown}`),
      html("span", { class: "ik-number" }, decimal(value)),
    );
  }

  private at(event: PointerEvent): { query: number; key: number } | null {
    const box = this.overlay.getBoundingClientRect();
    const cell = (place: number): number => Math.floor((place / this.side) * this.nTokens);
    const key = cell(event.clientX - box.left - MARGIN.left);
    const query = cell(event.clientY - box.top - MARGIN.top);
    return key >= 0 && key <= query && query < this.nTokens ? { query, key } : null;
  }

  private moveByKey(event: KeyboardEvent): void {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const { query, key } = this.context.store.state;
    const nextQuery = Math.min(Math.max(query + move[0], 0), this.nTokens - 1);
    const nextKey = Math.min(Math.max((key ?? nextQuery) + move[1], 0), nextQuery);
    this.context.store.set({ query: nextQuery, key: nextKey });
  }

  private paintScaleBar(): void {
    const bar = this.layout.querySelector<HTMLElement>(".ik-scale-ramp")!;
    const stops = Array.from({ length: 17 }, (_, part) => {
      const value = Math.round((part / 16) ** 2 * 255);
      return `rgb(${[...this.colours.subarray(3 * value, 3 * value + 3)].join(" ")})`;
    });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  }
}

function tokenBox(token: string, title: string): HTMLElement {
  const shown = visible(token);
  return html("span", { class: "ik-token-named" }, html("small", {}, title), html("code", { title: shown }, shortened(shown)));
}

/** What the colours stand for; the colours follow the square root of attention. */
function scaleBar(): HTMLElement {
  const marks = [0, 0.1, 0.25, 0.5, 1].map((value) => {
    const mark = html("span", {}, String(value));
    mark.style.left = `${Math.sqrt(value) * 100}%`;
    return mark;
  });
  return html(
    "div",
    { class: "ik-scale", "aria-hidden": "true" },
    html("span", { class: "ik-scale-name" }, "attention"),
    html("div", { class: "ik-scale-bar" }, html("div", { class: "ik-scale-ramp" }), html("div", { class: "ik-scale-marks" }, ...marks)),
  );
}
