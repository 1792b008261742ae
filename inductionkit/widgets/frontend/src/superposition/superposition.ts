import type { Model } from "../common/model";
import { DimensionalityView } from "./dimensionality";
import { GeometryView } from "./geometry";
import { GramView } from "./gram";
import { type Header, History } from "./history";
import type { Trait } from "./link";
import { LossView } from "./loss";
import { PolytopesView } from "./polytopes";
import { INITIAL } from "./rotation";
import { mounted, type View } from "./shell";
import { StepBar } from "./step_bar";
import { Store } from "./store";
import type { Context, State } from "./view";

const MAX_DRAWN_DIMS = 3;

/** SuperpositionView. */
export const mount = mounted<State>((model: Model, alert) => {
  const history = new History(model.get("_header") as Header, model.get("_data") as DataView);
  const traits: Trait<State>[] = [
    {
      name: "step",
      toTrait: ({ index }) => history.steps[index],
      toState: (step) => ({ index: Math.max(history.steps.indexOf(step as number), 0) }),
    },
    { name: "instance", toTrait: ({ instance }) => instance, toState: (instance) => ({ instance: instance as number }) },
    { name: "feature", toTrait: ({ feature }) => feature, toState: (feature) => ({ feature: feature as number | null }) },
  ];
  const state: State = {
    ...{ index: 0, instance: 0, feature: null, hover: null, colour: "polytope", rotation: INITIAL, playing: false },
    ...Object.assign({}, ...traits.map(({ name, toState }) => toState(model.get(name)))),
  };
  const store = new Store(state);
  const context: Context = { history, store, alert };
  const small = history.nHidden <= MAX_DRAWN_DIMS;
  const geometry: View<State>[] = small ? [new GeometryView(context)] : [new GramView(context), new PolytopesView(context)];
  const hasLoss = history.has("loss");
  const training: View<State>[] = [new DimensionalityView(context, !hasLoss), ...(hasLoss ? [new LossView(context)] : [])];
  return {
    ...{ store, traits, bar: new StepBar(context), columns: [geometry, training] },
    describe: ({ index, instance, feature, rotation }) => ({
      ...{ step: history.steps[index]!, instance, feature: feature ?? "" },
      turned: `${rotation.azimuth.toFixed(2)} ${rotation.elevation.toFixed(2)}`,
    }),
  };
});
