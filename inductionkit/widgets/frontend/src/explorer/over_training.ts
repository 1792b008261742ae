import { setAll, svg } from "../common/dom";
import { Frame } from "../common/frame";
import { path } from "../common/path";
import type { Values } from "../common/arrays";
import type { Curve } from "./history";
import type { Context } from "./view";

const MARGIN = { top: 10, right: 38, bottom: 22, left: 50 };
const AXIS_TITLE_HEIGHT = 18;

/** A frame over training: elapsed on x, the phase window shaded, the current checkpoint marked. Dragging moves it. */
export class TrainingFrame extends Frame {
  private readonly shade: SVGRectElement;
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
    this.marker = svg("line", { class: "ik-marker" }, this.plot);
    this.dragToStep();
  }

  drawAxes(y: Parameters<Frame["axes"]>[0]["y"], yTicks: number): void {
    const { axis, history } = this.context;
    axis.resize(this.width);
    const xTitle = this.hasTitle ? { xTitle: axis.title } : {};
    this.axes({ x: axis.scale, y, xTicks: axis.ticks(), yTicks, ...xTitle });
    const { window } = history.header;
    if (window && history.header.elapsed === "tokens") {
      const [left, right] = window.map((tokens) => axis.x(tokens)) as [number, number];
      setAll(this.shade, { x: left, y: 0, width: Math.max(right - left, 1), height: this.height });
    }
    setAll(this.marker, { y1: 0, y2: this.height });
    this.moveMarker();
  }

  moveMarker(): void {
    const { axis, history, store } = this.context;
    const x = axis.x(history.elapsed[store.state.index]!);
    setAll(this.marker, { transform: `translate(${x},0)`, "data-x": x.toFixed(1) });
  }

  /** The path of a curve; missing values and values off the axis are gaps. */
  path({ x, y }: Curve, yScale: (value: number) => number): string {
    return this.pathOf(x, (index) => y[index]!, yScale);
  }

  pathOf(x: Values, value: (index: number) => number, yScale: (value: number) => number): string {
    const { axis } = this.context;
    return path(
      Array.from(x, (elapsed, index) => {
        const place: [number, number] = [axis.xInside(elapsed), yScale(value(index))];
        return place.every(Number.isFinite) ? place : null;
      }),
    );
  }

  /** A press that means something else, the choice of a line for instance, moves no step. */
  protected takesPress(_x: number, _y: number): boolean {
    return false;
  }

  private dragToStep(): void {
    const { axis, store, alert } = this.context;
    let dragging = false;
    const step = (event: PointerEvent): void => {
      axis.resize(this.width);
      store.set({ index: axis.nearestIndex(this.place(event)[0]), playing: false });
    };
    this.svg.addEventListener(
      "pointerdown",
      alert.guard((event: PointerEvent) => {
        if (event.button !== 0 || this.takesPress(...this.place(event))) return;
        dragging = true;
        this.svg.setPointerCapture(event.pointerId);
        step(event);
      }),
    );
    this.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => void (dragging && step(event))));
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (dragging = false));
  }
}
