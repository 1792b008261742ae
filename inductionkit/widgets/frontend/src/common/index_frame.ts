import type { ScaleContinuousNumeric } from "d3-scale";
import type { Alert } from "./alert";
import { setAll, svg } from "./dom";
import { Frame } from "./frame";
import { nearest } from "./nearest";

const [TOP, BOTTOM, LEFT] = [10, 22, 46];
const AXIS_TITLE_HEIGHT = 18;

/** What lies along x. */
export interface Along {
  readonly values: ArrayLike<number>;
  readonly scale: ScaleContinuousNumeric<number, number>;
  readonly title: string;
  ticks(width: number): { values: number[]; text: (value: number) => string };
  /** Where a value lies; without it, where the scale says. */
  x?(value: number): number;
}

interface Options {
  description: string;
  height: number;
  left?: number;
  right: number;
  /** Whether the axis has its title; a frame above another one with the same axis has none. */
  titled: boolean;
  bleed?: number;
  /** The index of the chosen value. */
  chosen(): number;
  choose(index: number): void;
}

/** A frame over values of which one is chosen and marked. Dragging chooses another. */
export class IndexFrame extends Frame {
  /** A press that means something else, the choice of a line for instance, chooses no value. */
  takesPress: (event: PointerEvent) => boolean = () => false;
  private readonly marker: SVGLineElement;

  constructor(
    private readonly along: Along,
    alert: Alert,
    body: HTMLElement,
    private readonly options: Options,
  ) {
    const { description, height, left = LEFT, right, titled, bleed } = options;
    const extra = titled ? AXIS_TITLE_HEIGHT : 0;
    super(body, description, height + extra, { top: TOP, right, bottom: BOTTOM + extra, left }, bleed);
    this.marker = svg("line", { class: "ik-marker" }, this.plot);
    this.dragToChoose(alert);
  }

  drawAxes(y: Parameters<Frame["axes"]>[0]["y"], yTicks: number): void {
    const x = this.along.scale.range([0, this.width]);
    const title = this.options.titled ? { xTitle: this.along.title } : {};
    this.axes({ x, y, xTicks: this.along.ticks(this.width), yTicks, ...title });
    setAll(this.marker, { y1: 0, y2: this.height });
    this.moveMarker();
  }

  moveMarker(): void {
    const x = this.xAt(this.options.chosen());
    setAll(this.marker, { transform: `translate(${x},0)`, "data-x": x.toFixed(1) });
  }

  xAt(index: number): number {
    return this.x(this.along.values[index]!);
  }

  x(value: number): number {
    // Frames of different widths share one scale.
    this.along.scale.range([0, this.width]);
    return this.along.x?.(value) ?? this.along.scale(value);
  }

  nearestIndex(x: number): number {
    return nearest(Array.from(this.along.values, (value) => this.x(value)), x);
  }

  private dragToChoose(alert: Alert): void {
    let dragging = false;
    const choose = (event: PointerEvent): void => this.options.choose(this.nearestIndex(this.place(event)[0]));
    this.svg.addEventListener("pointerdown", alert.guard((event: PointerEvent) => {
      if (event.button !== 0 || this.takesPress(event)) return;
      dragging = true;
      this.svg.setPointerCapture(event.pointerId);
      choose(event);
    }));
    this.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => void (dragging && choose(event))));
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (dragging = false));
  }
}
