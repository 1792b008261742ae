import { scaleLinear, scaleLog } from "d3-scale";
import { extent, type Values } from "../common/arrays";
import { setAll, svg } from "../common/dom";
import { count } from "../common/format";
import { Frame } from "../common/frame";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { type Context, kindName, type State } from "./ablation_data";

const HEIGHT = 260;
const MARGIN = { top: 10, right: 14, bottom: 40, left: 54 };

/** Loss by position, with all heads and without the chosen ones. */
export class LossByPosition implements View<State> {
  readonly panel = new Panel("positions", "Loss by position", "nats per token");
  private readonly frame = new Frame(this.panel.body, "Loss by token index, with all heads and without the chosen ones", HEIGHT, MARGIN);
  private readonly x = scaleLog();
  private readonly y = scaleLinear();
  private readonly rules: SVGLineElement[];
  private readonly baseline: SVGPathElement;
  private readonly lines: SVGPathElement[];

  constructor(private readonly context: Context) {
    const { kinds, iclPositions } = context.data.header;
    this.rules = (iclPositions ?? []).map(() => svg("line", { class: "ik-rule" }, this.frame.plot));
    this.baseline = svg("path", { class: "ik-line ik-line-baseline" }, this.frame.plot);
    this.lines = kinds.map((_, kind) => svg("path", { class: `ik-line ik-line-kind-${kind}` }, this.frame.plot));
    this.panel.addLegend("baseline", "all heads");
    for (const [kind, name] of kinds.entries()) {
      this.panel.addLegend(`kind-${kind}`, kinds.length > 1 ? `without, ${kindName(name)} ablation` : "without");
    }
    if (iclPositions) this.panel.addLegend("rule", `tokens ${iclPositions.join(" and ")} of the in-context-learning score`);
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { data, store } = this.context;
    const { unit, hover, step } = store.state;
    const shown = hover ?? unit;
    const first = data.position[0]!;
    this.x.domain([first, Math.max(data.position.at(-1)!, first * 2)]).range([0, this.frame.width]);
    const losses = data.header.kinds.map((_, kind) => data.losses(kind, step, shown));
    // Pointing at other heads leaves the scale as it is.
    const chosen = data.header.kinds.map((_, kind) => data.losses(kind, step, unit));
    this.y.domain(extent([data.baseline(step), ...chosen].flatMap((values) => [...values])) ?? [0, 1]).nice(5).range([this.frame.height, 0]);
    const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].filter((value) => {
      const [from, to] = this.x.domain() as [number, number];
      return value >= from && value <= to;
    });
    const fits = width < 420 ? ticks.filter((value) => /^1/.test(String(value))) : ticks;
    this.frame.axes({ x: this.x, y: this.y, xTicks: { values: fits, text: count }, yTicks: 5, xTitle: "token index (log scale)" });
    for (const [index, rule] of this.rules.entries()) {
      const at = this.x(data.header.iclPositions![index]!);
      setAll(rule, { x1: at, x2: at, y1: 0, y2: this.frame.height });
    }
    const place = (loss: number, bin: number): [number, number] | null =>
      Number.isFinite(loss) ? [this.x(data.position[bin]!), this.y(loss)] : null;
    const drawn = (values: Values): string => path(Array.from(values, place));
    this.baseline.setAttribute("d", drawn(data.baseline(step)));
    for (const [kind, line] of this.lines.entries()) line.setAttribute("d", drawn(losses[kind]!));
    this.panel.value.textContent = `without ${data.name(shown)}`;
  }

  update(changed: Changed<State>): void {
    if (changed.has("unit") || changed.has("hover") || changed.has("step")) this.draw(this.frame.outerWidth);
  }
}
