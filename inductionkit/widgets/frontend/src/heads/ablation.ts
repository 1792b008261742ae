import type { Alert } from "../common/alert";
import { choice } from "../common/controls";
import { html } from "../common/dom";
import { count, integer } from "../common/format";
import type { Model } from "../common/model";
import { Ablations, type Context, type Header, metricTitle, type State } from "./ablation_data";
import { ChangeBars } from "./ablation_bars";
import { ChangeMaps } from "./ablation_maps";
import { LossByPosition } from "./ablation_positions";
import { RandomDraws } from "./ablation_random";
import { ChangeOverTraining } from "./ablation_training";
import { link, type Trait } from "./link";
import { type Built, heading, mountViews, type View } from "./shell";
import { Store } from "./store";

type PanelView = View<State> & { readonly panel: { readonly element: HTMLElement } };

/** Show ablations in `container`. Returns what takes it down. */
export function mount(container: HTMLElement, model: Model): () => void {
  return mountViews(container, model, build);
}

function build(root: HTMLElement, model: Model, alert: Alert): Built<State> {
  const data = new Ablations(model.get("_header") as Header, model.get("_data") as DataView);
  const store = new Store<State>({ unit: 0, hover: null, step: 0, metric: 0 });
  const traits = traitsOf(data, store);
  for (const { name, fromModel } of traits) Object.assign(store.state, fromModel(model.get(name)));
  const context: Context = { data, store, alert, root };

  const left: PanelView[] = [data.heads.n ? new ChangeMaps(context) : new ChangeBars(context)];
  const right: PanelView[] = [new LossByPosition(context)];
  if (data.nSteps > 1) left.push(new ChangeOverTraining(context));
  if (data.random) right.push(new RandomDraws(context, data.random));
  const controls = new Controls(context);
  const grid = html("div", { class: "ik-grid" });
  for (const views of [left, right]) {
    grid.append(html("div", { class: "ik-column" }, ...views.map(({ panel }) => panel.element)));
  }
  const readout = html("p", { class: "ik-sr", role: "status" });
  root.append(heading(data.header.model, "heads zeroed, nats per token"), controls.element, grid, readout);
  return {
    store,
    views: [...left, ...right],
    nLayers: Math.max(data.heads.layers.length, 1),
    stop: link(model, store, traits),
    changed: () => {
      controls.update();
      const { unit, step, metric } = store.state;
      const told = (change: number, kind: number): string => `${data.header.kinds[kind]} ${data.text(metric, change)}`;
      const changes = data.changes(metric, step, unit).map(told);
      const text = `${data.name(unit)}, ${metricTitle(data.header.metrics[metric]!)}: ${changes.join(", ")}`;
      if (readout.textContent !== text) readout.textContent = text;
      const shown = { unit: data.name(unit), step: String(data.steps[step] ?? ""), metric: data.header.metrics[metric]! };
      Object.assign(root.dataset, shown);
    },
  };
}

function traitsOf({ heads, header, steps }: Ablations, store: Store<State>): Trait<State>[] {
  const at = (field: "unit" | "step" | "metric", index: number | undefined): Partial<State> | undefined =>
    index === undefined || index < 0 ? undefined : { [field]: index };
  const { state } = store;
  const unit: Trait<State> = heads.n
    ? {
        ...{ name: "head", field: "unit", toModel: () => heads.pair(state.unit) },
        fromModel: (pair) => at("unit", heads.of(pair)),
      }
    : {
        ...{ name: "ablation", field: "unit", toModel: () => header.sets[state.unit] },
        fromModel: (set) => at("unit", header.sets.indexOf(set as string)),
      };
  const step: Trait<State> = {
    ...{ name: "step", field: "step", toModel: () => steps[state.step] },
    fromModel: (value) => at("step", steps.indexOf(value as number)),
  };
  const metric: Trait<State> = {
    ...{ name: "metric", field: "metric", toModel: () => header.metrics[state.metric] },
    fromModel: (name) => at("metric", header.metrics.indexOf(name as string)),
  };
  return steps.length ? [unit, step, metric] : [unit, metric];
}

/** Which change is shown, and of which checkpoint. */
class Controls {
  readonly element = html("div", { class: "ik-toolbar" });
  private readonly metric: HTMLSelectElement;
  private readonly slider: HTMLInputElement | undefined;
  private readonly readout = html("output", { class: "ik-step" });

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    const options = data.header.metrics.map((name, index) => new Option(metricTitle(name), String(index)));
    const { element, select } = choice("Show", options, alert.guard((index: string) => store.set({ metric: Number(index) })));
    select.style.maxWidth = "none";
    this.metric = select;
    if (data.nSteps > 1) {
      const range = { type: "range", min: 0, max: data.nSteps - 1, step: 1 };
      const slider = html("input", { class: "ik-slider", "aria-label": "Checkpoint", ...range });
      slider.addEventListener("input", alert.guard(() => store.set({ step: slider.valueAsNumber })));
      this.slider = slider;
      this.element.append(slider, this.readout);
    }
    this.element.append(element);
  }

  update(): void {
    const { data, store } = this.context;
    const { step, metric } = store.state;
    this.metric.value = String(metric);
    if (!this.slider) return;
    const name = `step ${integer(data.steps[step]!)}`;
    const tokens = data.header.elapsed === "tokens" ? `${count(data.elapsed[step]!)} tokens` : "";
    this.slider.valueAsNumber = step;
    this.slider.style.setProperty("--ik-share", `${(100 * step) / (data.nSteps - 1)}%`);
    this.slider.setAttribute("aria-valuetext", [name, tokens].filter(Boolean).join(", "));
    this.readout.replaceChildren(html("strong", {}, name), tokens && html("span", {}, tokens));
  }
}
