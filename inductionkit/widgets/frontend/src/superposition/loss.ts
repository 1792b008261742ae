import { scaleLinear } from "d3-scale";
import { html, setAll, svg } from "../common/dom";
import { decimal, label } from "../common/format";
import type { IndexFrame } from "../common/index_frame";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { type Context, roomForNames, type State, stepFrame } from "./view";

const HEIGHT = 170;

/** The loss of the chosen instance over training, the drops shaded that energy-level jumps are held against. */
export class LossView implements View<State> {
  readonly panel = new Panel("loss", "Loss", "weighted squared error");
  private frame: IndexFrame | undefined;
  private drops: SVGGElement | undefined;
  private line: SVGPathElement | undefined;
  private current: SVGCircleElement | undefined;
  private readonly y = scaleLinear();

  constructor(private readonly context: Context) {
    const { drops, verdict } = context.history.header;
    if (drops.length) this.panel.addLegend("window", "drop of the loss");
    if (verdict) this.panel.element.append(html("p", { class: "ik-verdict" }, `All models: ${label(verdict.replace(/\s*\n\s*/g, "; "))}`));
  }

  draw(width: number): void {
    this.panel.body.replaceChildren();
    const { right } = roomForNames(width);
    const options = { description: "Loss over training", height: HEIGHT, right, titled: true };
    this.frame = stepFrame(this.context, this.panel.body, options);
    this.drops = svg("g", {}, this.frame.plot);
    this.line = svg("path", { class: "ik-line ik-line-value" }, this.frame.plot);
    this.current = svg("circle", { class: "ik-current", r: 4.5 }, this.frame.plot);
    this.frame.resize(width);
    this.redraw();
  }

  update(changed: Changed<State>): void {
    if (changed.has("instance")) this.redraw();
    else if (changed.has("index")) this.move();
  }

  private get values(): number[] {
    return [...this.context.history.loss(this.context.store.state.instance)!];
  }

  private redraw(): void {
    const { history, store } = this.context;
    const frame = this.frame!;
    const finite = this.values.filter(Number.isFinite);
    const [low, high] = finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 1];
    const pad = (high - low || high || 1) * 0.06;
    this.y.domain([low - pad, high + pad]).range([frame.height, 0]);
    frame.drawAxes(this.y, 4);
    const place = (value: number, index: number): [number, number] | null =>
      Number.isFinite(value) ? [frame.xAt(index), this.y(value)] : null;
    this.line!.setAttribute("d", path(this.values.map(place)));
    this.drops!.replaceChildren();
    for (const [instance, start, end] of history.header.drops) {
      if (instance !== store.state.instance) continue;
      const [left, right] = [frame.x(start), frame.x(end)];
      svg("rect", { class: "ik-window", x: left, width: Math.max(right - left, 1), y: 0, height: frame.height }, this.drops);
    }
    this.move();
  }

  private move(): void {
    const frame = this.frame!;
    frame.moveMarker();
    const { index } = this.context.store.state;
    const value = this.values[index]!;
    this.current!.style.display = Number.isFinite(value) ? "" : "none";
    if (Number.isFinite(value)) setAll(this.current!, { cx: frame.xAt(index), cy: this.y(value) });
    this.panel.value.textContent = decimal(value, 4);
  }
}
