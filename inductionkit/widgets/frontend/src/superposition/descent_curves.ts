import { scaleLinear } from "d3-scale";
import { setAll, svg } from "../common/dom";
import { count, decimal } from "../common/format";
import { IndexFrame } from "../common/index_frame";
import { Panel } from "../common/panel";
import { path } from "../common/path";
import type { View } from "../common/stage";
import { alongSizes, type Context, type State } from "./descent";
import { drawLevels } from "./levels";

/** A curve that is drawn for every seed. */
interface Series {
  name: string;
  kind: string;
  text: string;
}

interface Options {
  name: string;
  title: string;
  unit: string;
  height: number;
  titled: boolean;
  series: Series[];
  levels: [string, number][];
}

/** Values against the size of the data set, of all seeds, the chosen one drawn heavier, with its peak of the test loss. */
export class CurvesView implements View<State> {
  readonly panel: Panel;
  private readonly frame: IndexFrame;
  private readonly levels: SVGGElement;
  private readonly lines: SVGGElement;
  private readonly peak: SVGLineElement;
  private readonly peakName: SVGTextElement;
  private readonly y = scaleLinear();

  constructor(
    private readonly context: Context,
    private readonly options: Options,
  ) {
    this.panel = new Panel(options.name, options.title, options.unit);
    const { store, alert } = context;
    const { title, height, titled } = options;
    this.frame = new IndexFrame(alongSizes(context), alert, this.panel.body, {
      ...{ description: `${title} against data set size`, height, titled, right: 40 },
      chosen: () => store.state.size,
      choose: (size) => store.set({ size }),
    });
    this.levels = svg("g", { class: "ik-levels" }, this.frame.front);
    this.peak = svg("line", { class: "ik-peak" }, this.frame.plot);
    this.lines = svg("g", {}, this.frame.plot);
    this.peakName = svg("text", { class: "ik-peak-name ik-halo", y: 10 }, this.frame.front);
    for (const { kind, text } of options.series) this.panel.addLegend(kind, text);
  }

  draw(width: number): void {
    this.frame.resize(width);
    const { descent } = this.context;
    const { series, levels } = this.options;
    const values = series.flatMap(({ name }) => descent.header.seeds.flatMap((_, seed) => descent.bySize(name, seed)));
    const most = values.filter(Number.isFinite).reduce((high, value) => Math.max(high, value), 1e-9);
    this.y.domain([0, levels.length ? 1.04 : most]).range([this.frame.height, 0]);
    if (!levels.length) this.y.nice(4);
    this.frame.drawAxes(this.y, 4);
    drawLevels(this.levels, levels, this.y, this.frame.width, false);
    this.show();
  }

  update(): void {
    this.show();
  }

  private show(): void {
    const { descent, store } = this.context;
    const { size, seed } = store.state;
    const { frame } = this;
    frame.moveMarker();
    this.lines.replaceChildren();
    const order = [...descent.header.seeds.keys()].sort((one, other) => Number(one === seed) - Number(other === seed));
    for (const { name, kind } of this.options.series) {
      for (const of of order) {
        const places = descent.bySize(name, of).map((value, index): [number, number] | null =>
          Number.isFinite(value) ? [frame.xAt(index), this.y(value)] : null,
        );
        const other = of === seed ? "" : " is-other";
        svg("path", { class: `ik-line ik-line-${kind} is-${kind}${other}`, "data-seed": of, d: path(places) }, this.lines);
      }
    }
    const peak = descent.header.peaks[seed]!;
    const x = frame.x(peak);
    setAll(this.peak, { x1: x, x2: x, y1: 0, y2: frame.height });
    setAll(this.peakName, { x: x + 5 });
    this.peakName.textContent = this.options.levels.length ? "" : `peak at ${count(peak)}`;
    const values = this.options.series.map(({ name, text }) => `${text} ${decimal(descent.bySize(name, seed)[size]!, 2)}`);
    this.panel.value.textContent = values.join(", ");
  }
}
