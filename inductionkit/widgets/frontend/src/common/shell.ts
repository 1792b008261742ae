import { Alert } from "./alert";
import { html } from "./dom";
import { link, type Trait } from "./link";
import type { Model } from "./model";
import { isPage, type Mount } from "./page";
import { Stage, type View } from "./stage";
import type { Changed, Store } from "./store";
import common from "./style.css";
import { followTheme } from "./theme";

/** Keys that a notebook would take for its own, to move between cells for instance. */
const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ", "Enter"]);

/** Tells JupyterLab and Notebook that keys pressed in an element are none of their shortcuts. */
const NO_SHORTCUTS = "data-lm-suppress-shortcuts";

/** What stands in a widget's root. */
export interface Content {
  onKey?(event: KeyboardEvent): void;
  stop(): void;
}

/** A widget's root in `container`, with what `fill` makes of it and its errors below. Returns what takes it down. */
export function show(container: HTMLElement, styles: string, fill: (root: HTMLElement, alert: Alert) => Content): () => void {
  const alert = new Alert();
  // The sheet lies in the rule of a class that this root alone has: it reaches no other widget of the page.
  const scope = `ik-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  // A press on a curve gives the widget the focus, and with it the keys.
  const root = html("div", { class: `ik-root ${scope}`, tabindex: -1, [NO_SHORTCUTS]: "true" });
  container.append(html("style", {}, `.${scope} {${common + styles}}`), root);
  let content: Content | undefined;
  try {
    content = fill(root, alert);
  } catch (error) {
    alert.show(error);
  }
  root.append(alert.element);
  // Notebook reads it of the very element that has the focus.
  root.addEventListener("focusin", (event) => (event.target as Element).setAttribute(NO_SHORTCUTS, "true"));
  const onKey = alert.guard((event: KeyboardEvent) => {
    const modified = event.ctrlKey || event.altKey || event.metaKey || event.shiftKey;
    if (!event.defaultPrevented && !modified) content?.onKey?.(event);
  });
  root.addEventListener("keydown", (event) => {
    onKey(event);
    if (OWN_KEYS.has(event.key)) event.stopPropagation();
  });
  // On a page of its own, keys are the widget's before anything has the focus.
  const onPageKey = (event: KeyboardEvent): void => void (event.target === document.body && onKey(event));
  if (isPage(container)) document.addEventListener("keydown", onPageKey);
  return () => {
    document.removeEventListener("keydown", onPageKey);
    content?.stop();
    container.replaceChildren();
  };
}

/** What a widget of one state is made of; its elements are in its root already. */
export interface Parts<State extends object> {
  store: Store<State>;
  traits: readonly Trait<State>[];
  views: readonly View<State>[];
  nLayers?: number;
  /** Called after each change of the state, and once in the beginning. */
  changed(): void;
  onKey?(event: KeyboardEvent): void;
  stop?(): void;
}

/** What shows a widget of one state, made of what `build` puts in its root. */
export function mounted<State extends object>(
  styles: string,
  build: (root: HTMLElement, model: Model, alert: Alert) => Parts<State>,
): Mount {
  return (container, model) =>
    show(container, styles, (root, alert) => {
      const parts = build(root, model, alert);
      const stage = new Stage(parts.views, alert);
      parts.store.subscribe(alert.guard((changed: Changed<State>) => {
        stage.update(changed);
        parts.changed();
      }));
      parts.changed();
      const unlink = link(model, parts.store, parts.traits);
      const unfollow = followTheme(root, parts.nLayers ?? 0, () => stage.drawAll());
      return {
        onKey: (event) => parts.onKey?.(event),
        stop: () => {
          parts.stop?.();
          for (const part of [parts.store, stage]) part.stop();
          for (const end of [unlink, unfollow]) end();
        },
      };
    });
}

/** Panels in columns beside each other. */
export function inColumns(...columns: { panel: { element: HTMLElement } }[][]): HTMLElement {
  const elements = columns.map((views) => html("div", { class: "ik-column" }, ...views.map(({ panel }) => panel.element)));
  return html("div", { class: "ik-grid" }, ...elements);
}
