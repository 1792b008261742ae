import { html } from "../common/dom";
import { label } from "../common/format";
import type { Stepper } from "../common/stepper";
import { explain } from "./captions";
import { ElapsedAxis } from "./elapsed";
import { HeroLoss } from "./hero_loss";
import { HeroPattern } from "./hero_pattern";
import { HeroText } from "./hero_text";
import type { Header } from "./history";
import type { Side } from "./side";
import type { Context, View } from "./view";

/** How long the window plays, and the least and the most that a checkpoint of it is shown, in milliseconds. */
const [PLAY_MS, SHORTEST_MS, LONGEST_MS] = [3200, 90, 400];
/** How long the window's end is shown before the strip goes back to where it opened. */
const HOLD_MS = 1500;
/** How many times as much training the window's start has seen as the axis' left end, and the bump's at least. */
const [BEFORE_WINDOW, BEFORE_BUMP] = [8, 1.3];
/** This much of the strip is seen when it begins to play. */
const SEEN = 0.4;

/** Where the axis begins, so that the window and the bump are its largest part. */
function beginning({ window, bump }: Header): number {
  return Math.min(window![0] / BEFORE_WINDOW, (bump?.ends[0][0] ?? Infinity) / BEFORE_BUMP);
}

/** The verdict on a run, and three things that show it in step: loss, attention, and the next token of a text. */
export class Hero {
  readonly heading: HTMLElement;
  readonly strip = html("div", { class: "ik-hero ik-hero-strip" });
  readonly views: View[] = [];
  private readonly axis: ElapsedAxis;
  private readonly ended = new AbortController();

  constructor(private readonly side: Side) {
    const { context, views } = side;
    const { history, runs, store } = context;
    const { header } = history;
    // The sentence comes first, also for whoever hears the page; the name stands above it.
    this.heading = html(
      "header",
      { class: "ik-hero ik-hero-heading" },
      html("h2", { class: "ik-hero-verdict" }, header.verdict),
      html("p", { class: "ik-hero-name" }, label(header.model) || "a training run"),
    );
    // Its charts are of other widths than those below, which move their own axis.
    this.axis = new ElapsedAxis(history, runs, store.state, header.window ? beginning(header) : 0);
    const own: Context = { ...context, axis: this.axis };
    if (views.has("loss")) this.views.push(new HeroLoss(own));
    if (views.has("pattern")) {
      const pattern = new HeroPattern(own);
      side.onPattern.push(() => pattern.refresh());
      this.views.push(pattern);
    }
    if (views.has("pattern") || views.has("text")) {
      const text = new HeroText(own);
      side.onPattern.push(() => text.refresh());
      this.views.push(text);
    }
    for (const { panel } of this.views) explain(panel);
    this.strip.append(...this.views.map(({ panel }) => panel.element));
    this.strip.hidden = !this.views.length;
  }

  /** The axis over training follows the choice of its scale and unit. */
  chooseAxis(): void {
    this.axis.choose(this.side.context.store.state);
  }

  /**
   * Play once across the window when the strip is first seen, then go back to where it opened. A touch ends it where it
   * is, and whoever wants no motion sees none. The model is told of no step that plays by itself.
   */
  playWhenSeen(root: HTMLElement, stepper: Stepper): void {
    const { history, store, alert } = this.side.context;
    const { index, first, last } = history.header.hero!;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still || !history.header.window || last <= first || store.state.index !== index) return;
    const ms = Math.min(Math.max(PLAY_MS / (last - first), SHORTEST_MS), LONGEST_MS);
    const end = (): void => {
      if (this.ended.signal.aborted || store.state.index !== last) return store.set({ resting: null });
      setTimeout(() => {
        if (store.state.resting === index && store.state.index === last) store.set({ index, resting: null });
      }, HOLD_MS);
    };
    const seen = new IntersectionObserver(alert.guard((entries: IntersectionObserverEntry[]) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
      seen.disconnect();
      if (store.state.index !== index) return;
      store.set({ resting: index });
      stepper.playOnce(first, last, ms, end);
    }), { threshold: SEEN });
    seen.observe(this.views[0]?.panel.element ?? this.heading);
    const { signal } = this.ended;
    signal.addEventListener("abort", () => seen.disconnect());
    const touched = alert.guard(() => {
      this.ended.abort();
      stepper.stop();
      store.set({ resting: null });
    });
    for (const touch of ["pointerdown", "keydown", "input"]) root.addEventListener(touch, touched, { capture: true, signal });
  }

  stop(): void {
    this.ended.abort();
  }
}
