import { pointer } from "../common/dom";
import { label } from "../common/format";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { hullFaces } from "./hull";
import { addLegend, summary } from "./legend";
import { turnable } from "./turnable";
import { type Face, type Link, type Vector, VectorPlot } from "./vectors";
import { type Context, featureColour, featured, type State } from "./view";

const MAX_SIDE = 470;
const MAX_NAMED = 20;

/** All features of a model with up to three hidden dimensions, as vectors from the origin. */
export class GeometryView implements View<State> {
  readonly panel: Panel;
  private readonly plot: VectorPlot;
  private width = 1;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    const spatial = history.nHidden > 2;
    this.panel = new Panel("geometry", "Features", spatial ? "columns of W; drag or arrow keys turn them" : "columns of W");
    this.plot = new VectorPlot(this.panel.body, "", spatial);
    if (spatial) turnable(this.plot.svg, store, alert);
    this.plot.svg.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      if (!event.buttons) store.set({ hover: this.plot.vectorAt(event) });
    }));
    this.plot.svg.addEventListener("pointerleave", () => store.set({ hover: null }));
    let pressed: [number, number] = [0, 0];
    this.plot.svg.addEventListener("pointerdown", (event) => (pressed = pointer(event, this.plot.svg)));
    this.plot.svg.addEventListener("click", alert.guard((event: MouseEvent) => {
      const [x, y] = pointer(event, this.plot.svg);
      // The end of a drag is no choice.
      if (Math.hypot(x - pressed[0], y - pressed[1]) > 4) return;
      const feature = this.plot.vectorAt(event);
      store.set({ feature: feature === store.state.feature ? null : feature, hover: null });
    }));
  }

  draw(width: number): void {
    this.width = width;
    this.plot.resize(width, Math.min(width, MAX_SIDE), this.context.history.reach(this.context.store.state.instance));
    this.show();
  }

  update(changed: Changed<State>): void {
    if (changed.has("instance")) this.draw(this.width);
    else this.show();
  }

  private show(): void {
    const { history, store } = this.context;
    const { instance, index, rotation } = store.state;
    const groups = history.groups(instance, index);
    this.plot.show(this.vectors(), this.faces(groups), this.links(), rotation);
    const text = summary(history, instance, index);
    this.panel.value.textContent = text;
    this.plot.svg.setAttribute("aria-label", `Features as vectors at this step: ${label(text)}`);
    addLegend(this.panel, this.context);
    if (featured(store.state) !== null) {
      this.panel.addLegend("positive", "overlaps positively");
      this.panel.addLegend("negative", "negatively");
    }
  }

  private vectors(): Vector[] {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    const feature = featured(store.state);
    return Array.from({ length: history.nFeatures }, (_, other) => {
      const represented = history.polytope(instance, index, other) !== "not represented";
      return {
        name: String(other),
        place: history.place(instance, index, other),
        colour: featureColour(this.context, other),
        emphasis: other === feature ? "strong" : "none",
        named: other === feature || (represented && history.nFeatures <= MAX_NAMED),
      };
    });
  }

  private faces(groups: number[][]): Face[] {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    return groups.flatMap((group) =>
      hullFaces(group.map((feature) => history.place(instance, index, feature))).map((face) => ({
        corners: face.map((corner) => group[corner]!),
        colour: featureColour(this.context, group[0]!),
      })),
    );
  }

  /** The interference of the feature that has the emphasis. */
  private links(): Link[] {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    const feature = featured(store.state);
    if (feature === null) return [];
    const links: Link[] = [];
    for (let other = 0; other < history.nFeatures; other++) {
      const cosine = other === feature ? 0 : history.interference(instance, index, feature, other);
      if (cosine) links.push({ from: feature, to: other, cosine });
    }
    return links;
  }
}
