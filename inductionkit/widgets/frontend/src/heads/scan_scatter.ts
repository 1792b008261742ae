import { extent } from "../common/arrays";
import { choice } from "../common/controls";
import { html } from "../common/dom";
import { label } from "../common/format";
import { type Axis, HeadScatter } from "../common/head_scatter";
import { addLayerLegend } from "../common/layers";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { layerColour, themeOf } from "../common/theme";
import { number, spaced } from "./numbers";
import { type Context, mark, type Score, type State } from "./scan_data";

/** Any two scores against each other, a dot per head, over what they are on models without structure. */
export class ScoreScatter implements View<State> {
  readonly panel = new Panel("scatter", "Two scores", "a dot per head");
  private readonly selects: Record<"x" | "y", HTMLSelectElement>;
  private readonly scatter: HeadScatter;

  constructor(private readonly context: Context) {
    const { scan, store, alert, root } = context;
    const options = (): HTMLElement[] =>
      scan.axes.map((index) => new Option(spaced(label(scan.scores[index]!.name)), String(index)));
    const across = choice("across", options(), alert.guard((index: string) => store.set({ x: Number(index) })));
    const up = choice("up", options(), alert.guard((index: string) => store.set({ y: Number(index) })));
    this.selects = { x: across.select, y: up.select };
    this.panel.body.append(html("div", { class: "ik-choices" }, up.element, across.element));
    const handlers = {
      description: "Two scores against each other, a dot per head",
      choose: (head: number, more: boolean) => mark(store, head, more),
      hover: (hover: number | null) => store.set({ hover }),
    };
    this.scatter = new HeadScatter(this.panel.body, scan.heads, root, handlers, alert);
    addLayerLegend(this.panel, scan.heads, "spot");
    this.panel.addLegend("ring", "marked");
    if (scan.scores.some((score) => score.nullValues)) this.panel.addLegend("cloud", "re-initialised models");
    if (Object.keys(scan.header.thresholds).length) this.panel.addLegend("threshold", "threshold");
  }

  draw(width?: number): void {
    const { scan, store, root } = this.context;
    const [x, y] = [scan.scores[store.state.x]!, scan.scores[store.state.y]!];
    this.selects.x.value = String(store.state.x);
    this.selects.y.value = String(store.state.y);
    this.scatter.drawAxes(axisOf(x), axisOf(y), width);
    const layers = scan.heads.layers.map((_, layer, all) => layerColour(themeOf(root), layer, all.length));
    this.scatter.paint({
      at: (head) => [x.values[head]!, y.values[head]!],
      colour: (head) => layers[scan.heads.layerIndex(head)]!,
      rimmed: false,
      // Each is a head of a re-initialised model, with both of its scores.
      cloud: Array.from(x.nullValues ?? [], (value, index) => [value, y.nullValues?.[index] ?? NaN] as const),
    });
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("x") || changed.has("y")) this.draw();
    else this.point();
  }

  private point(): void {
    const { scan, store } = this.context;
    const { head, hover, marked, x, y } = store.state;
    this.scatter.mark({ chosen: head, hover, marked });
    const shown = hover ?? head;
    const values = [scan.scores[x]!, scan.scores[y]!].map((score) => number(score.values[shown], score.digits));
    const [role] = scan.role(shown);
    this.panel.value.textContent = `head ${scan.heads.name(shown)}${role ? `, ${role}` : ""}: ${values.join(", ")}`;
  }
}

/** From zero or below to where the heads, their nulls and the threshold lie. */
function axisOf(score: Score): Axis {
  const [low, high] = extent([...score.values, ...(score.nullValues ?? []), score.threshold ?? 0, score.noPreference ?? 0, 0])!;
  const pad = (high - low || 1) * 0.02;
  const title = spaced(label(score.name)) + (score.units ? ` (${label(score.units)})` : "");
  return { title, extent: [low < 0 ? low - pad : low, high + pad], threshold: score.threshold, noPreference: score.noPreference };
}
