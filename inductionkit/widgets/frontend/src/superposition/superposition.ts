import { initialState, oneOf, type Trait } from "../common/link";
import { inColumns, mounted } from "../common/shell";
import type { View } from "../common/stage";
import { Store } from "../common/store";
import { DimensionalityView } from "./dimensionality";
import { GeometryView } from "./geometry";
import { GramView } from "./gram";
import { type Header, History } from "./history";
import { LossView } from "./loss";
import { PolytopesView } from "./polytopes";
import { INITIAL } from "./rotation";
import { StepBar } from "./step_bar";
import styles from "./superposition.css";
import type { Context, State } from "./view";

const MAX_DRAWN_DIMS = 3;

/** SuperpositionView. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const history = new History(model.get("_header") as Header, model.get("_data") as DataView);
  const traits: Trait<State>[] = [
    oneOf("step", "index", history.steps),
    oneOf("instance", "instance", Array(history.nInstances).keys()),
    {
      ...{ name: "feature", field: "feature", toTrait: ({ feature }) => feature },
      toState: (feature) => ({ feature: feature as number | null }),
    },
  ];
  const state = { index: 0, instance: 0, feature: null, hover: null, colour: "polytope" as const, rotation: INITIAL };
  const store = new Store(initialState<State>(model, traits, state));
  const context: Context = { history, store, alert };
  const small = history.nHidden <= MAX_DRAWN_DIMS;
  const geometry: View<State>[] = small ? [new GeometryView(context)] : [new GramView(context), new PolytopesView(context)];
  const hasLoss = history.has("loss");
  const training: View<State>[] = [new DimensionalityView(context, !hasLoss), ...(hasLoss ? [new LossView(context)] : [])];
  const bar = new StepBar(context);
  root.append(bar.element, inColumns(geometry, training));
  return {
    ...{ store, traits, views: [...geometry, ...training] },
    changed: () => {
      bar.update();
      const { index, instance, feature, rotation } = store.state;
      const turned = `${rotation.azimuth.toFixed(2)} ${rotation.elevation.toFixed(2)}`;
      Object.assign(root.dataset, { step: history.steps[index], instance, feature: feature ?? "", turned });
    },
    onKey: (event) => bar.stepper.onKey(event),
    stop: () => bar.stepper.stop(),
  };
});
