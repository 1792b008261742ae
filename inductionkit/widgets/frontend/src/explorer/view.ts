import type { Alert } from "../common/alert";
import type { Panel } from "../common/panel";
import type { ElapsedAxis } from "./elapsed";
import type { History } from "./history";
import type { Field, Store } from "./state";

/** What every view is built from. */
export interface Context {
  history: History;
  store: Store;
  axis: ElapsedAxis;
  alert: Alert;
  root: HTMLElement;
}

/** A view draws everything when its width changes, and moves what depends on the state when the state does. */
export interface View {
  readonly panel: Panel;
  draw(width: number): void;
  update(changed: ReadonlySet<Field>): void;
}
