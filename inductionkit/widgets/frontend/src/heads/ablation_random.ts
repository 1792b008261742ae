import { scaleLinear } from "d3-scale";
import { extent, type Values } from "../common/arrays";
import { svg } from "../common/dom";
import { decimal, label, shortened } from "../common/format";
import { Frame } from "../common/frame";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Random, State } from "./ablation_data";

const HEIGHT = 132;
const MARGIN = { top: 8, right: 14, bottom: 40, left: 14 };
/** Golden-ratio steps scatter draws evenly and always alike. */
const SPREAD = 0.618034;

/** How much rests on the heads, beside as many other heads drawn at random. */
export class RandomDraws implements View<State> {
  readonly panel = new Panel("random", "Against random heads", "share of in-context learning lost");
  private readonly frame: Frame;
  private readonly x = scaleLinear();
  private readonly y = scaleLinear([0, 1], [1, 0]);
  private readonly marks = svg("g");

  constructor(private readonly random: { about: Random; draws: Values; interval: Values }) {
    const { about, draws } = random;
    const heads = label(shortened(about.heads));
    const among = about.among ? ` from ${label(about.among)}` : "";
    const told = `${heads} lose ${decimal(about.share ?? NaN)}; ${draws.length} draws of other heads${among}`;
    this.frame = new Frame(this.panel.body, `Share of the in-context-learning score lost: ${told}`, HEIGHT, MARGIN);
    this.frame.plot.append(this.marks);
    this.panel.addLegend("ring-accent", `heads ${heads}, 95 % of resampled sequences`);
    this.panel.addLegend("cloud", `${draws.length} draw${draws.length === 1 ? "" : "s"} of others, 95 % band`);
    const p = about.p === null ? "" : `p ${about.p.toFixed(3)}`;
    this.panel.value.textContent = about.share === null ? "nothing to lose" : [decimal(about.share), p].filter(Boolean).join(", ");
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { about, draws, interval } = this.random;
    const bounds = about.interval.filter((bound): bound is number => bound !== null);
    const [low, high] = extent([0, 1, ...draws, ...interval, ...bounds, about.share ?? 0])!;
    this.x.domain([low, high]).nice(5).range([0, this.frame.width]);
    this.y.range([this.frame.height, 0]);
    const xTicks = { values: this.x.ticks(Math.min(8, width / 60)), text: this.x.tickFormat(6) };
    this.frame.axes({ x: this.x, y: this.y, xTicks, yTicks: 0, grid: true, xTitle: "share lost (0 nothing, 1 all of it)" });
    this.marks.replaceChildren();
    const { height } = this.frame;
    if (interval.every(Number.isFinite)) {
      const [from, to] = [this.x(interval[0]!), this.x(interval[1]!)];
      svg("rect", { class: "ik-band", x: from, width: Math.max(to - from, 2), y: 0, height }, this.marks);
    }
    for (const [index, share] of draws.entries()) {
      if (!Number.isFinite(share)) continue;
      const at = 0.42 + 0.5 * ((index * SPREAD) % 1);
      svg("circle", { class: "ik-draw", cx: this.x(share), cy: at * height, r: 3 }, this.marks);
    }
    const middle = height * 0.2;
    if (bounds.length === 2) {
      svg("line", { class: "ik-interval", x1: this.x(bounds[0]!), x2: this.x(bounds[1]!), y1: middle, y2: middle }, this.marks);
    }
    if (about.share !== null) svg("circle", { class: "ik-current", r: 6, cx: this.x(about.share), cy: middle }, this.marks);
  }

  update(): void {}
}
