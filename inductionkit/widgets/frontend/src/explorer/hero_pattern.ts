import { between, type Colour } from "../common/colours";
import { html, pointer, setAll, svg } from "../common/dom";
import { Panel } from "../common/panel";
import type { Changed } from "../common/store";
import { type Theme, themeOf } from "../common/theme";
import { type Pattern, row } from "./pattern_series";
import { Pixels } from "./pixels";
import type { State } from "./state";
import type { Context, View } from "./view";

/** Room for the names of the axes, above and to the left; the largest side. */
const [EDGE, MAX_SIDE] = [18, 330];
/** Attention from none to all: where induction points, and anywhere else. */
const STRIPE: Record<Theme, Colour[]> = {
  light: [[252, 238, 226], [238, 138, 58], [176, 72, 4]],
  dark: [[48, 36, 28], [196, 104, 36], [255, 190, 128]],
};
const ELSEWHERE: Record<Theme, Colour[]> = {
  light: [[241, 244, 248], [176, 196, 218], [84, 116, 152]],
  dark: [[27, 32, 39], [58, 78, 100], [140, 168, 196]],
};
/** Weak attention is drawn stronger than it is, so that it can be seen. */
const POWER = 0.7;
const WHY = {
  asked: "asking the kernel …",
  absent: "this head's pattern was not saved with this page",
  none: "no attention was measured at this checkpoint",
};

/** The attention of the chosen head on the text, with the cells that induction points to in a colour of their own. */
export class HeroPattern implements View {
  readonly panel = new Panel("hero-pattern", "Attention");
  private readonly place = html("div", { class: "ik-hero-matrix" });
  private readonly canvas = html("canvas", { class: "ik-hero-canvas" });
  private readonly marks = svg("svg", { class: "ik-hero-marks", role: "img" });
  private readonly missing = html("p", { class: "ik-missing" });
  private readonly row = svg("rect", { class: "ik-hero-row" }, this.marks);
  private readonly target = svg("rect", { class: "ik-hero-target" }, this.marks);
  private readonly names = [svg("text", { "text-anchor": "start" }, this.marks), svg("text", { "text-anchor": "end" }, this.marks)];
  private readonly pixels = new Pixels(this.canvas);
  private side = MAX_SIDE;
  private colours: Record<"stripe" | "elsewhere", Uint32Array> = { stripe: new Uint32Array(256), elsewhere: new Uint32Array(256) };
  private named = "";

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.place.append(this.canvas, this.marks, this.missing);
    this.panel.body.append(this.place);
    this.names[0]!.textContent = "looks back at →";
    this.names[1]!.textContent = "← token being read";
    this.marks.addEventListener("pointerdown", alert.guard((event: PointerEvent) => {
      const query = Math.floor(((pointer(event, this.marks)[1] - EDGE) / this.side) * this.tokens.length);
      if (query >= 0 && query < this.tokens.length) store.set({ query, key: null });
    }));
  }

  draw(width: number): void {
    this.side = Math.max(Math.min(width - EDGE, MAX_SIDE), 60);
    const [box, corner] = [this.side + EDGE, `${EDGE}px`];
    setAll(this.marks, { width: box, height: box });
    setAll(this.names[0]!, { x: EDGE, y: EDGE - 6 });
    setAll(this.names[1]!, { transform: `translate(${EDGE - 6},${EDGE}) rotate(-90)` });
    this.place.style.width = `${box}px`;
    const theme = themeOf(this.context.root);
    this.colours = { stripe: palette(STRIPE[theme]), elsewhere: palette(ELSEWHERE[theme]) };
    Object.assign(this.canvas.style, { left: corner, top: corner, width: `${this.side}px`, height: `${this.side}px` });
    this.refresh();
  }

  update(changed: Changed<State>): void {
    if (changed.has("index") || changed.has("head") || changed.has("text")) this.refresh();
    else if (changed.has("query")) this.point();
  }

  /** Draw the pattern, which may just have arrived. */
  refresh(): void {
    const { history, series, store } = this.context;
    const { index, head, text } = store.state;
    const got = series.get(index, head, text);
    // The first token can attend to itself alone; a scan that left it at 0 wrote no pattern here.
    const why = typeof got === "string" ? got : got.attention[0] ? null : "none";
    this.name(`Attention of head ${history.heads.name(head)}`);
    this.panel.element.dataset.shown = why ?? `${index}/${head}/${text}`;
    this.missing.textContent = why && WHY[why];
    this.missing.hidden = why === null;
    this.paint(why === null ? (got as Pattern) : null);
    this.point();
  }

  private get tokens(): readonly string[] {
    const { history, store } = this.context;
    return history.header.tokens[store.state.text] ?? [];
  }

  private name(title: string): void {
    if (title === this.named) return;
    this.named = title;
    this.panel.entitle(title, "");
    setAll(this.marks, { "aria-label": `${title} on the text below, token by token` });
  }

  private paint(pattern: Pattern | null): void {
    const { history, store } = this.context;
    const targets = history.header.targets[store.state.text] ?? [];
    const { stripe, elsewhere } = this.colours;
    const rows = pattern && this.tokens.map((_, query) => row(pattern, query));
    const colour = (query: number, key: number) => (key === targets[query] ? stripe : elsewhere)[rows![query]![key]!]!;
    this.pixels.paint(this.tokens.length, this.side, rows && colour);
  }

  /** The query's row, and in it the place that induction points to. */
  private point(): void {
    const { history, store } = this.context;
    const { text, query } = store.state;
    const size = this.side / Math.max(this.tokens.length, 1);
    const [y, key] = [EDGE + query * size, history.header.targets[text]?.[query] ?? null];
    setAll(this.row, { x: EDGE, y, width: (query + 1) * size, height: size });
    this.target.style.display = key === null ? "none" : "";
    setAll(this.target, { x: EDGE + (key ?? 0) * size - 1, y: y - 1, width: size + 2, height: size + 2 });
  }
}

/** 256 colours as canvas pixels. */
function palette(stops: readonly Colour[]): Uint32Array {
  const bytes = Uint8ClampedArray.from(Array.from({ length: 256 }, (_, value) => [...between(stops, (value / 255) ** POWER), 255]).flat());
  return new Uint32Array(bytes.buffer);
}
