import { ColourScale } from "../common/colours";
import { html } from "../common/dom";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { type Context, kindName, metricTitle, type State } from "./ablation_data";
import { HeadGrid } from "./grid";

const MAX_WIDTH = 420;

/** The change by zeroing each head, layer by head, a map for each kind of ablation on one scale. */
export class ChangeMaps implements View<State> {
  readonly panel = new Panel("maps");
  private readonly maps: { grid: HeadGrid; value: HTMLElement }[];
  private readonly ramp = html("div", { class: "ik-map-ramp" });
  private readonly ends = html("div", { class: "ik-map-ends" });

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    const { kinds } = data.header;
    this.maps = kinds.map((kind, index) => {
      const keys = index === 0 ? ". Arrow keys choose a head" : "";
      const options = {
        description: `Change by zeroing each head, ${kindName(kind)} ablation, by layer and head${keys}`,
        focusable: index === 0,
        maxWidth: MAX_WIDTH / kinds.length,
        choose: (unit: number) => store.set({ unit }),
        hover: (hover: number | null) => store.set({ hover }),
      };
      return { grid: new HeadGrid(data.heads, options, alert), value: html("span", { class: "ik-value" }) };
    });
    this.maps[0]!.grid.takeKeys(() => store.state.unit, alert);
    const figures = this.maps.map(({ grid, value }, kind) => {
      const name = html("span", { class: "ik-map-title" }, kindName(kinds[kind]!));
      return html("figure", { class: "ik-map", "data-kind": kinds[kind]! }, html("figcaption", {}, name, value), grid.element);
    });
    const maps = html("div", { class: "ik-maps" }, ...figures);
    maps.style.setProperty("--ik-map", `${this.maps[0]!.grid.width}px`);
    const scale = html("div", { class: "ik-map-scale ik-map-scale-wide", "aria-hidden": "true" }, this.ramp, this.ends);
    this.panel.body.append(maps, scale);
  }

  draw(): void {
    this.paint();
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("step") || changed.has("metric")) this.paint();
    this.point();
  }

  private paint(): void {
    const { data, store, root } = this.context;
    const { step, metric } = store.state;
    const limit = data.limit(metric);
    const colours = new ColourScale(themeOf(root), -limit, limit);
    for (const [kind, { grid }] of this.maps.entries()) grid.paint(colours, (unit) => data.change(kind, metric, step, unit));
    this.ramp.style.background = colours.gradient;
    const [low, high] = [-limit, limit].map((end) => data.text(metric, end)) as [string, string];
    const [better, worse] = [`${low} better without`, `worse without +${high}`];
    this.ends.replaceChildren(html("span", {}, better), html("span", {}, worse));
    this.panel.entitle(metricTitle(data.header.metrics[metric]!), "nats per token");
  }

  private point(): void {
    const { data, store } = this.context;
    const { unit, hover, step, metric } = store.state;
    const shown = hover ?? unit;
    this.panel.value.textContent = `head ${data.name(shown)}`;
    for (const [kind, { grid, value }] of this.maps.entries()) {
      grid.point(unit, hover);
      value.textContent = data.text(metric, data.change(kind, metric, step, shown));
    }
  }
}
