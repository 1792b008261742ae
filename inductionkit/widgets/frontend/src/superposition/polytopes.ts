import { html, setAll } from "../common/dom";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { hullFaces } from "./hull";
import { addLegend, summary } from "./legend";
import { INITIAL } from "./rotation";
import { VectorPlot } from "./vectors";
import { type Context, featureColour, featured, type State } from "./view";

const SIDE = 72;
const MARGIN = 8;
const MAX_NAMED = 4;
/** Of a model with very many groups, the first ones are drawn. */
const MAX_GROUPS = 60;

/** Each group of features that share a subspace, drawn in that subspace: a gallery of polytopes. */
export class PolytopesView implements View<State> {
  readonly panel = new Panel("polytopes", "Groups in their own subspaces", "");
  private readonly gallery = html("div", { class: "ik-gallery", role: "group", "aria-label": "Groups of features" });

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.panel.body.append(this.gallery);
    const featureOf = (event: Event): number | null => {
      const card = (event.target as Element).closest<HTMLElement>("[data-first]");
      return card ? Number(card.dataset.first) : null;
    };
    this.gallery.addEventListener("pointerover", alert.guard((event: Event) => store.set({ hover: featureOf(event) })));
    this.gallery.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.gallery.addEventListener("click", alert.guard((event: Event) => {
      const feature = featureOf(event);
      if (feature !== null) store.set({ feature: feature === store.state.feature ? null : feature });
    }));
  }

  draw(): void {
    this.show();
  }

  update(changed: Changed<State>): void {
    if (["index", "instance", "colour"].some((field) => changed.has(field as keyof State))) this.show();
    else this.mark();
  }

  private show(): void {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    const groups = history.groups(instance, index);
    const focused = this.focused();
    this.gallery.replaceChildren(...groups.slice(0, MAX_GROUPS).map((group) => this.card(group)));
    if (focused) this.gallery.querySelector<HTMLElement>(`[data-first="${focused}"]`)?.focus();
    if (!groups.length) this.gallery.append(html("p", { class: "ik-missing" }, "no feature is represented at this step"));
    if (groups.length > MAX_GROUPS) {
      this.gallery.append(html("p", { class: "ik-missing" }, `and ${groups.length - MAX_GROUPS} more groups`));
    }
    this.panel.value.textContent = summary(history, instance, index);
    addLegend(this.panel, this.context);
    this.mark();
  }

  private card(group: number[]): HTMLElement {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    const first = group[0]!;
    const name = history.polytope(instance, index, first);
    const dims = history.ofFeature("own_dims", instance, index, first);
    const places = group.map((feature) => history.ownPlace(instance, index, feature));
    const spatial = dims > 2;
    const card = html("button", { class: "ik-card", type: "button", "data-first": first, "data-features": group.join() });
    const plot = new VectorPlot(card, "", spatial);
    setAll(plot.svg, { "aria-hidden": "true" });
    plot.resize(SIDE, SIDE, Math.max(1, ...places.map((place) => Math.hypot(...place)).filter(Number.isFinite)), MARGIN);
    const colour = featureColour(this.context, first);
    const vectors = group.map((feature, corner) => ({
      name: String(feature),
      place: places[corner]!,
      colour: featureColour(this.context, feature),
      emphasis: "none" as const,
      named: false,
    }));
    plot.show(vectors, hullFaces(places).map((corners) => ({ corners, colour })), [], INITIAL);
    const caption = group.length <= MAX_NAMED ? group.join(", ") : `${group.length} features`;
    const shown = dims > 3 ? `3 of ${dims} dimensions` : caption;
    card.append(html("span", {}, name === "none" ? "unnamed" : name), html("small", {}, shown));
    // The name is what is read on the card; with many features, this says which.
    card.title = `features ${group.join(", ")}`;
    return card;
  }

  /** Which card has the feature that has the emphasis. */
  private mark(): void {
    const feature = featured(this.context.store.state);
    for (const card of this.gallery.querySelectorAll<HTMLElement>("[data-features]")) {
      const has = feature !== null && card.dataset.features!.split(",").includes(String(feature));
      card.classList.toggle("is-strong", has);
      card.setAttribute("aria-pressed", String(has));
    }
  }

  private focused(): string | undefined {
    const { activeElement } = this.gallery.getRootNode() as Document | ShadowRoot;
    return this.gallery.contains(activeElement) ? (activeElement as HTMLElement).dataset.first : undefined;
  }
}
