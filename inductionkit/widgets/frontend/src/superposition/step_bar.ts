import { choice } from "../common/controls";
import { html } from "../common/dom";
import { label, shortened } from "../common/format";
import { StepClock } from "../common/step_clock";
import { Stepper } from "../common/stepper";
import type { Context, State } from "./view";

/** The recorded steps, played or chosen, and the choice of instance, feature and colours. */
export class StepBar {
  readonly element = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Step, instance, feature and colours" });
  readonly stepper: Stepper;
  private readonly instance: HTMLSelectElement;
  private readonly feature: HTMLSelectElement;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    this.stepper = new Stepper(new StepClock(store, "index", history.steps), "Training step", alert);
    this.stepper.readout.classList.add("ik-step-short");
    this.element.append(...this.stepper.elements);
    const names = history.header.instances.map((name, number) => new Option(shortened(label(name)), String(number)));
    this.instance = this.add("Model", names, alert.guard((value) => store.set({ instance: Number(value) })));
    const features = Array.from({ length: history.nFeatures }, (_, feature) => new Option(String(feature)));
    const chosen = (value: string): void => store.set({ feature: value === "" ? null : Number(value) });
    this.feature = this.add("Feature", [new Option("all", ""), ...features], alert.guard(chosen));
    if (history.has("importance")) {
      const colours = ["polytope", "importance"].map((name) => new Option(name));
      this.add("Colour", colours, alert.guard((value) => store.set({ colour: value as State["colour"] })));
    }
  }

  update(): void {
    const { instance, feature } = this.context.store.state;
    this.stepper.update();
    this.instance.value = String(instance);
    this.feature.value = feature === null ? "" : String(feature);
  }

  private add(name: string, options: HTMLElement[], chosen: (value: string) => void): HTMLSelectElement {
    const { element, select } = choice(name, options, chosen);
    this.element.append(element);
    return select;
  }
}
