import { scaleLinear } from "d3-scale";
import { ColourScale } from "../common/colours";
import { setAll, svg } from "../common/dom";
import { Frame } from "../common/frame";
import { nearestWithin } from "../common/nearest";
import { path } from "../common/path";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import { decimal } from "../common/format";
import type { Changed } from "../common/store";
import { layerColour, themeOf } from "../common/theme";
import { scoreChoice, scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, sharedExtent, type View, words } from "./view";

const HEIGHT = 268;
const MARGIN = { top: 8, right: 14, bottom: 42, left: 62 };
/** With more heads than these the dots are smaller. */
const MANY = 64;
const CHOSEN_RADIUS = 6.5;
const REACH = 18;
/** From this share of the width on there is no room for a name. */
const NAME_LEFT = 0.85;
const LAYER = "layer";
const MOVING: Field[] = ["index", "head", "heads", "colour"];

/** Any two scores at the current checkpoint, one dot per head. */
export class ScatterView implements View {
  readonly panel = new Panel("scatter", "Score by score", "");
  private readonly frame = new Frame(this.panel.body, "Two scores of each head at the current checkpoint", HEIGHT, MARGIN);
  private readonly x = scaleLinear();
  private readonly y = scaleLinear();
  private readonly choices: ReturnType<typeof scoreChoice>[];
  private readonly bar = new ScaleBar();
  private readonly zeros: SVGPathElement;
  private readonly trail: SVGPathElement;
  private readonly rings: SVGGElement;
  private readonly chosen: SVGCircleElement;
  private readonly names: SVGGElement;

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.choices = [
      scoreChoice(context, "Across", "across"),
      scoreChoice(context, "Up", "up"),
      scoreChoice(context, "Colour", "colour", [LAYER]),
    ];
    this.panel.legend.append(...this.choices.map(({ element }) => element), this.bar.element);
    const { plot, front } = this.frame;
    this.zeros = svg("path", { class: "ik-zero" }, plot);
    this.trail = svg("path", { class: "ik-trail" }, plot);
    this.rings = svg("g", {}, plot);
    this.chosen = svg("circle", { class: "ik-dot-chosen", r: CHOSEN_RADIUS }, plot);
    this.names = svg("g", {}, front);
    this.frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: this.headAt(...this.frame.place(event)) });
    }));
    this.frame.svg.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.frame.svg.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(...this.frame.place(event));
      if (head !== null) pick(store, head, event.shiftKey);
    }));
  }

  draw(width: number): void {
    const { runs, store } = this.context;
    this.frame.resize(width);
    const spread = (name: string): [number, number] => {
      const [low, high] = sharedExtent(runs, name) ?? [0, 1];
      return [Math.min(low, 0), Math.max(high, 0.1)];
    };
    this.x.domain(spread(store.state.across)).nice(5).range([0, this.frame.width]);
    this.y.domain(spread(store.state.up)).nice(5).range([this.frame.height, 0]);
    const xTicks = { values: this.x.ticks(Math.min(8, this.frame.width / 60)), text: this.x.tickFormat(6) };
    const titles = { xTitle: words(store.state.across), yTitle: words(store.state.up) };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 5, grid: true, ...titles });
    this.zeros.setAttribute("d", `M0,${this.y(0)}H${this.frame.width}M${this.x(0)},0V${this.frame.height}`);
    for (const choice of this.choices) choice.show();
    this.move();
  }

  update(changed: Changed<State>): void {
    if (changed.has("across") || changed.has("up")) this.draw(this.frame.outerWidth);
    else if (MOVING.some((field) => changed.has(field))) this.move();
    else if (changed.has("hover")) this.point();
  }

  private place(index: number, head: number): [number, number] | null {
    const { history, store } = this.context;
    const x = this.x(history.scoreAt(store.state.across, index, head));
    const y = this.y(history.scoreAt(store.state.up, index, head));
    return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : null;
  }

  private move(): void {
    const { history, store } = this.context;
    const { index, head, across, up } = store.state;
    const colourOf = this.paint();
    const place = this.place(index, head);
    this.chosen.style.display = place ? "" : "none";
    if (place) setAll(this.chosen, { cx: place[0].toFixed(2), cy: place[1].toFixed(2) });
    this.chosen.style.fill = colourOf(head);
    this.trail.style.stroke = `var(--ik-layer-${history.heads.layerIndex(head)})`;
    this.trail.setAttribute("d", path(Array.from({ length: index + 1 }, (_, step) => this.place(step, head))));
    const [x, y] = [across, up].map((name) => scoreText(this.context, name, history.scoreAt(name, index, head)));
    this.panel.value.textContent = `${history.heads.name(head)}: ${place ? `${x}, ${y}` : "no data"}`;
    this.panel.element.dataset.head = history.heads.name(head);
    this.point();
  }

  /** All dots on the canvas; returns the colour of a head. */
  private paint(): (head: number) => string {
    const { history, store, root, runs } = this.context;
    const { index, colour } = store.state;
    const theme = themeOf(root);
    const scale = colour === LAYER ? null : ColourScale.over(theme, sharedExtent(runs, colour));
    this.bar.element.hidden = scale === null;
    if (scale) this.bar.show("", scale, (value) => decimal(value));
    const layers = history.header.layers.map((_, layer) => layerColour(theme, layer, history.header.layers.length));
    const colourOf = (head: number): string => {
      if (!scale) return layers[history.heads.layerIndex(head)]!;
      const value = history.scoreAt(colour, index, head);
      return Number.isNaN(value) ? "transparent" : scale.css(value);
    };
    const draw = this.frame.beginLayer();
    const radius = history.heads.n > MANY ? 3 : 4.5;
    draw.globalAlpha = scale ? 0.95 : 0.65;
    draw.lineWidth = 0.75;
    draw.strokeStyle = theme === "dark" ? "#9aa5b1" : "#5b6673";
    for (let head = 0; head < history.heads.n; head++) {
      const place = this.place(index, head);
      if (!place) continue;
      draw.beginPath();
      draw.arc(place[0], place[1], radius, 0, 2 * Math.PI);
      draw.fillStyle = colourOf(head);
      draw.fill();
      // Weak colours of a scale are near the ground's.
      if (scale) draw.stroke();
    }
    draw.globalAlpha = 1;
    return colourOf;
  }

  private point(): void {
    const { index, hover, head, heads } = this.context.store.state;
    this.names.replaceChildren();
    this.rings.replaceChildren();
    for (const other of heads) {
      const place = this.place(index, other);
      if (place && other !== head) svg("circle", { class: "ik-dot-pinned", r: 5.5, cx: place[0], cy: place[1] }, this.rings);
      if (other !== head && other !== hover) this.putName(other, "");
    }
    if (hover !== null && hover !== head) this.putName(hover, "");
    this.putName(head, "ik-strong");
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
  }

  /** The chosen head's name stands to the right of its dot and others' to the left, unless the edge is near. */
  private putName(head: number, kind: string): void {
    const { history, store } = this.context;
    const place = this.place(store.state.index, head);
    if (!place) return;
    const share = place[0] / this.frame.width;
    const left = kind ? share > NAME_LEFT : share > 1 - NAME_LEFT;
    const x = place[0] + (left ? -1 : 1) * (CHOSEN_RADIUS + 4);
    const anchor = left ? "end" : "start";
    const name = svg("text", { class: `ik-head-name ik-halo ${kind}`, x, y: place[1], dy: "0.35em", "text-anchor": anchor }, this.names);
    name.textContent = history.heads.name(head);
  }

  private headAt(x: number, y: number): number | null {
    const { history, store } = this.context;
    return nearestWithin(REACH, history.heads.n, (head) => {
      const place = this.place(store.state.index, head);
      return place ? Math.hypot(place[0] - x, place[1] - y) : NaN;
    });
  }
}
