import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { asksForScores } from "../common/head_search";
import { addLayerLegend } from "../common/layers";
import { nearestWithin } from "../common/nearest";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { Changed } from "../common/store";
import { layerColour, themeOf } from "../common/theme";
import { HeadList } from "./head_list";
import { TrainingFrame } from "./over_training";
import { scoreChoice, scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, foundHeads, sharedExtent, type View, words } from "./view";

const HEIGHT = 196;
const BLEED = 7;
const REACH = 9;
const NAME_HEIGHT = 13;
/** How strongly a line is drawn: found, and not found by a search. Many lines are thinner and fainter. */
const [FOUND, FEW, FAINT] = [0.5, 64, 0.08];
const FIELDS: Field[] = ["score", "search", "heads"];

/** Any score of every head over training. */
export class TrajectoryView implements View {
  readonly panel = new Panel("trajectories", "Heads over training", "");
  private readonly frame: TrainingFrame;
  private readonly list: HeadList;
  private readonly choice: ReturnType<typeof scoreChoice>;
  private readonly zero: SVGLineElement;
  private readonly hover: SVGPathElement;
  private readonly chosen: SVGPathElement;
  private readonly current: SVGCircleElement;
  private readonly names: SVGGElement;
  private readonly y = scaleLinear();
  private places = new Float32Array();

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    this.choice = scoreChoice(context, "Score", "score");
    this.panel.legend.append(this.choice.element);
    this.frame = new TrainingFrame(context, this.panel.body, "A score of each head over training", HEIGHT, true, BLEED);
    this.frame.takesPress = (event) => {
      const head = this.headAt(...this.frame.place(event));
      if (head !== null) pick(store, head, event.shiftKey);
      return head !== null;
    };
    this.zero = svg("line", { class: "ik-zero" }, this.frame.plot);
    this.hover = svg("path", { class: "ik-head-hover" }, this.frame.plot);
    this.chosen = svg("path", { class: "ik-head-chosen" }, this.frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, this.frame.plot);
    this.names = svg("g", {}, this.frame.front);
    addLayerLegend(this.panel, history.heads, "layer");
    this.frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: event.buttons ? null : this.headAt(...this.frame.place(event)) });
    }));
    this.frame.svg.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.list = new HeadList(context);
    this.panel.body.append(this.list.element);
  }

  draw(width: number): void {
    const { runs, store, axis } = this.context;
    this.frame.resize(width);
    const [low, high] = sharedExtent(runs, store.state.score) ?? [0, 1];
    this.y.domain([Math.min(low, 0), Math.max(high, 0.1)]).nice(5).range([this.frame.height, 0]);
    this.frame.drawAxes(this.y, 5);
    axis.resize(this.frame.width);
    this.places = Float32Array.from(axis.values, (value) => axis.xInside(value));
    setAll(this.zero, { x1: 0, x2: this.frame.width, y1: this.y(0), y2: this.y(0) });
    this.zero.style.display = low < 0 ? "" : "none";
    this.choice.show();
    this.panel.element.setAttribute("aria-label", `${words(store.state.score)} of each head over training`);
    this.paint();
    this.choose();
    this.list.update();
  }

  update(changed: Changed<State>): void {
    const { search } = this.context.store.state;
    if (changed.has("score")) this.draw(this.frame.outerWidth);
    else if (FIELDS.some((field) => changed.has(field)) || (changed.has("index") && asksForScores(search))) this.paint();
    if (changed.has("head") || changed.has("heads") || changed.has("hover")) this.choose();
    if (changed.has("index")) this.move();
    this.list.update(changed);
  }

  /** Every head's line on the canvas, those that a search does not find faint, the highlighted ones last and thick. */
  private paint(): void {
    const { history, store, root } = this.context;
    const { heads } = store.state;
    const [found, theme] = [foundHeads(this.context), themeOf(root)];
    const draw = this.frame.beginLayer();
    const many = (found?.size ?? history.heads.n) > FEW;
    draw.lineJoin = "round";
    const line = (head: number): void => {
      draw.strokeStyle = layerColour(theme, history.heads.layerIndex(head), history.header.layers.length);
      draw.beginPath();
      let pen = false;
      for (let index = 0; index < history.nSteps; index++) {
        const [x, y] = [this.places[index]!, this.yAt(index, head)];
        const known = Number.isFinite(x) && Number.isFinite(y);
        if (known && pen) draw.lineTo(x, y);
        else if (known) draw.moveTo(x, y);
        pen = known;
      }
      draw.stroke();
    };
    for (let head = 0; head < history.heads.n; head++) {
      draw.lineWidth = many ? 1 : 1.5;
      draw.globalAlpha = found && !found.has(head) ? FAINT : many ? FOUND / 1.6 : FOUND;
      line(head);
    }
    [draw.lineWidth, draw.globalAlpha] = [2.25, 0.9];
    for (const head of heads) line(head);
    draw.globalAlpha = 1;
  }

  private yAt(index: number, head: number): number {
    const { history, store } = this.context;
    return this.y(history.scoreAt(store.state.score, index, head));
  }

  private choose(): void {
    const { history, store } = this.context;
    const { head, heads, hover } = store.state;
    this.copyLine(head, this.chosen);
    this.hover.style.display = hover === null || hover === head ? "none" : "";
    if (hover !== null) this.copyLine(hover, this.hover);
    this.current.style.fill = `var(--ik-layer-${history.heads.layerIndex(head)})`;
    this.panel.element.dataset.head = history.heads.name(head);
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
    this.nameEnds([...new Set([head, ...(hover === null ? [] : [hover]), ...heads])]);
    this.move();
  }

  private move(): void {
    this.frame.moveMarker();
    const { axis, history, store } = this.context;
    const { index, head, hover, score } = store.state;
    const y = this.yAt(index, head);
    this.current.style.display = Number.isFinite(y) ? "" : "none";
    if (Number.isFinite(y)) setAll(this.current, { cx: axis.x(axis.values[index]!), cy: y });
    const shown = hover ?? head;
    this.panel.value.textContent = `head ${history.heads.name(shown)}: ${scoreText(this.context, score, history.scoreAt(score, index, shown))}`;
  }

  /** Show `head` again on top. */
  private copyLine(head: number, line: SVGPathElement): void {
    const places = Array.from(this.places, (x, index): [number, number] | null => {
      const y = this.yAt(index, head);
      return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : null;
    });
    line.setAttribute("d", path(places));
    line.style.stroke = `var(--ik-layer-${this.context.history.heads.layerIndex(head)})`;
  }

  /** Names at the ends of lines, moved apart where they would lie on each other; the first, the chosen head's, is bold. */
  private nameEnds(heads: number[]): void {
    const { history } = this.context;
    const ends = heads.flatMap((head) => {
      let last = history.nSteps - 1;
      while (last > 0 && !Number.isFinite(this.yAt(last, head))) last--;
      const y = this.yAt(last, head);
      return Number.isFinite(y) ? [{ head, y }] : [];
    });
    ends.sort((one, other) => one.y - other.y);
    this.names.replaceChildren();
    let free = -Infinity;
    for (const { head, y } of ends) {
      const at = Math.max(y, free);
      free = at + NAME_HEIGHT;
      if (at > this.frame.height + NAME_HEIGHT) break;
      const kind = head === heads[0] ? "ik-head-name ik-strong" : "ik-head-name";
      const name = svg("text", { class: kind, x: this.frame.width + 8, y: at, dy: "0.35em" }, this.names);
      name.style.fill = `var(--ik-layer-${history.heads.layerIndex(head)})`;
      name.textContent = history.heads.name(head);
    }
  }

  /** The head whose line passes nearest to a place, within reach; only those that a search finds. */
  private headAt(x: number, y: number): number | null {
    const { history } = this.context;
    const found = foundHeads(this.context);
    let right = 0;
    while (right < history.nSteps - 1 && this.places[right]! < x) right++;
    const left = Math.max(right - 1, 0);
    const [from, to] = [this.places[left]!, this.places[right]!];
    const share = to > from ? Math.min(Math.max((x - from) / (to - from), 0), 1) : 0;
    return nearestWithin(REACH, history.heads.n, (head) => {
      if (found && !found.has(head)) return NaN;
      const [before, after] = [this.yAt(left, head), this.yAt(right, head)];
      return Math.abs(before + (after - before) * share - y);
    });
  }
}
