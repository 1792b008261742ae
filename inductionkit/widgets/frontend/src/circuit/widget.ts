import { html } from "../common/dom";
import { headTrait } from "../common/heads";
import { oneOf, type Trait } from "../common/link";
import { PageModel } from "../common/model";
import { inColumns, mounted } from "../common/shell";
import { StepClock } from "../common/step_clock";
import { Stepper } from "../common/stepper";
import { explain } from "../explorer/captions";
import { type Header, History } from "../explorer/history";
import { PatternView } from "../explorer/pattern";
import { PatternSeries } from "../explorer/pattern_series";
import { openStore, type State } from "../explorer/state";
import explorer from "../explorer/explorer.css";
import styles from "./circuit.css";
import { CircuitPanel } from "./panel";

type OwnHeader = Pick<Header, "arrays" | "layers" | "heads" | "tokens" | "series" | "patternScale" | "model" | "circuit"> & { stepped: boolean };

/** What an explorer has and a circuit does not. */
const WITHOUT = {
  ...{ views: [], scores: [], roles: [], texts: [], window: null, intervals: null, bump: null, control: null, iclPositions: null, nExamples: null },
  ...{ verdict: "", queries: [], targets: [], hero: null },
};

/** CircuitView. */
export const mount = mounted<State>(explorer + styles, (root, model, alert) => {
  const header = model.get("_header") as OwnHeader;
  const history = new History({ ...WITHOUT, ...header }, model.get("_data") as DataView);
  const store = openStore(model, history, [history], {});
  // All patterns there are came along.
  const series = new PatternSeries(header.series, header.arrays, history.arrays, new PageModel({}), () => {});
  const context = { history, store, series, alert, root };
  const views = [new CircuitPanel(context), ...(series.any ? [new PatternView(context)] : [])];
  for (const { panel } of views) explain(panel);
  const stepper = header.stepped ? new Stepper(new StepClock(store, "index", history.steps), "Checkpoint", alert) : undefined;
  stepper?.readout.classList.add("ik-step-short");
  if (stepper) root.append(html("div", { class: "ik-toolbar", role: "group", "aria-label": "Checkpoint" }, ...stepper.elements));
  root.append(inColumns(...views.map((view) => [view])));
  root.lastElementChild!.classList.add("ik-circuit-columns");
  const traits: Trait<State>[] = [oneOf("step", "index", history.steps), headTrait(history.heads, "head")];
  return {
    ...{ store, traits, views },
    changed: () => {
      stepper?.update();
      const { index, head } = store.state;
      Object.assign(root.dataset, { step: header.stepped ? history.steps[index] : "", head: history.heads.name(head) });
    },
    onKey: (event) => stepper?.onKey(event),
    stop: () => {
      stepper?.stop();
      series.stop();
    },
  };
});
