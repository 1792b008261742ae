import { scaleLinear } from "d3-scale";
import { html, setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { Panel } from "../common/panel";
import { TrainingFrame } from "./over_training";
import type { Values } from "../common/arrays";
import type { Field } from "./state";
import type { Context, View } from "./view";

const HEIGHT = 196;
const BLEED = 7;
const REACH = 9;
/** With more layers than this, the legend is a ramp. */
const MANY_LAYERS = 6;

/** Prefix matching of every head over training. */
export class TrajectoryView implements View {
  readonly panel = new Panel("trajectories", "Prefix matching", "each head");
  private readonly frame: HeadFrame;
  private readonly lines: SVGPathElement[] = [];
  private readonly hover: SVGPathElement;
  private readonly chosen: SVGPathElement;
  private readonly current: SVGCircleElement;
  private readonly chosenName: SVGTextElement;
  private readonly hoverName: SVGTextElement;
  private readonly y = scaleLinear();

  constructor(
    private readonly context: Context,
    private readonly prefix: Values,
  ) {
    const { history, store, alert } = context;
    this.frame = new HeadFrame(context, this.panel.body, "Prefix matching of each head over training", HEIGHT, true, BLEED);
    this.frame.headAt = (x, y) => this.headAt(x, y);
    const group = svg("g", { class: "ik-heads" }, this.frame.plot);
    for (let head = 0; head < history.nHeads; head++) {
      this.lines.push(svg("path", { class: "ik-head-line", "data-head": history.headName(head) }, group));
      this.lines[head]!.style.stroke = `var(--ik-layer-${history.layerIndex(head)})`;
    }
    this.hover = svg("path", { class: "ik-head-hover" }, this.frame.plot);
    this.chosen = svg("path", { class: "ik-head-chosen" }, this.frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, this.frame.plot);
    this.hoverName = svg("text", { class: "ik-head-name", x: 6, dy: "0.35em" }, this.frame.front);
    this.chosenName = svg("text", { class: "ik-head-name ik-strong", x: 6, dy: "0.35em" }, this.frame.front);
    for (const [index, layer] of history.header.layers.entries()) {
      this.panel.addLegend("layer", `layer ${layer}`, `var(--ik-layer-${index})`);
    }
    const leave = (): void => store.set({ hover: null });
    this.frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: event.buttons ? null : this.headAt(...this.frame.place(event)) });
    }));
    this.frame.svg.addEventListener("pointerleave", leave);
    if (history.header.layers.length > MANY_LAYERS) this.panel.legend.replaceChildren(this.ramp());
  }

  draw(width: number): void {
    this.frame.resize(width);
    const top = [...this.prefix].reduce((most, value) => (value > most && value < Infinity ? value : most), 0.1);
    this.y.domain([0, top]).nice(5).range([this.frame.height, 0]);
    this.frame.drawAxes(this.y, 5);
    const { history } = this.context;
    for (const [head, path] of this.lines.entries()) {
      path.setAttribute("d", this.frame.pathOf(history.elapsed, (index) => this.score(index, head), this.y));
    }
    this.choose();
    this.point();
  }

  update(changed: ReadonlySet<Field>): void {
    if (changed.has("head")) this.choose();
    if (changed.has("index")) this.move();
    if (changed.has("hover")) this.point();
  }

  private score(index: number, head: number): number {
    return this.prefix[index * this.context.history.nHeads + head]!;
  }

  private choose(): void {
    const { history, store } = this.context;
    const { head } = store.state;
    this.copyLine(head, this.chosen, this.chosenName);
    this.current.style.fill = `var(--ik-layer-${history.layerIndex(head)})`;
    this.panel.element.dataset.head = history.headName(head);
    this.move();
  }

  private point(): void {
    const { hover, head } = this.context.store.state;
    const shown = hover !== null && hover !== head;
    for (const element of [this.hover, this.hoverName]) element.style.display = shown ? "" : "none";
    if (shown) this.copyLine(hover, this.hover, this.hoverName);
    this.chosenName.style.opacity = shown ? "0.25" : "";
    this.frame.svg.style.cursor = hover === null ? "" : "pointer";
  }

  private move(): void {
    this.frame.moveMarker();
    const { axis, history, store } = this.context;
    axis.resize(this.frame.width);
    const { index, head } = store.state;
    const score = this.score(index, head);
    this.current.style.display = Number.isFinite(score) ? "" : "none";
    if (Number.isFinite(score)) setAll(this.current, { cx: axis.x(history.elapsed[index]!), cy: this.y(score) });
    this.panel.value.textContent = `head ${history.headName(head)}: ${decimal(score)}`;
  }

  /** Show `head` again on top, with its name at the end of its line. */
  private copyLine(head: number, path: SVGPathElement, name: SVGTextElement): void {
    const { history } = this.context;
    const colour = `var(--ik-layer-${history.layerIndex(head)})`;
    path.setAttribute("d", this.lines[head]!.getAttribute("d") ?? "");
    path.style.stroke = colour;
    name.style.fill = colour;
    let last = history.nSteps - 1;
    while (last > 0 && !Number.isFinite(this.score(last, head))) last--;
    const end = this.score(last, head);
    name.textContent = Number.isFinite(end) ? history.headName(head) : "";
    if (Number.isFinite(end)) setAll(name, { x: this.frame.width + 8, y: this.y(end) });
  }

  /** The head whose line passes nearest to a place, within reach. */
  private headAt(x: number, y: number): number | null {
    const { axis, history } = this.context;
    axis.resize(this.frame.width);
    let right = 0;
    while (right < history.nSteps - 1 && axis.x(history.elapsed[right]!) < x) right++;
    const left = Math.max(right - 1, 0);
    const [from, to] = [axis.x(history.elapsed[left]!), axis.x(history.elapsed[right]!)];
    const share = to > from ? Math.min(Math.max((x - from) / (to - from), 0), 1) : 0;
    let [best, distance] = [null as number | null, REACH];
    for (let head = 0; head < history.nHeads; head++) {
      const [before, after] = [this.y(this.score(left, head)), this.y(this.score(right, head))];
      const away = Math.abs(before + (after - before) * share - y);
      if (away < distance) [best, distance] = [head, away];
    }
    return best;
  }

  /** Many layers: a ramp from the first to the last instead of a name for each. */
  private ramp(): HTMLElement {
    const { layers } = this.context.history.header;
    const marks = layers.map((_, index) => {
      const mark = html("span", { class: "ik-ramp" });
      mark.style.background = `var(--ik-layer-${index})`;
      return mark;
    });
    return html("span", { class: "ik-key" }, `layer ${layers[0]}`, html("span", {}, ...marks), `${layers.at(-1)}`);
  }
}

/** A training frame where a press on a head's line chooses the head. */
class HeadFrame extends TrainingFrame {
  headAt: (x: number, y: number) => number | null = () => null;
  choose: (head: number) => void;

  constructor(...parameters: ConstructorParameters<typeof TrainingFrame>) {
    super(...parameters);
    this.choose = (head) => parameters[0].store.set({ head });
  }

  protected override takesPress(x: number, y: number): boolean {
    const head = this.headAt(x, y);
    if (head !== null) this.choose(head);
    return head !== null;
  }
}
