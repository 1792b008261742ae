import type { Alert } from "./alert";
import type { Panel } from "./panel";
import type { Changed } from "./store";

/** A view draws everything when its width or the theme changes, and what depends on the state when that does. */
export interface View<State> {
  readonly panel: Panel;
  draw(width: number): void;
  update(changed: Changed<State>): void;
}

/** Draws views when their width is known or changes, and lets those that are drawn follow the state. */
export class Stage<State> {
  private readonly widths = new Map<View<State>, number>();
  private readonly sizes: ResizeObserver;

  constructor(
    private readonly views: readonly View<State>[],
    private readonly alert: Alert,
  ) {
    this.sizes = new ResizeObserver(() => {
      for (const view of views) if (widthOf(view) !== this.widths.get(view)) this.draw(view);
    });
    for (const { panel } of views) this.sizes.observe(panel.body);
  }

  drawAll(): void {
    for (const view of this.views) this.draw(view);
  }

  update(changed: Changed<State>): void {
    for (const view of this.views) if (this.widths.get(view)) view.update(changed);
  }

  stop(): void {
    this.sizes.disconnect();
  }

  /** One view that fails leaves the others standing. */
  private draw(view: View<State>): void {
    const width = widthOf(view);
    this.widths.set(view, width);
    if (width > 0) return this.alert.guard(() => view.draw(width))();
    // Hosts hide a page while they change its theme, for so short that no size changes that the observer has seen:
    // watched afresh, the view is drawn once it has a width again.
    this.sizes.unobserve(view.panel.body);
    this.sizes.observe(view.panel.body);
  }
}

function widthOf({ panel }: View<unknown>): number {
  return Math.floor(panel.body.clientWidth);
}
