import { Alert } from "../common/alert";
import { html } from "../common/dom";
import { label } from "../common/format";
import type { Model } from "../common/model";
import css from "../common/style.css";
import { followTheme } from "../common/theme";
import own from "./heads.css";
import type { Store } from "./store";

/** A view draws everything when its width or the theme changes, and what depends on the state when that does. */
export interface View<State> {
  /** Its width is what the view is drawn to. */
  readonly body: HTMLElement;
  draw(width: number): void;
  update(changed: ReadonlySet<keyof State>): void;
}

export interface Built<State extends object> {
  store: Store<State>;
  views: View<State>[];
  nLayers: number;
  /** Called after each change of the state, and once in the beginning. */
  changed(): void;
  stop?(): void;
}

/** Keys that a notebook would take for its own. */
const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ", "Enter"]);

/** Put a widget in `container`: its root, its errors under it, its theme and size followed. Returns what takes it down. */
export function mountViews<State extends object>(
  container: HTMLElement,
  model: Model,
  build: (root: HTMLElement, model: Model, alert: Alert) => Built<State>,
): () => void {
  const alert = new Alert();
  // JupyterLab has shortcuts on single letters; this attribute tells it that keys pressed here are not meant.
  const root = html("div", { class: "ik-root", "data-lm-suppress-shortcuts": "true" });
  container.append(html("style", {}, css + own), root);
  const stops: (() => void)[] = [];
  try {
    const built = build(root, model, alert);
    stops.push(run(root, built, alert), () => built.store.stop(), () => built.stop?.());
  } catch (error) {
    alert.show(error);
  }
  root.append(alert.element);
  root.addEventListener("keydown", (event) => void (OWN_KEYS.has(event.key) && event.stopPropagation()));
  return () => {
    for (const stop of stops) stop();
    container.replaceChildren();
  };
}

/** What a widget shows, over its views. */
export function heading(model: string, about: string): HTMLElement {
  const name = model ? [html("strong", {}, label(model)), " "] : [];
  return html("p", { class: "ik-heading" }, ...name, html("span", { class: "ik-unit" }, about));
}

function run<State extends object>(root: HTMLElement, built: Built<State>, alert: Alert): () => void {
  const { views, store } = built;
  const drawn = new Map<View<State>, number>();
  const draw = alert.guard((view: View<State>) => {
    const width = Math.floor(view.body.clientWidth);
    if (width > 0) view.draw(width);
  });
  const sizes = new ResizeObserver(() => {
    for (const view of views) {
      const width = Math.floor(view.body.clientWidth);
      if (drawn.get(view) === width) continue;
      drawn.set(view, width);
      draw(view);
    }
  });
  for (const { body } of views) sizes.observe(body);
  store.subscribe(
    alert.guard((changed) => {
      for (const view of views) if (drawn.get(view)) view.update(changed);
      built.changed();
    }),
  );
  built.changed();
  const unfollow = followTheme(root, built.nLayers, () => views.forEach(draw));
  return () => {
    sizes.disconnect();
    unfollow();
  };
}
