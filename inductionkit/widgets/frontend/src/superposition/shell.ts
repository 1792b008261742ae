import { Alert } from "../common/alert";
import { html } from "../common/dom";
import type { Model } from "../common/model";
import type { Panel } from "../common/panel";
import common from "../common/style.css";
import { followTheme } from "../common/theme";
import { link, type Trait } from "./link";
import own from "./style.css";
import type { Changed, Store } from "./store";

const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " "]);

/** A view draws everything when its width changes, and moves what depends on the state when the state does. */
export interface View<S> {
  readonly panel: Panel;
  draw(width: number): void;
  update(changed: Changed<S>): void;
}

/** The controls above the views. */
export interface Bar<S> {
  readonly element: HTMLElement;
  onKey(event: KeyboardEvent): void;
  update(changed?: Changed<S>): void;
  stop(): void;
}

/** What a widget is made of. */
export interface Parts<S extends object> {
  store: Store<S>;
  traits: Trait<S>[];
  bar: Bar<S>;
  columns: View<S>[][];
  /** What is shown, as attributes of the root: for tests, and for whoever scripts a page around the widget. */
  describe(state: S): Record<string, string | number>;
}

/** Show a widget in `container`. Returns what takes it down. */
export function mounted<S extends object>(
  build: (model: Model, alert: Alert) => Parts<S>,
): (container: HTMLElement, model: Model) => () => void {
  return (container, model) => {
    const alert = new Alert();
    // JupyterLab has shortcuts on single letters; this attribute tells it that keys pressed here are not meant.
    const root = html("div", { class: "ik-root", "data-lm-suppress-shortcuts": "true" });
    container.append(html("style", {}, common + own), root);
    let stop = (): void => undefined;
    try {
      stop = assemble(root, model, alert, build(model, alert));
    } catch (error) {
      alert.show(error);
    }
    root.append(alert.element);
    return () => {
      stop();
      container.replaceChildren();
    };
  };
}

function assemble<S extends object>(root: HTMLElement, model: Model, alert: Alert, parts: Parts<S>): () => void {
  const { store, bar, columns } = parts;
  const views = columns.flat();
  const grid = html("div", { class: "ik-grid" });
  for (const column of columns) grid.append(html("div", { class: "ik-column" }, ...column.map(({ panel }) => panel.element)));
  root.append(bar.element, grid);
  root.addEventListener(
    "keydown",
    alert.guard((event: KeyboardEvent) => {
      bar.onKey(event);
      // A notebook moves between cells with these, and would keep them from the widget.
      if (OWN_KEYS.has(event.key)) event.stopPropagation();
    }),
  );

  const draw = alert.guard((view: View<S>) => {
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

  const describe = (): void => {
    for (const [name, value] of Object.entries(parts.describe(store.state))) root.dataset[name] = String(value);
  };
  store.subscribe(
    alert.guard((changed) => {
      bar.update(changed);
      for (const view of views) if (drawn.get(view.panel.body)) view.update(changed);
      describe();
    }),
  );
  bar.update();
  describe();
  const unlink = link(model, store, parts.traits);
  const unfollow = followTheme(root, 0, () => views.forEach(draw));
  return () => {
    bar.stop();
    store.stop();
    sizes.disconnect();
    unlink();
    unfollow();
  };
}
