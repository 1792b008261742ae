import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { decimal, label } from "../common/format";
import type { IndexFrame } from "../common/index_frame";
import { nearestWithin } from "../common/nearest";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { drawLevels } from "./levels";
import { type Context, featureColour, featured, roomForNames, type State, stepFrame } from "./view";

const HEIGHT = 290;
const REACH = 9;
const TOP = 1.04;

/** The dimensionality of every feature over training, against the levels of the polytopes; jumps drawn heavier. */
export class DimensionalityView implements View<State> {
  readonly panel = new Panel("dimensionality", "Dimensionality", "of a dimension, each feature");
  private frame: IndexFrame | undefined;
  private levels: SVGGElement | undefined;
  private lines: SVGPathElement[] = [];
  private jumps: SVGGElement | undefined;
  private current: SVGCircleElement | undefined;
  private readonly y = scaleLinear().domain([0, TOP]);

  constructor(
    private readonly context: Context,
    private readonly titled: boolean,
  ) {
    if (context.history.header.jumps.length) this.panel.addLegend("jump", "jump");
  }

  draw(width: number): void {
    const { right, named } = roomForNames(width);
    this.build(right);
    const frame = this.frame!;
    frame.resize(width);
    this.y.range([frame.height, 0]);
    frame.drawAxes(this.y, 5);
    drawLevels(this.levels!, this.context.history.header.levels, this.y, frame.width, named);
    this.drawLines();
  }

  update(changed: Changed<State>): void {
    if (changed.has("instance")) this.drawLines();
    else if (["index", "feature", "hover", "colour"].some((field) => changed.has(field as keyof State))) this.move();
  }

  private value(index: number, feature: number): number {
    return this.context.history.ofFeature("dimensionality", this.context.store.state.instance, index, feature);
  }

  private build(right: number): void {
    const { history, store, alert } = this.context;
    this.panel.body.replaceChildren();
    const description = "Dimensionality of each feature over training, with the levels of the polytopes";
    const options = { description, height: HEIGHT, right, titled: this.titled };
    const frame = (this.frame = stepFrame(this.context, this.panel.body, options));
    this.levels = svg("g", { class: "ik-levels" }, frame.front);
    const group = svg("g", { class: "ik-features" }, frame.plot);
    this.lines = Array.from({ length: history.nFeatures }, (_, feature) => svg("path", { "data-feature": feature }, group));
    this.jumps = svg("g", { class: "ik-jumps" }, frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, frame.plot);
    frame.takesPress = (event) => {
      const feature = this.featureAt(...frame.place(event));
      if (feature !== null) store.set({ feature: feature === store.state.feature ? null : feature });
      return feature !== null;
    };
    frame.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      store.set({ hover: event.buttons ? null : this.featureAt(...frame.place(event)) });
    }));
    frame.svg.addEventListener("pointerleave", () => store.set({ hover: null }));
  }

  private drawLines(): void {
    const { history } = this.context;
    const frame = this.frame!;
    for (const [feature, line] of this.lines.entries()) line.setAttribute("d", this.stretch(feature, 0, history.nSteps - 1));
    this.jumps!.replaceChildren();
    const { instance } = this.context.store.state;
    for (const [of, feature, start, end, level, onDrop] of history.header.jumps) {
      if (of !== instance) continue;
      const [from, to] = [history.steps.indexOf(start), history.steps.indexOf(end)];
      const line = svg("path", { d: this.stretch(feature, from, to), "data-feature": feature }, this.jumps);
      const title = svg("title", {}, line);
      title.textContent = `feature ${feature} jumps to ${label(level)}, ${onDrop ? "on a drop of the loss" : "off the drops of the loss"}`;
    }
    frame.moveMarker();
    this.move();
  }

  private stretch(feature: number, from: number, to: number): string {
    const places: ([number, number] | null)[] = [];
    for (let index = from; index <= to; index++) {
      const value = this.value(index, feature);
      places.push(Number.isFinite(value) ? [this.frame!.xAt(index), this.y(value)] : null);
    }
    return path(places);
  }

  private move(): void {
    const { history, store } = this.context;
    const { index, instance } = store.state;
    const feature = featured(store.state);
    this.frame!.moveMarker();
    for (const [other, line] of this.lines.entries()) {
      line.style.stroke = featureColour(this.context, other);
      line.classList.toggle("is-strong", other === feature);
      line.classList.toggle("is-faint", feature !== null && other !== feature);
    }
    for (const line of this.jumps!.children as Iterable<SVGPathElement> & HTMLCollection) {
      const of = Number(line.getAttribute("data-feature"));
      line.setAttribute("class", feature !== null && of !== feature ? "is-faint" : "");
      (line as SVGPathElement).style.stroke = featureColour(this.context, of);
    }
    const value = feature === null ? NaN : this.value(index, feature);
    this.current!.style.display = Number.isFinite(value) ? "" : "none";
    if (feature === null) {
      this.panel.value.textContent = "";
      return;
    }
    this.current!.style.fill = featureColour(this.context, feature);
    if (Number.isFinite(value)) setAll(this.current!, { cx: this.frame!.xAt(index), cy: this.y(value) });
    this.panel.value.textContent = `feature ${feature}: ${decimal(value)}, ${history.polytope(instance, index, feature)}`;
  }

  /** The feature whose line passes nearest to a place, within reach. */
  private featureAt(x: number, y: number): number | null {
    const frame = this.frame!;
    const { nSteps, nFeatures } = this.context.history;
    let right = 0;
    while (right < nSteps - 1 && frame.xAt(right) < x) right++;
    const left = Math.max(right - 1, 0);
    const [from, to] = [frame.xAt(left), frame.xAt(right)];
    const share = to > from ? Math.min(Math.max((x - from) / (to - from), 0), 1) : 0;
    return nearestWithin(REACH, nFeatures, (feature) => {
      const [before, after] = [this.y(this.value(left, feature)), this.y(this.value(right, feature))];
      return Math.abs(before + (after - before) * share - y);
    });
  }
}
