import { ColourScale } from "../common/colours";
import { html } from "../common/dom";
import { HeadMap } from "../common/head_map";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { type Context, kindName, metricTitle, type State } from "./ablation_data";

const [MAX_WIDTH, MAX_CELL, MAX_HEIGHT] = [420, [42, 28], 300] as const;

/** The change by zeroing each head, layer by head, a map for each kind of ablation on one scale. */
export class ChangeMaps implements View<State> {
  readonly panel = new Panel("maps");
  private readonly maps: { grid: HeadMap; value: HTMLElement }[];
  private readonly ramp = html("div", { class: "ik-map-ramp" });
  private readonly ends = html("div", { class: "ik-map-ends" });

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    const { kinds } = data.header;
    this.maps = kinds.map((kind, index) => {
      const keys = index === 0 ? ". Arrow keys choose a head" : "";
      const options = {
        description: `Change by zeroing each head, ${kindName(kind)} ablation, by layer and head${keys}`,
        ...{ maxCell: MAX_CELL, maxHeight: MAX_HEIGHT },
        ...(index === 0 ? { current: () => store.state.unit } : {}),
        choose: (unit: number) => store.set({ unit }),
        hover: (hover: number | null) => store.set({ hover }),
      };
      const grid = new HeadMap(data.heads, options, alert);
      grid.resize(MAX_WIDTH / kinds.length);
      return { grid, value: html("span", { class: "ik-value" }) };
    });
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
    // A higher loss is worse, and drawn orange.
    for (const [kind, { grid }] of this.maps.entries()) {
      grid.paint(colours, (unit) => -data.change(kind, metric, step, unit), (value) => data.text(metric, -value));
    }
    this.ramp.style.background = colours.gradient;
    const [low, high] = [-limit, limit].map((end) => data.text(metric, end)) as [string, string];
    const [worse, better] = [`+${high} worse without`, `better without ${low}`];
    this.ends.replaceChildren(html("span", {}, worse), html("span", {}, better));
    this.panel.entitle(metricTitle(data.header.metrics[metric]!), "nats per token");
  }

  private point(): void {
    const { data, store } = this.context;
    const { unit, hover, step, metric } = store.state;
    const shown = hover ?? unit;
    this.panel.value.textContent = `head ${data.name(shown)}`;
    for (const [kind, { grid, value }] of this.maps.entries()) {
      grid.mark({ chosen: unit, hover, marked: [] });
      value.textContent = data.text(metric, data.change(kind, metric, step, shown));
    }
  }
}
