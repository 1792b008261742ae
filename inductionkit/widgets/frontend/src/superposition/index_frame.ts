import type { ScaleContinuousNumeric } from "d3-scale";
import type { Alert } from "../common/alert";
import type { Values } from "../common/arrays";
import { setAll, svg } from "../common/dom";
import { Frame } from "../common/frame";

const AXIS_TITLE_HEIGHT = 18;

interface Options {
  description: string;
  height: number;
  right: number;
  /** The title of the x axis; a frame that stands above another with the same axis has none. */
  title: string | null;
}

/** What lies along x: values of which one is chosen. */
export interface Along {
  values: Values | number[];
  scale: ScaleContinuousNumeric<number, number>;
  ticks(width: number): { values: number[]; text: (value: number) => string };
  chosen(): number;
  choose(index: number): void;
}

/** A frame over values of which one, by index, is chosen and marked. Dragging chooses another. */
export class IndexFrame extends Frame {
  /** A press that means something else, the choice of a line for instance, chooses no value. */
  takesPress: (x: number, y: number) => boolean = () => false;
  private readonly marker: SVGLineElement;

  constructor(
    private readonly along: Along,
    alert: Alert,
    body: HTMLElement,
    private readonly options: Options,
  ) {
    const extra = options.title ? AXIS_TITLE_HEIGHT : 0;
    super(body, options.description, options.height + extra, { top: 10, right: options.right, bottom: 22 + extra, left: 46 });
    this.marker = svg("line", { class: "ik-marker" }, this.plot);
    this.dragToChoose(alert);
  }

  drawAxes(y: Parameters<Frame["axes"]>[0]["y"], yTicks: number): void {
    const x = this.along.scale.range([0, this.width]);
    const title = this.options.title ? { xTitle: this.options.title } : {};
    this.axes({ x, y, xTicks: this.along.ticks(this.width), yTicks, ...title });
    setAll(this.marker, { y1: 0, y2: this.height });
    this.moveMarker();
  }

  moveMarker(): void {
    const x = this.xAt(this.along.chosen());
    setAll(this.marker, { transform: `translate(${x},0)`, "data-x": x.toFixed(1) });
  }

  xAt(index: number): number {
    return this.x(this.along.values[index]!);
  }

  x(value: number): number {
    return this.along.scale.range([0, this.width])(value);
  }

  private nearestIndex(x: number): number {
    let best = 0;
    for (let index = 1; index < this.along.values.length; index++) {
      if (Math.abs(this.xAt(index) - x) < Math.abs(this.xAt(best) - x)) best = index;
    }
    return best;
  }

  private dragToChoose(alert: Alert): void {
    let dragging = false;
    const choose = (event: PointerEvent): void => this.along.choose(this.nearestIndex(this.place(event)[0]));
    this.svg.addEventListener(
      "pointerdown",
      alert.guard((event: PointerEvent) => {
        if (event.button !== 0 || this.takesPress(...this.place(event))) return;
        dragging = true;
        this.svg.setPointerCapture(event.pointerId);
        choose(event);
      }),
    );
    this.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => void (dragging && choose(event))));
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (dragging = false));
  }
}
