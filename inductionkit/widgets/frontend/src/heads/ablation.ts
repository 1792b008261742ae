import { choice } from "../common/controls";
import { html } from "../common/dom";
import { headTrait } from "../common/heads";
import { initialState, oneOf, type Trait } from "../common/link";
import { inColumns, mounted } from "../common/shell";
import type { View } from "../common/stage";
import { StepClock } from "../common/step_clock";
import { Slider } from "../common/stepper";
import { Store } from "../common/store";
import { Ablations, type Context, type Header, metricTitle, type State } from "./ablation_data";
import { ChangeBars } from "./ablation_bars";
import { ChangeMaps } from "./ablation_maps";
import { LossByPosition } from "./ablation_positions";
import { RandomDraws } from "./ablation_random";
import { ChangeOverTraining } from "./ablation_training";
import { heading } from "./heading";
import styles from "./heads.css";

/** AblationView. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const data = new Ablations(model.get("_header") as Header, model.get("_data") as DataView);
  const traits = traitsOf(data);
  const store = new Store(initialState<State>(model, traits, { unit: 0, hover: null, step: 0, metric: 0 }));
  const context: Context = { data, store, alert, root };
  const left: View<State>[] = [data.heads.n ? new ChangeMaps(context) : new ChangeBars(context)];
  const right: View<State>[] = [new LossByPosition(context)];
  if (data.nSteps > 1) left.push(new ChangeOverTraining(context));
  if (data.random) right.push(new RandomDraws(data.random));
  const controls = new Controls(context);
  const readout = html("p", { class: "ik-sr", role: "status" });
  const title = heading(data.header.model, "heads zeroed, nats per token");
  root.append(title, controls.element, inColumns(left, right), readout);
  return {
    ...{ store, traits, views: [...left, ...right], nLayers: Math.max(data.heads.layers.length, 1) },
    onKey: (event) => controls.onKey(event),
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
});

function traitsOf({ heads, header, steps }: Ablations): Trait<State>[] {
  const unit: Trait<State> = heads.n ? headTrait(heads, "unit") : oneOf("ablation", "unit", header.sets);
  return [unit, oneOf("step", "step", steps), oneOf("metric", "metric", header.metrics)];
}

/** Which change is shown, and of which checkpoint. */
class Controls {
  readonly element = html("div", { class: "ik-toolbar" });
  private readonly metric: HTMLSelectElement;
  private readonly steps: Slider | undefined;

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    const options = data.header.metrics.map((name, index) => new Option(metricTitle(name), String(index)));
    const { element, select } = choice("Show", options, alert.guard((index: string) => store.set({ metric: Number(index) })));
    select.style.maxWidth = "none";
    this.metric = select;
    const tokens = data.header.elapsed === "tokens" ? data.elapsed : undefined;
    if (data.nSteps > 1) this.steps = new Slider(new StepClock(store, "step", data.steps, tokens), "Checkpoint", alert);
    this.element.append(...(this.steps?.elements ?? []), element);
  }

  onKey(event: KeyboardEvent): void {
    this.steps?.onKey(event);
  }

  update(): void {
    this.metric.value = String(this.context.store.state.metric);
    this.steps?.update();
  }
}
