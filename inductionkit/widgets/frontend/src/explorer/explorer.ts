import { Alert } from "../common/alert";
import { CurveView } from "./curves";
import { html } from "../common/dom";
import { ElapsedAxis } from "./elapsed";
import { fromModel, linkModel } from "./link";
import type { Model } from "../common/model";
import { PatternView } from "./pattern";
import { type Header, History } from "./history";
import { ScatterView } from "./scatter";
import { Store } from "./state";
import css from "../common/style.css";
import { followTheme } from "../common/theme";
import { lastQuery, Toolbar } from "./toolbar";
import { TrajectoryView } from "./trajectories";
import type { Context, View } from "./view";

const LOSS_HEIGHT = 184;
const ICL_HEIGHT = 150;
const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " "]);

/** Show the explorer in `container`, and anew whenever the model's history has grown. Returns what takes it down. */
export function mount(container: HTMLElement, model: Model): () => void {
  let takeDown = show(container, model);
  const showAnew = (): void => {
    const { activeElement } = container.getRootNode() as Document | ShadowRoot;
    const onSlider = container.contains(activeElement) && activeElement!.classList.contains("ik-slider");
    takeDown();
    takeDown = show(container, model);
    if (onSlider) container.querySelector<HTMLElement>(".ik-slider")?.focus();
  };
  model.on("change:_data", showAnew);
  return () => {
    model.off("change:_data", showAnew);
    takeDown();
  };
}

function show(container: HTMLElement, model: Model): () => void {
  const alert = new Alert();
  // JupyterLab has shortcuts on single letters; this attribute tells it that keys pressed here are not meant.
  const root = html("div", { class: "ik-root", "data-lm-suppress-shortcuts": "true" });
  container.append(html("style", {}, css), root);
  const stops: (() => void)[] = [() => container.replaceChildren()];
  try {
    stops.unshift(...build(root, model, alert));
  } catch (error) {
    alert.show(error);
  }
  root.append(alert.element);
  return () => stops.forEach((stop) => stop());
}

function build(root: HTMLElement, model: Model, alert: Alert): (() => void)[] {
  const history = new History(model.get("_header") as Header, model.get("_data") as DataView);
  const { index = 0, head = 0, text = 0 } = fromModel(model, history);
  const query = lastQuery({ history }, text);
  const store = new Store({ index, head, text, hover: null, query, key: null, playing: false });
  const context: Context = { history, store, axis: new ElapsedAxis(history), alert, root };

  const toolbar = new Toolbar(context);
  const columns = [trainingViews(context), headViews(context)].filter((views) => views.length);
  const views = columns.flat();
  const grid = html("div", { class: "ik-grid" });
  for (const column of columns) grid.append(html("div", { class: "ik-column" }, ...column.map(({ panel }) => panel.element)));
  if (!views.length) grid.append(html("p", { class: "ik-missing" }, "no data: this history has nothing to draw"));
  root.append(toolbar.element, grid);
  root.addEventListener(
    "keydown",
    alert.guard((event: KeyboardEvent) => {
      toolbar.onKey(event);
      // A notebook moves between cells with these, and would keep them from the slider.
      if (OWN_KEYS.has(event.key)) event.stopPropagation();
    }),
  );

  const draw = alert.guard((view: View) => {
    const width = Math.floor(view.panel.body.clientWidth);
    if (width > 0) view.draw(width);
  });
  const drawn = new Map<Element, number>();
  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const width = Math.floor(contentRect.width);
      if (drawn.get(target) === width) continue;
      drawn.set(target, width);
      const view = views.find(({ panel }) => panel.body === target);
      if (view) draw(view);
    }
  });
  for (const { panel } of views) sizes.observe(panel.body);

  store.subscribe(alert.guard((changed) => {
    toolbar.update(changed);
    for (const view of views) if (drawn.get(view.panel.body)) view.update(changed);
    describe(context);
  }));
  toolbar.update();
  describe(context);
  const unlink = linkModel(model, history, store);
  const unfollow = followTheme(root, history.header.layers.length, () => views.forEach(draw));
  return [() => toolbar.stop(), () => store.stop(), () => sizes.disconnect(), unlink, unfollow];
}

function trainingViews(context: Context): View[] {
  const { history } = context;
  const views: View[] = [];
  const [loss, log] = [history.curve("elapsed", "loss"), history.curve("log_elapsed", "training_loss")];
  const icl = history.curve("elapsed", "icl_score");
  const prefix = history.nHeads ? history.prefix : undefined;
  if (loss || log) {
    const control = history.curve("control_elapsed", "control_loss");
    const titled = !icl && !prefix;
    views.push(
      new CurveView(context, {
        ...{ name: "loss", title: "Loss", unit: "nats per token", height: LOSS_HEIGHT, skipFall: true },
        ...{ curve: loss, control, log: history.header.elapsed === "tokens" ? log : undefined, titled },
      }),
    );
  }
  if (icl) {
    const [early, late] = history.header.iclPositions ?? [];
    const unit = early === undefined ? "nats per token" : `nats, token ${late} minus token ${early}`;
    const control = history.curve("control_elapsed", "control_icl_score");
    const options = { name: "icl", title: "In-context-learning score", unit, curve: icl, control };
    views.push(new CurveView(context, { ...options, height: ICL_HEIGHT, titled: !prefix }));
  }
  if (prefix) views.push(new TrajectoryView(context, prefix));
  return views;
}

function headViews(context: Context): View[] {
  const { prefix, copying, nHeads, hasPatterns } = context.history;
  const views: View[] = [];
  if (prefix && copying && nHeads) views.push(new ScatterView(context, prefix, copying));
  if (hasPatterns) views.push(new PatternView(context));
  return views;
}

/** What is shown, as attributes of the root: for tests, and for whoever styles or scripts a page around it. */
function describe({ root, history, store }: Context): void {
  const { index, head, text, query } = store.state;
  const shown = { step: history.steps[index], head: history.nHeads ? history.headName(head) : "", text, query };
  for (const [name, value] of Object.entries(shown)) root.dataset[name] = String(value);
}
