import { setAll, svg } from "../common/dom";
import type { Frame } from "../common/frame";
import { IndexFrame } from "../common/index_frame";
import { path } from "../common/path";
import type { Curve } from "./history";
import type { Context } from "./view";

const [LEFT, RIGHT] = [50, 38];
/** Where the intervals of the window's ends are drawn, from the top, and half the height of their caps. */
const [INTERVAL_Y, CAP] = [3, 3];

/** A frame over training: elapsed on x, the phase window shaded, the current checkpoint marked. */
export class TrainingFrame extends IndexFrame {
  private readonly shade = svg("rect", { class: "ik-window" });
  private readonly intervals = svg("path", { class: "ik-intervals" });

  constructor(
    private readonly context: Context,
    body: HTMLElement,
    description: string,
    height: number,
    titled: boolean,
    bleed: number,
  ) {
    const { axis, store, alert } = context;
    super(axis, alert, body, {
      ...{ description, height, titled, bleed, left: LEFT, right: RIGHT },
      chosen: () => store.state.index,
      choose: (index) => store.set({ index }),
    });
    this.plot.prepend(this.shade, this.intervals);
  }

  override drawAxes(y: Parameters<Frame["axes"]>[0]["y"], yTicks: number): void {
    super.drawAxes(y, yTicks);
    this.drawWindow();
  }

  /** The path of a curve; missing values and values off the axis are gaps. */
  path(curve: Curve, yScale: (value: number) => number): string {
    const { axis } = this.context;
    return path(
      Array.from(axis.valuesOf(curve), (elapsed, index) => {
        const place: [number, number] = [axis.xInside(elapsed), yScale(curve.y[index]!)];
        return place.every(Number.isFinite) ? place : null;
      }),
    );
  }

  private drawWindow(): void {
    const { axis, history } = this.context;
    const { window, intervals } = history.header;
    if (!window || history.nSteps < 2) return;
    const [left, right] = window.map((end) => axis.xOf(end)) as [number, number];
    setAll(this.shade, { x: left, y: 0, width: Math.max(right - left, 1), height: this.height });
    const bars = (intervals ?? []).map((ends) => {
      const [from, to] = ends.map((end) => axis.xOf(end).toFixed(1));
      const cap = (x: string): string => `M${x},${INTERVAL_Y - CAP}v${2 * CAP}`;
      return `M${from},${INTERVAL_Y}H${to}${cap(from!)}${cap(to!)}`;
    });
    this.intervals.setAttribute("d", bars.join(""));
  }
}
