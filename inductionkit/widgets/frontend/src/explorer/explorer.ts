import { Alert } from "../common/alert";
import { html } from "../common/dom";
import type { Model } from "../common/model";
import css from "../common/style.css";
import { followTheme } from "../common/theme";
import { AxisChoices, Choices } from "./choices";
import { RunClock, SharedClock } from "./clock";
import { type Header, History } from "./history";
import { runLayout, sidesLayout } from "./layout";
import { type Settings, Side } from "./side";
import { SideModel } from "./side_model";
import { Stage } from "./stage";
import { Stepper } from "./stepper";

const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " "]);
const SIDES = ["_left", "_right"];

interface Shown {
  settings: Settings[];
  stop(): void;
}

/** Show the explorer in `container`, and anew whenever the model's history has grown. Returns what takes it down. */
export function mount(container: HTMLElement, model: Model): () => void {
  let shown = show(container, model, []);
  const showAnew = (): void => {
    const { activeElement } = container.getRootNode() as Document | ShadowRoot;
    const onSlider = container.contains(activeElement) && activeElement!.classList.contains("ik-slider");
    shown.stop();
    shown = show(container, model, shown.settings);
    if (onSlider) container.querySelector<HTMLElement>(".ik-slider")?.focus();
  };
  model.on("change:_data", showAnew);
  return () => {
    model.off("change:_data", showAnew);
    shown.stop();
  };
}

function show(container: HTMLElement, model: Model, settings: Settings[]): Shown {
  const alert = new Alert();
  // JupyterLab has shortcuts on single letters; this attribute tells it that keys pressed here are not meant.
  const root = html("div", { class: "ik-root", "data-lm-suppress-shortcuts": "true" });
  container.append(html("style", {}, css), root);
  let built: Shown | undefined;
  try {
    built = build(root, model, alert, settings);
  } catch (error) {
    alert.show(error);
  }
  root.append(alert.element);
  return {
    get settings() {
      return built?.settings ?? settings;
    },
    stop: () => {
      built?.stop();
      container.replaceChildren();
    },
  };
}

function build(root: HTMLElement, model: Model, alert: Alert, settings: Settings[]): Shown {
  const sides = readSides(root, model, alert, settings);
  const contexts = sides.map(({ context }) => context);
  const clock = sides.length > 1 ? new SharedClock(sides, model) : new RunClock(sides[0]!);
  const stepper = new Stepper(clock, alert);
  const choices = contexts.map((context) => new Choices(context));
  const axis = new AxisChoices(contexts);
  const overTraining = contexts.some(({ history }) => history.header.views.some((view) => !["grid", "scatter", "pattern", "text"].includes(view)));
  const ofRun = choices.map(({ elements }) => elements);
  const tools = [...stepper.elements, ...(sides.length > 1 ? [] : ofRun[0]!), ...(overTraining ? axis.elements : [])];
  const toolbar = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Checkpoint and what is shown" }, ...tools);
  root.append(toolbar, sides.length > 1 ? sidesLayout(sides, ofRun) : runLayout(sides[0]!));
  root.addEventListener(
    "keydown",
    alert.guard((event: KeyboardEvent) => {
      stepper.onKey(event);
      // A notebook moves between cells with these, and would keep them from the slider.
      if (OWN_KEYS.has(event.key)) event.stopPropagation();
    }),
  );

  const stage = new Stage(alert);
  const describeAll = (): void => contexts.forEach((_, index) => describe(root, sides[index]!, index));
  for (const [index, side] of sides.entries()) {
    for (const view of side.views.values()) stage.add(view);
    const { store, axis: elapsed } = side.context;
    store.subscribe(alert.guard((changed) => {
      stepper.update();
      choices[index]!.update(changed);
      if (changed.has("scale") || changed.has("unit")) {
        axis.update();
        elapsed.choose(store.state);
        stage.drawAll();
      } else stage.update(side.views.values(), changed);
      describeAll();
    }));
    choices[index]!.update();
  }
  describeAll();
  const nLayers = Math.max(...contexts.map(({ history }) => history.header.layers.length));
  const unfollow = followTheme(root, nLayers, () => stage.drawAll());
  return {
    get settings() {
      return sides.map((side) => side.settings);
    },
    stop: () => {
      for (const part of [stepper, stage, clock, ...sides]) part.stop();
      unfollow();
    },
  };
}

/** The one run of an explorer, or the two of a comparison, whose data lie one after the other. */
function readSides(root: HTMLElement, model: Model, alert: Alert, settings: Settings[]): Side[] {
  const header = model.get("_header") as Header | { sides: (Header & { at: number })[] };
  const data = model.get("_data") as DataView;
  const parts = "sides" in header ? header.sides : [{ ...header, at: 0 }];
  const runs = parts.map((part) => new History(part, new DataView(data.buffer, data.byteOffset + part.at)));
  return runs.map((history, index) => {
    const own = parts.length > 1 ? new SideModel(model, SIDES[index]!, index) : model;
    return new Side(root, own, history, runs, alert, settings[index] ?? {});
  });
}

/** What is shown, as attributes of the root: for tests, and for whoever styles or scripts a page around it. */
function describe(root: HTMLElement, { context: { history, store } }: Side, index: number): void {
  const { index: step, head, text, query } = store.state;
  const suffix = index ? `${index + 1}` : "";
  const shown = { step: history.steps[step], head: history.nHeads ? history.headName(head) : "", text, query };
  for (const [name, value] of Object.entries(shown)) root.dataset[name + suffix] = String(value);
}
