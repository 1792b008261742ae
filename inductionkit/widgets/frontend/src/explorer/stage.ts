import type { Alert } from "../common/alert";
import type { Field } from "./state";
import type { View } from "./view";

/** Draws views when their width is known or changes, and lets those that are drawn follow the state. */
export class Stage {
  private readonly widths = new Map<Element, number>();
  private readonly views = new Map<Element, View>();
  private readonly sizes: ResizeObserver;

  constructor(private readonly alert: Alert) {
    this.sizes = new ResizeObserver(
      alert.guard((entries: ResizeObserverEntry[]) => {
        for (const { target, contentRect } of entries) {
          const width = Math.floor(contentRect.width);
          if (this.widths.get(target) === width) continue;
          this.widths.set(target, width);
          this.draw(this.views.get(target)!);
        }
      }),
    );
  }

  add(view: View): void {
    this.views.set(view.panel.body, view);
    this.sizes.observe(view.panel.body);
  }

  drawAll(): void {
    for (const view of this.views.values()) this.draw(view);
  }

  update(views: Iterable<View>, changed: ReadonlySet<Field>): void {
    for (const view of views) if (this.widths.get(view.panel.body)) view.update(changed);
  }

  stop(): void {
    this.sizes.disconnect();
  }

  /** One view that fails leaves the others standing. */
  private draw(view: View): void {
    const width = Math.floor(view.panel.body.clientWidth);
    if (width > 0) this.alert.guard(() => view.draw(width))();
  }
}
