import { setAll, svg } from "../common/dom";
import { Frame } from "../common/frame";
import { path } from "../common/path";
import type { Curve } from "./history";
import type { Context } from "./view";

const MARGIN = { top: 10, right: 38, bottom: 22, left: 50 };
const AXIS_TITLE_HEIGHT = 18;
/** Where the intervals of the window's ends are drawn, from the top, and half the height of their caps. */
const [INTERVAL_Y, CAP] = [3, 3];

/** A frame over training: elapsed on x, the phase window shaded, the current checkpoint marked. Dragging moves it. */
export class TrainingFrame extends Frame {
  private readonly shade: SVGRectElement;
  private readonly intervals: SVGPathElement;
  private readonly marker: SVGLineElement;
  private readonly hasTitle: boolean;

  constructor(
    private readonly context: Context,
    body: HTMLElement,
    description: string,
    height: number,
    titled: boolean,
    bleed: number,
  ) {
    const extra = titled ? AXIS_TITLE_HEIGHT : 0;
    super(body, description, height + extra, { ...MARGIN, bottom: MARGIN.bottom + extra }, bleed);
    this.hasTitle = titled;
    this.shade = svg("rect", { class: "ik-window" }, this.plot);
    this.intervals = svg("path", { class: "ik-intervals" }, this.plot);
    this.marker = svg("line", { class: "ik-marker" }, this.plot);
    this.dragToStep();
  }

  drawAxes(y: Parameters<Frame["axes"]>[0]["y"], yTicks: number): void {
    const { axis } = this.context;
    axis.resize(this.width);
    const xTitle = this.hasTitle ? { xTitle: axis.title } : {};
    this.axes({ x: axis.scale, y, xTicks: axis.ticks(), yTicks, ...xTitle });
    this.drawWindow();
    setAll(this.marker, { y1: 0, y2: this.height });
    this.moveMarker();
  }

  moveMarker(): void {
    const { axis, store } = this.context;
    axis.resize(this.width);
    const x = axis.x(axis.elapsed[store.state.index]!);
    setAll(this.marker, { transform: `translate(${x},0)`, "data-x": x.toFixed(1) });
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

  /** A press that means something else, the choice of a line for instance, moves no step. */
  protected takesPress(_event: PointerEvent): boolean {
    return false;
  }

  private drawWindow(): void {
    const { axis, history } = this.context;
    const { window, intervals } = history.header;
    if (!window || !history.tokens || history.nSteps < 2) return;
    const [left, right] = window.map((tokens) => axis.xOfTokens(tokens)) as [number, number];
    setAll(this.shade, { x: left, y: 0, width: Math.max(right - left, 1), height: this.height });
    const bars = (intervals ?? []).map((ends) => {
      const [from, to] = ends.map((tokens) => axis.xOfTokens(tokens).toFixed(1));
      const cap = (x: string): string => `M${x},${INTERVAL_Y - CAP}v${2 * CAP}`;
      return `M${from},${INTERVAL_Y}H${to}${cap(from!)}${cap(to!)}`;
    });
    this.intervals.setAttribute("d", bars.join(""));
  }

  private dragToStep(): void {
    const { axis, store, alert } = this.context;
    let dragging = false;
    const step = (event: PointerEvent): void => {
      axis.resize(this.width);
      store.set({ index: axis.nearestIndex(this.place(event)[0]) });
    };
    this.svg.addEventListener(
      "pointerdown",
      alert.guard((event: PointerEvent) => {
        if (event.button !== 0 || this.takesPress(event)) return;
        dragging = true;
        this.svg.setPointerCapture(event.pointerId);
        step(event);
      }),
    );
    this.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => void (dragging && step(event))));
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (dragging = false));
  }
}
