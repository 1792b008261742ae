import { html } from "../common/dom";
import { integer } from "../common/format";
import { type Context, Descent, type Header, type State } from "./descent";
import { CloudsView } from "./descent_cloud";
import { CurvesView } from "./descent_curves";
import type { Trait } from "./link";
import { type Bar, mounted } from "./shell";
import { Store } from "./store";

/** DoubleDescentView. */
export const mount = mounted<State>((model, alert) => {
  const descent = new Descent(model.get("_header") as Header, model.get("_data") as DataView);
  const { sizes, seeds, levels } = descent.header;
  const traits: Trait<State>[] = [
    {
      name: "n_points",
      toTrait: ({ size }) => sizes[size],
      toState: (size) => ({ size: Math.max(sizes.indexOf(size as number), 0) }),
    },
    {
      name: "seed",
      toTrait: ({ seed }) => seeds[seed],
      toState: (seed) => ({ seed: Math.max(seeds.indexOf(seed as number), 0) }),
    },
  ];
  const initial = traits.map(({ name, toState }) => toState(model.get(name)));
  const store = new Store<State>(Object.assign({ size: 0, seed: 0 }, ...initial));
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
  return {
    ...{ store, traits, bar: new SizeBar(context), columns: [[losses, typical], [new CloudsView(context)]] },
    describe: ({ size, seed }) => ({ points: sizes[size]!, seed: seeds[seed]! }),
  };
});

/** Slider over the sizes of data sets and the choice of a seed. */
class SizeBar implements Bar<State> {
  readonly element = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Data set size and seed" });
  private readonly slider: HTMLInputElement;
  private readonly readout = html("output", { class: "ik-step", "aria-live": "polite" });
  private readonly seed: HTMLSelectElement;

  constructor(private readonly context: Context) {
    const { descent, store, alert } = context;
    const { sizes, seeds } = descent.header;
    const last = sizes.length - 1;
    this.slider = html("input", { type: "range", class: "ik-slider", min: 0, max: last, step: 1, "aria-label": "Data set size" });
    this.slider.disabled = last === 0;
    this.slider.addEventListener("input", alert.guard(() => store.set({ size: this.slider.valueAsNumber })));
    const options = seeds.map((seed, index) => new Option(String(seed), String(index)));
    this.seed = html("select", { class: "ik-select", "data-choice": "seed" }, ...options);
    this.seed.addEventListener("change", alert.guard(() => store.set({ seed: Number(this.seed.value) })));
    this.element.append(this.slider, this.readout, html("label", { class: "ik-choice" }, html("span", {}, "Seed"), this.seed));
  }

  onKey(): void {}

  update(): void {
    const { descent, store } = this.context;
    const { size, seed } = store.state;
    const text = `${integer(descent.header.sizes[size]!)} data points`;
    this.slider.valueAsNumber = size;
    this.slider.style.setProperty("--ik-share", `${(100 * size) / Math.max(descent.header.sizes.length - 1, 1)}%`);
    this.slider.setAttribute("aria-valuetext", text);
    if (this.readout.textContent !== text) this.readout.replaceChildren(html("strong", {}, text));
    this.seed.value = String(seed);
  }

  stop(): void {}
}
