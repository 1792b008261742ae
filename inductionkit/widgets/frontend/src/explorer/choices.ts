import { choice, Segments } from "../common/controls";
import { label, shortened } from "../common/format";
import { headOptions } from "../common/heads";
import type { Changed } from "../common/store";
import { type Clock, clockOf } from "./history";
import { atText, type State } from "./state";
import type { Context } from "./view";

/** The choice of head and text, and of what the axis over training counts, each where a view follows it. */
export class Choices {
  readonly elements: HTMLElement[] = [];
  private readonly shows: (() => void)[] = [];

  constructor(context: Context) {
    const { history, store, alert } = context;
    const { views, texts } = history.header;
    const shown = (...names: string[]): boolean => names.some((name) => views.includes(name));
    if (history.heads.n && shown("trajectories", "grid", "scatter", "circuit", "pattern")) {
      const { element, select } = choice("Head", headOptions(history.heads.pairs), alert.guard((head) => store.set({ head: Number(head) })));
      this.add(element, () => void (select.value = String(store.state.head)));
    }
    if (texts.length && shown("pattern", "text")) {
      const names = texts.map((name, index) => new Option(shortened(label(name)), String(index)));
      const { element, select } = choice("Text", names, alert.guard((text) => {
        store.set(atText(history, Number(text)));
      }));
      this.add(element, () => void (select.value = String(store.state.text)));
    }
  }

  update(changed?: Changed<State>): void {
    if (!changed || changed.has("head") || changed.has("text")) for (const show of this.shows) show();
  }

  private add(element: HTMLElement, show: () => void): void {
    this.elements.push(element);
    this.shows.push(show);
  }
}

/** Log or linear, tokens or steps: of the axis over training, which sides by side share. */
export class AxisChoices {
  readonly elements: HTMLElement[] = [];
  private readonly scale: Segments<"log" | "linear">;
  private readonly unit: Segments<Clock> | undefined;

  constructor(private readonly contexts: readonly Context[]) {
    const [{ alert }] = contexts as [Context];
    const set = (patch: object): void => contexts.forEach(({ store }) => store.set(patch));
    this.scale = new Segments("Axis over training", ["log", "linear"] as const, alert.guard((scale) => set({ scale })));
    this.elements.push(this.scale.element);
    const { runs } = contexts[0]!;
    if (clockOf(runs) === "tokens" && runs.every((run) => run.nSteps > 1)) {
      this.unit = new Segments("Training counted in", ["tokens", "steps"] as const, alert.guard((unit) => set({ unit })));
      this.elements.push(this.unit.element);
    }
    this.update();
  }

  update(): void {
    const { scale, unit } = this.contexts[0]!.store.state;
    this.scale.show(scale);
    this.unit?.show(unit);
  }
}
