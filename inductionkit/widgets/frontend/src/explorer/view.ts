import type { Alert } from "../common/alert";
import type { Panel } from "../common/panel";
import type { ElapsedAxis } from "./elapsed";
import type { Films } from "./films";
import type { History } from "./history";
import type { Field, Store } from "./state";

/** What every view is built from. */
export interface Context {
  history: History;
  /** The runs side by side, this one among them: their views share the extent of their axes. */
  runs: readonly History[];
  store: Store;
  axis: ElapsedAxis;
  films: Films;
  alert: Alert;
  root: HTMLElement;
}

/** A view draws everything when its width changes, and moves what depends on the state when the state does. */
export interface View {
  readonly panel: Panel;
  draw(width: number): void;
  update(changed: ReadonlySet<Field>): void;
}

/** From the smallest to the largest value of an array in any of the runs. */
export function sharedExtent(runs: readonly History[], name: string): [number, number] | null {
  const known = runs.map((run) => run.extent(name)).filter((one) => one !== null);
  return known.length ? [Math.min(...known.map(([low]) => low)), Math.max(...known.map(([, high]) => high))] : null;
}

/** A score's or another name as words. */
export function words(name: string): string {
  return name.replaceAll("_", " ").replace(/\bov\b/, "OV").replace(/\bqk\b/, "QK").replace(/\b([kqv]) /, (_, letter: string) => `${letter.toUpperCase()}-`);
}
