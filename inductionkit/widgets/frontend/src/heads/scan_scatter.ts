import { scaleLinear } from "d3-scale";
import { choice } from "../common/controls";
import { extent } from "../common/arrays";
import { html, setAll, svg } from "../common/dom";
import { label } from "../common/format";
import { Frame } from "../common/frame";
import { addLayerLegend } from "../common/layers";
import { nearestWithin } from "../common/nearest";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { number, spaced } from "./numbers";
import type { Context, Score, State } from "./scan_data";

const HEIGHT = 300;
const MARGIN = { top: 10, right: 16, bottom: 40, left: 62 };
const [RADIUS, CHOSEN_RADIUS, MARK_RADIUS] = [4.5, 6.5, 8];
const REACH = 18;
const NULL_RADIUS = 1.6;
/** From this share of the width on, a dot's name stands to its left. */
const NAME_LEFT = 0.88;

/** Any two scores against each other, a dot per head, over what they are on models without structure. */
export class ScoreScatter implements View<State> {
  readonly panel = new Panel("scatter", "Two scores", "a dot per head");
  private readonly frame: Frame;
  private readonly x = scaleLinear();
  private readonly y = scaleLinear();
  private readonly selects: Record<"x" | "y", HTMLSelectElement>;
  private readonly thresholds = svg("g", { class: "ik-thresholds" });
  private readonly rings = svg("g", { class: "ik-rings" });
  private readonly dots: SVGCircleElement[] = [];
  private readonly chosen = svg("circle", { class: "ik-dot-chosen", r: CHOSEN_RADIUS });
  private readonly names: Record<"head" | "hover", SVGTextElement>;
  private places: ([number, number] | null)[] = [];

  constructor(private readonly context: Context) {
    const { scan, store, alert } = context;
    const options = (): HTMLElement[] =>
      scan.axes.map((index) => new Option(spaced(label(scan.scores[index]!.name)), String(index)));
    const across = choice("across", options(), alert.guard((index: string) => store.set({ x: Number(index) })));
    const up = choice("up", options(), alert.guard((index: string) => store.set({ y: Number(index) })));
    this.selects = { x: across.select, y: up.select };
    this.panel.body.append(html("div", { class: "ik-choices" }, up.element, across.element));
    this.frame = new Frame(this.panel.body, "Two scores against each other, a dot per head", HEIGHT, MARGIN);
    const { plot, front } = this.frame;
    plot.append(this.thresholds, this.rings);
    for (let head = 0; head < scan.heads.n; head++) {
      const dot = svg("circle", { class: "ik-dot", r: RADIUS, "data-head": scan.heads.name(head) }, plot);
      dot.style.fill = `var(--ik-layer-${scan.heads.layerIndex(head)})`;
      this.dots.push(dot);
    }
    plot.append(this.chosen);
    const name = (kind: string): SVGTextElement => svg("text", { class: `ik-head-name ik-halo ${kind}`, dy: "0.35em" }, front);
    this.names = { hover: name(""), head: name("ik-strong") };
    this.listen();
    addLayerLegend(this.panel, scan.heads, "spot");
    this.panel.addLegend("ring", "marked");
    if (scan.scores.some((score) => score.nullValues)) this.panel.addLegend("cloud", "re-initialised models");
    if (Object.keys(scan.header.thresholds).length) this.panel.addLegend("threshold", "threshold");
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { scan, store } = this.context;
    const [x, y] = [scan.scores[store.state.x]!, scan.scores[store.state.y]!];
    this.selects.x.value = String(store.state.x);
    this.selects.y.value = String(store.state.y);
    this.x.domain(domain(x)).nice(5).range([0, this.frame.width]);
    this.y.domain(domain(y)).nice(5).range([this.frame.height, 0]);
    const xTicks = { values: this.x.ticks(Math.min(8, this.frame.width / 60)), text: this.x.tickFormat(6) };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 5, grid: true, xTitle: titleOf(x), yTitle: titleOf(y) });
    this.drawNulls(x, y);
    this.drawThresholds(x, y);
    this.places = this.dots.map((_, head) => {
      const place: [number, number] = [this.x(x.values[head]!), this.y(y.values[head]!)];
      return place.every(Number.isFinite) ? place : null;
    });
    for (const [head, dot] of this.dots.entries()) put(dot, this.places[head]!);
    this.mark();
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("x") || changed.has("y")) return this.draw(this.frame.outerWidth);
    if (changed.has("marked")) this.mark();
    if (changed.has("head") || changed.has("hover")) this.point();
  }

  private listen(): void {
    const { store, alert } = this.context;
    const { svg: surface } = this.frame;
    surface.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: this.headAt(...this.frame.place(event)) });
    }));
    surface.addEventListener("pointerleave", () => store.set({ hover: null }));
    surface.addEventListener("click", alert.guard((event: MouseEvent) => {
      const head = this.headAt(...this.frame.place(event));
      if (head !== null) store.set({ head });
    }));
  }

  /** The null heads: each is a head of a re-initialised model, with both of its scores. */
  private drawNulls(x: Score, y: Score): void {
    const draw = this.frame.beginLayer();
    if (!x.nullValues || !y.nullValues) return;
    draw.fillStyle = getComputedStyle(this.context.root).getPropertyValue("--ik-control");
    draw.globalAlpha = 0.45;
    for (const [index, value] of x.nullValues.entries()) {
      const [atX, atY] = [this.x(value), this.y(y.nullValues[index]!)];
      if (!Number.isFinite(atX + atY)) continue;
      draw.beginPath();
      draw.arc(atX, atY, NULL_RADIUS, 0, 2 * Math.PI);
      draw.fill();
    }
    draw.globalAlpha = 1;
  }

  private drawThresholds(x: Score, y: Score): void {
    const { width, height } = this.frame;
    this.thresholds.replaceChildren();
    const line = (ends: Record<string, number>): void => void svg("line", { class: "ik-threshold", ...ends }, this.thresholds);
    if (x.threshold !== undefined) line({ x1: this.x(x.threshold), x2: this.x(x.threshold), y1: 0, y2: height });
    if (y.threshold !== undefined) line({ x1: 0, x2: width, y1: this.y(y.threshold), y2: this.y(y.threshold) });
  }

  private mark(): void {
    this.rings.replaceChildren();
    for (const head of this.context.store.state.marked) {
      if (this.places[head]) put(svg("circle", { class: "ik-ring", r: MARK_RADIUS }, this.rings), this.places[head]);
    }
  }

  private point(): void {
    const { scan, store } = this.context;
    const { head, hover, x, y } = store.state;
    put(this.chosen, this.places[head]!);
    this.chosen.style.fill = `var(--ik-layer-${scan.heads.layerIndex(head)})`;
    this.putName(this.names.head, head, MARK_RADIUS);
    this.putName(this.names.hover, hover === head ? null : hover, MARK_RADIUS);
    this.names.head.style.opacity = hover === null || hover === head ? "" : "0.35";
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
    const shown = hover ?? head;
    const values = [scan.scores[x]!, scan.scores[y]!].map((score) => number(score.values[shown], score.digits));
    this.panel.value.textContent = `head ${scan.heads.name(shown)}: ${values.join(", ")}`;
  }

  private putName(name: SVGTextElement, head: number | null, away: number): void {
    const place = head === null ? null : this.places[head];
    name.style.display = place ? "" : "none";
    if (head === null || !place) return;
    const left = place[0] > this.frame.width * NAME_LEFT;
    setAll(name, { x: place[0] + (left ? -1 : 1) * (away + 4), y: place[1], "text-anchor": left ? "end" : "start" });
    name.textContent = this.context.scan.heads.name(head);
  }

  private headAt(x: number, y: number): number | null {
    return nearestWithin(REACH, this.places.length, (head) => {
      const place = this.places[head];
      return place ? Math.hypot(place[0] - x, place[1] - y) : NaN;
    });
  }
}

/** From zero or below to where the heads, their nulls and the threshold lie. */
function domain(score: Score): [number, number] {
  const seen = [...score.values, ...(score.nullValues ?? []), score.threshold ?? 0, 0];
  const [low, high] = extent(seen)!;
  const pad = (high - low || 1) * 0.02;
  return [low < 0 ? low - pad : low, high + pad];
}

function titleOf(score: Score): string {
  return spaced(label(score.name)) + (score.units ? ` (${label(score.units)})` : "");
}

function put(dot: SVGCircleElement, place: [number, number] | null): void {
  dot.style.display = place ? "" : "none";
  if (place) setAll(dot, { cx: place[0].toFixed(2), cy: place[1].toFixed(2) });
}
