import type { Alert } from "../common/alert";
import { html } from "../common/dom";
import type { Model } from "../common/model";
import { type Content, show } from "../common/shell";
import { Stage } from "../common/stage";
import { Stepper } from "../common/stepper";
import { followTheme } from "../common/theme";
import { AxisChoices, Choices } from "./choices";
import { RunClock, SharedClock } from "./clock";
import circuit from "../circuit/circuit.css";
import styles from "./explorer.css";
import { Hero } from "./hero";
import heroStyles from "./hero.css";
import { type Header, History } from "./history";
import { heroLayout, runLayout, sidesLayout } from "./layout";
import { Side } from "./side";
import { SideModel } from "./side_model";
import type { Settings } from "./state";

const SIDES = ["_left", "_right"];
/** Views without an axis over training. */
const OF_ONE_CHECKPOINT = ["grid", "scatter", "circuit", "pattern", "text"];

/** Show the explorer in `container`, and anew whenever the model's history has grown. Returns what takes it down. */
export function mount(container: HTMLElement, model: Model): () => void {
  let sides: Side[] = [];
  const open = (settings: readonly Settings[]): (() => void) =>
    show(container, styles + circuit + heroStyles, (root, alert) => {
      const first = sides.length === 0;
      sides = readSides(root, model, alert, settings);
      return fill(root, model, alert, sides, first);
    });
  let close = open([]);
  const showAnew = (): void => {
    const { activeElement } = container.getRootNode() as Document | ShadowRoot;
    const onSlider = container.contains(activeElement) && activeElement!.classList.contains("ik-slider");
    close();
    close = open(sides.map(({ settings }) => settings));
    if (onSlider) container.querySelector<HTMLElement>(".ik-slider")?.focus();
  };
  model.on("change:_data", showAnew);
  return () => {
    model.off("change:_data", showAnew);
    close();
  };
}

/** `first` is false where the same history was shown before it grew. */
function fill(root: HTMLElement, model: Model, alert: Alert, sides: readonly Side[], first: boolean): Content {
  const contexts = sides.map(({ context }) => context);
  const clock = sides.length > 1 ? new SharedClock(sides, model) : new RunClock(sides[0]!);
  const stepper = new Stepper(clock, "Checkpoint", alert);
  const choices = contexts.map((context) => new Choices(context));
  const axis = new AxisChoices(contexts);
  const overTraining = contexts.some(({ history }) => history.header.views.some((view) => !OF_ONE_CHECKPOINT.includes(view)));
  const ofRun = choices.map(({ elements }) => elements);
  const tools = [...stepper.elements, ...(sides.length > 1 ? [] : ofRun[0]!), ...(overTraining ? axis.elements : [])];
  const toolbar = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Checkpoint and what is shown" }, ...tools);
  const hero = sides.length === 1 && contexts[0]!.history.header.hero ? new Hero(sides[0]!) : undefined;
  if (hero) root.append(hero.heading, toolbar, ...heroLayout(hero, sides[0]!));
  else root.append(toolbar, sides.length > 1 ? sidesLayout(sides, ofRun) : runLayout(sides[0]!));

  const stages = sides.map(({ views }) => new Stage([...(hero?.views ?? []), ...views.values()], alert));
  const describeAll = (): void => sides.forEach((side, index) => describe(root, side, index));
  for (const [index, { context }] of sides.entries()) {
    context.store.subscribe(alert.guard((changed) => {
      stepper.update();
      choices[index]!.update(changed);
      if (changed.has("scale") || changed.has("unit")) {
        axis.update();
        context.axis.choose(context.store.state);
        hero?.chooseAxis();
        stages[index]!.drawAll();
      } else stages[index]!.update(changed);
      describeAll();
    }));
    choices[index]!.update();
  }
  describeAll();
  const nLayers = Math.max(...contexts.map(({ history }) => history.header.layers.length));
  const unfollow = followTheme(root, nLayers, () => stages.forEach((stage) => stage.drawAll()));
  if (first) hero?.playWhenSeen(root, stepper);
  return {
    onKey: (event) => stepper.onKey(event),
    stop: () => {
      for (const part of [stepper, ...stages, clock, ...sides]) part.stop();
      hero?.stop();
      unfollow();
    },
  };
}

/** The one run of an explorer, or the two of a comparison, whose data lie one after the other. */
function readSides(root: HTMLElement, model: Model, alert: Alert, settings: readonly Settings[]): Side[] {
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
  const shown = { step: history.steps[step], head: history.heads.n ? history.heads.name(head) : "", text, query };
  for (const [name, value] of Object.entries(shown)) root.dataset[name + suffix] = String(value);
}
