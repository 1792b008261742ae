import { attentionColours, ColourScale, inkOn } from "../common/colours";
import { Segments } from "../common/controls";
import { html, setAll } from "../common/dom";
import { decimal } from "../common/format";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import { themeOf } from "../common/theme";
import { extent } from "../common/arrays";
import type { Changed } from "../common/store";
import { row, type Pattern } from "./pattern_series";
import { type Cell, Matrix, strongestKey } from "./matrix";
import type { Field, State } from "./state";
import { TokenRow, tokenBox, type Look } from "./tokens";
import type { Context, View } from "./view";

/** Narrower than this, the tokens stand below the pattern instead of beside it. */
const BESIDE = 640;
const [COLUMN_GAP, SHARE] = [20, 0.6];
const FIELDS: Field[] = ["index", "head", "text", "query", "key"];
const WHY = {
  asked: "asking the kernel …",
  absent: "this head's pattern was not saved with this page, and no kernel answers",
  none: "no data at this checkpoint",
};

/** Attention of the chosen head on the chosen text: query by key, and the text itself. */
export class PatternView implements View {
  readonly panel = new Panel("pattern", "Attention pattern", "");
  private readonly layout = html("div", { class: "ik-pattern" });
  private readonly readout = html("p", { class: "ik-readout" });
  private readonly matrix: Matrix;
  private readonly strip: TokenRow;
  private readonly shade: Segments<"attention" | "OV lift">;
  private readonly lifts = new ScaleBar();
  private shading: "attention" | "OV lift" = "attention";
  private colours = attentionColours("light");

  constructor(private readonly context: Pick<Context, "history" | "store" | "series" | "alert" | "root">) {
    const { store, alert, series } = context;
    this.matrix = new Matrix((cell) => store.set(cell));
    this.strip = new TokenRow(alert, "Tokens of the text, shaded by what the head does with each", (position) => {
      if (position !== null) store.set({ query: position, key: null });
    });
    this.shade = new Segments("Shade tokens by", ["attention", "OV lift"], alert.guard((shading) => {
      this.shading = shading;
      this.refresh();
    }));
    const tools = html("div", { class: "ik-strip-tools" }, this.shade.element, this.lifts.element);
    tools.hidden = !series.anyLift;
    const beside = html("div", { class: "ik-beside" }, this.readout, tools, this.strip.element);
    this.layout.append(html("div", {}, this.matrix.element, scaleBar()), beside);
    this.panel.body.append(this.layout);
    const { overlay } = this.matrix;
    const help = "Arrow keys move the query and the key that are read out.";
    setAll(overlay, { "aria-label": `Attention pattern, query by key. ${help}` });
    const point = alert.guard((event: PointerEvent) => store.set(this.matrix.cellAt(event) ?? { key: null }));
    overlay.addEventListener("pointermove", point);
    overlay.addEventListener("pointerdown", point);
    overlay.addEventListener("pointerleave", () => store.set({ key: null }));
    overlay.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.matrix.moveByKey(event, store.state)));
  }

  draw(width: number): void {
    const beside = width >= BESIDE;
    this.layout.classList.toggle("is-beside", beside);
    const side = this.matrix.resize(beside ? (width - COLUMN_GAP) * SHARE : width);
    this.layout.style.setProperty("--ik-side", `${side}px`);
    this.colours = attentionColours(themeOf(this.context.root));
    this.paintScaleBar();
    this.write();
    this.refresh();
  }

  update(changed: Changed<State>): void {
    if (changed.has("text")) this.write();
    if (changed.has("index") || changed.has("head") || changed.has("text")) this.refresh();
    else if (FIELDS.some((field) => changed.has(field))) this.point();
  }

  /** Draw the pattern, which may just have arrived. */
  refresh(): void {
    const { history, store } = this.context;
    const { index, head, text } = store.state;
    const got = this.pattern();
    this.matrix.paint(typeof got === "string" ? null : got, this.colours, typeof got === "string" ? WHY[got] : "");
    const shown = got === "asked" || got === "absent" ? got : `${index}/${head}/${text}`;
    setAll(this.matrix.overlay, { "data-shown": shown });
    this.panel.value.textContent = `head ${history.heads.name(head)}`;
    this.panel.element.dataset.head = history.heads.name(head);
    this.point();
  }

  private get tokens(): readonly string[] {
    const { history, store } = this.context;
    return history.header.tokens[store.state.text] ?? [];
  }

  private write(): void {
    this.matrix.write(this.tokens);
    this.strip.write(this.tokens);
  }

  private pattern(): Pattern | "asked" | "absent" | "none" {
    const { store, series } = this.context;
    const { index, head, text } = store.state;
    const got = series.get(index, head, text);
    // The first token can attend to itself alone; a scan that left it at 0 wrote no pattern here.
    return typeof got !== "string" && !(this.tokens.length && got.attention[0]) ? "none" : got;
  }

  /** Mark the query's row and the key's cell, say what is there, and shade the text. */
  private point(): void {
    const { query, key } = this.context.store.state;
    this.matrix.mark({ query, key });
    const got = this.pattern();
    const known = typeof got === "string" || query >= this.tokens.length ? null : got;
    this.readOut(known, { query, key });
    this.shadeTokens(known, { query, key });
  }

  private readOut(pattern: Pattern | null, { query, key }: Cell): void {
    if (!pattern) return this.readout.replaceChildren("no data");
    const shown = key ?? strongestKey(pattern, query);
    const value = row(pattern, query)[shown]! * this.context.history.header.patternScale;
    const lift = pattern.lift?.[shown];
    const lifted = html("small", { class: "ik-lift" }, `OV logit lift ${decimal(lift)} nats`);
    this.readout.replaceChildren(
      tokenBox(this.tokens[query]!, `query ${query}`),
      html("span", { class: "ik-arrow" }, key === null ? "most to" : "→"),
      tokenBox(this.tokens[shown]!, `key ${shown}`),
      html("span", { class: "ik-number" }, decimal(value), ...(lift === undefined ? [] : [lifted])),
    );
  }

  private shadeTokens(pattern: Pattern | null, { query, key }: Cell): void {
    const { root } = this.context;
    this.shade.show(this.shading);
    const weights = pattern && row(pattern, query);
    const lift = this.shading === "OV lift" ? pattern?.lift : undefined;
    const scale = ColourScale.over(themeOf(root), extent(lift ?? []));
    this.lifts.element.hidden = !lift;
    if (lift) this.lifts.show("nats", scale, (value) => decimal(value, 1));
    this.strip.shade((position): Look => {
      const later = position > query && !lift;
      const marks = [position === query && "is-query", position === key && "is-key", later && "is-later"].filter(Boolean).join(" ");
      if (lift && Number.isFinite(lift[position])) {
        return { ground: scale.css(lift[position]!), ink: scale.ink(lift[position]!), marks };
      }
      if (!weights || position > query) return { ground: "", ink: "", marks };
      const colour = [...this.colours.subarray(3 * weights[position]!, 3 * weights[position]! + 3)];
      return { ground: `rgb(${colour.join(" ")})`, ink: inkOn(colour), marks };
    });
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
