import { html } from "../common/dom";
import { label } from "../common/format";
import { ColourScale } from "../common/colours";
import { HeadMap } from "../common/head_map";
import { Panel } from "../common/panel";
import { NO_PREFERENCE } from "../common/scale_bar";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { number, spaced } from "./numbers";
import { type Context, mark, type Score, type State } from "./scan_data";

const [WIDTH, MAX_CELL, MAX_HEIGHT] = [244, [28, 28], 300] as const;

interface ScoreMap {
  score: Score;
  grid: HeadMap;
  value: HTMLElement;
  ramp: HTMLElement;
}

/** A layer-by-head map of each score; they show the same heads. */
export class Maps implements View<State> {
  readonly panel = new Panel("maps", "Scores by layer and head", "");
  private readonly maps: ScoreMap[];

  constructor(private readonly context: Context) {
    const { scan } = context;
    this.maps = scan.scores.map((score, index) => this.mapOf(score, index === 0));
    const figures = this.maps.map((map) => figure(map));
    const maps = html("div", { class: "ik-maps" }, ...figures);
    maps.style.setProperty("--ik-map", `${this.maps[0]!.grid.width}px`);
    this.panel.body.append(maps);
    if (scan.scores.some((score) => score.nulls)) {
      this.panel.addLegend("null", "range on re-initialised models");
    }
    this.panel.addLegend("dot", "marked head");
    if (scan.scores.some((score) => score.threshold !== undefined)) this.panel.addLegend("threshold", "threshold");
    for (const { name, noPreference, digits } of scan.scores) {
      if (noPreference !== null) this.panel.addLegend("notch", `${NO_PREFERENCE}: ${spaced(label(name))} ${number(noPreference, digits)}`);
    }
    const missing = scan.scores.some((score) => score.values.some(Number.isNaN));
    if (missing) this.panel.addLegend("hatch", "not scored");
    for (const reason of scan.header.unscored) this.panel.body.append(html("p", { class: "ik-note" }, `not scored: ${label(reason)}`));
  }

  draw(): void {
    const theme = themeOf(this.context.root);
    for (const { score, grid, ramp } of this.maps) {
      const colours = new ColourScale(theme, score.signed ? -score.limit : 0, score.limit);
      grid.paint(colours, (head) => score.values[head]!, (value) => number(value, score.digits));
      ramp.style.background = colours.gradient;
    }
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("head") || changed.has("hover") || changed.has("marked")) this.point();
  }

  private mapOf(score: Score, focusable: boolean): ScoreMap {
    const { scan, store, alert } = this.context;
    const keys = focusable ? ". Arrow keys choose a head" : "";
    const grid = new HeadMap(
      scan.heads,
      {
        description: `${spaced(label(score.name))} by layer and head${keys}`,
        ...{ maxCell: MAX_CELL, maxHeight: MAX_HEIGHT },
        ...(focusable ? { current: () => store.state.head } : {}),
        choose: (head, more) => mark(store, head, more),
        hover: (hover) => store.set({ hover }),
      },
      alert,
    );
    grid.resize(WIDTH);
    return { score, grid, value: html("span", { class: "ik-value" }), ramp: html("div", { class: "ik-map-ramp" }) };
  }

  private point(): void {
    const { scan, store } = this.context;
    const { head, hover, marked } = store.state;
    const shown = hover ?? head;
    this.panel.value.textContent = `head ${scan.heads.name(shown)}`;
    for (const { score, grid, value } of this.maps) {
      grid.mark({ chosen: head, hover, marked });
      value.textContent = number(score.values[shown], score.digits);
    }
  }
}

/** A map under its name, the shown head's value, over its scale with the null's range and the threshold. */
function figure({ score, grid, value, ramp }: ScoreMap): HTMLElement {
  const low = score.signed ? -score.limit : 0;
  const place = (at: number): number => 100 * Math.min(Math.max((at - low) / (score.limit - low), 0), 1);
  const marks: HTMLElement[] = [];
  if (score.nulls) {
    const nulls = html("i", { class: "ik-map-nulls" });
    const [from, to] = score.nulls.map(place) as [number, number];
    Object.assign(nulls.style, { left: `${from}%`, width: `${to - from}%` });
    marks.push(nulls);
  }
  if (score.threshold !== undefined) {
    const tick = html("i", { class: "ik-map-threshold" });
    tick.style.left = `${place(score.threshold)}%`;
    marks.push(tick);
  }
  if (score.noPreference !== null) {
    const notch = html("i", { class: "ik-notch" });
    notch.style.left = `${place(score.noPreference)}%`;
    marks.push(notch);
  }
  const [first, last] = [low, score.limit].map((end) => html("span", {}, number(end, score.digits))) as [HTMLElement, HTMLElement];
  const ends = html("div", { class: "ik-map-ends" }, first, last);
  const name = html("span", { class: "ik-map-name", title: label(score.longName) }, spaced(label(score.name)));
  const unit = score.units ? [html("span", { class: "ik-unit" }, label(score.units))] : [];
  return html(
    "figure",
    { class: "ik-map", "data-score": score.name },
    html("figcaption", {}, html("span", { class: "ik-map-title" }, name, ...unit), value),
    grid.element,
    html("div", { class: "ik-map-scale", "aria-hidden": "true" }, ramp, ...marks, ends),
  );
}
