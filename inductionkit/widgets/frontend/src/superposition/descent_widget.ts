import { choice } from "../common/controls";
import { html } from "../common/dom";
import { integer } from "../common/format";
import { initialState, oneOf } from "../common/link";
import { inColumns, mounted } from "../common/shell";
import { Slider } from "../common/stepper";
import { Store } from "../common/store";
import { type Context, Descent, type Header, type State } from "./descent";
import { CloudsView } from "./descent_cloud";
import { CurvesView } from "./descent_curves";
import styles from "./superposition.css";

/** DoubleDescentView. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const descent = new Descent(model.get("_header") as Header, model.get("_data") as DataView);
  const { sizes, seeds, levels } = descent.header;
  const traits = [oneOf<State>("n_points", "size", sizes), oneOf<State>("seed", "seed", seeds)];
  const store = new Store(initialState(model, traits, { size: 0, seed: 0 }));
  const context: Context = { descent, store, alert };
  const losses = new CurvesView(context, {
    ...{ name: "losses", title: "Loss", unit: "", height: 210, titled: false, levels: [] },
    series: [
      { name: "test_loss", kind: "value", text: "test" },
      { name: "training_loss", kind: "control", text: "training" },
    ],
  });
  const typical = new CurvesView(context, {
    ...{ name: "typical", title: "Typical dimensionality", unit: "", height: 190, titled: true, levels },
    series: [
      { name: "typical_feature_dimensionality", kind: "features", text: "features" },
      { name: "typical_point_dimensionality", kind: "points", text: "data points" },
    ],
  });
  const clouds = new CloudsView(context);
  const slider = sizeSlider(context);
  const names = seeds.map((seed, index) => new Option(String(seed), String(index)));
  const chosen = choice("Seed", names, alert.guard((seed) => store.set({ seed: Number(seed) })));
  const toolbar = { class: "ik-toolbar", role: "group", "aria-label": "Data set size and seed" };
  root.append(html("div", toolbar, ...slider.elements, chosen.element), inColumns([losses, typical], [clouds]));
  return {
    ...{ store, traits, views: [losses, typical, clouds] },
    onKey: (event) => slider.onKey(event),
    changed: () => {
      const { size, seed } = store.state;
      slider.update();
      chosen.select.value = String(seed);
      Object.assign(root.dataset, { points: sizes[size], seed: seeds[seed] });
    },
  };
});

function sizeSlider({ descent, store, alert }: Context): Slider {
  const { sizes } = descent.header;
  const clock = {
    size: sizes.length,
    get place() {
      return store.state.size;
    },
    go: (size: number) => store.set({ size }),
    words: (): [string, string] => [`${integer(sizes[store.state.size]!)} data points`, ""],
  };
  return new Slider(clock, "Data set size", alert);
}
