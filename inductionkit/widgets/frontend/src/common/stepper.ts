import type { Alert } from "./alert";
import { html, svg } from "./dom";

const FRAME_MS = 160;
const ICONS = { play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11h-3zM9.5 2.5h3v11h-3z" };

/** What is stepped through: places in training for instance, counted from 0. */
export interface Clock {
  readonly size: number;
  readonly place: number;
  go(place: number): void;
  /** The place in words, the second of them less important: the step, and the tokens seen. */
  words(): readonly [string, string];
}

/** A slider over places, and the place read out. */
export class Slider {
  readonly slider: HTMLInputElement;
  readonly readout = html("output", { class: "ik-step", "aria-live": "polite" });

  constructor(
    protected readonly clock: Clock,
    name: string,
    alert: Alert,
  ) {
    const range = { type: "range", min: 0, max: clock.size - 1, step: 1 };
    this.slider = html("input", { class: "ik-slider", "aria-label": name, ...range });
    this.slider.disabled = clock.size === 1;
    this.slider.addEventListener("input", alert.guard(() => clock.go(this.slider.valueAsNumber)));
  }

  get elements(): HTMLElement[] {
    return [this.slider, this.readout];
  }

  /** Left and right step, wherever in the widget the focus is, unless what has it takes these keys itself. */
  onKey(event: KeyboardEvent): void {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || (event.target as Element).closest("select, input")) return;
    event.preventDefault();
    this.clock.go(Math.min(Math.max(this.clock.place + step, 0), this.clock.size - 1));
  }

  update(): void {
    const { size, place } = this.clock;
    const [first, second] = this.clock.words();
    this.slider.valueAsNumber = place;
    this.slider.style.setProperty("--ik-share", `${(100 * place) / Math.max(size - 1, 1)}%`);
    this.slider.setAttribute("aria-valuetext", [first, second].filter(Boolean).join(", "));
    // A live region speaks whenever it is written to.
    if (this.readout.textContent === first + second) return;
    this.readout.replaceChildren(html("strong", {}, first), second && html("span", {}, second));
  }
}

/** A slider with a button that plays, until the end or until something else moves the clock. */
export class Stepper extends Slider {
  private readonly play = html("button", { class: "ik-play", type: "button" });
  private readonly icon = svg("path");
  private timer: ReturnType<typeof setInterval> | undefined;
  private playedTo = 0;
  private end = 0;
  private ended: (() => void) | undefined;

  constructor(
    clock: Clock,
    name: string,
    private readonly alert: Alert,
  ) {
    super(clock, name, alert);
    const drawing = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
    drawing.append(this.icon);
    this.play.append(drawing);
    this.play.disabled = this.slider.disabled;
    this.play.addEventListener("click", alert.guard(() => this.toggle()));
    this.showPlaying();
    this.update();
  }

  override get elements(): HTMLElement[] {
    return [this.play, ...super.elements];
  }

  override update(): void {
    if (this.timer !== undefined && this.clock.place !== this.playedTo) this.stop();
    super.update();
  }

  /** Space plays, wherever in the widget the focus is, unless what has it takes spaces itself. */
  override onKey(event: KeyboardEvent): void {
    super.onKey(event);
    const target = event.target as HTMLElement;
    if (event.key !== " " || target.closest("button, select, input:not(.ik-slider)") || this.play.disabled) return;
    event.preventDefault();
    this.toggle();
  }

  /** Play from one place to another, so many milliseconds at each; `ended` is called at the end, or when it is stopped. */
  playOnce(from: number, to: number, ms: number, ended?: () => void): void {
    this.stop();
    [this.end, this.ended] = [to, ended];
    this.goTo(from);
    this.timer = setInterval(this.alert.guard(() => this.advance()), ms);
    this.showPlaying();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.showPlaying();
    const { ended } = this;
    this.ended = undefined;
    ended?.();
  }

  private toggle(): void {
    const { place, size } = this.clock;
    if (this.timer !== undefined) return this.stop();
    this.playOnce(place === size - 1 ? 0 : place, size - 1, FRAME_MS);
  }

  private advance(): void {
    const next = this.clock.place + 1;
    if (next <= this.end) this.goTo(next);
    if (next >= this.end) this.stop();
  }

  private goTo(place: number): void {
    this.playedTo = place;
    this.clock.go(place);
  }

  private showPlaying(): void {
    const playing = this.timer !== undefined;
    this.icon.setAttribute("d", playing ? ICONS.pause : ICONS.play);
    this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.play.title = playing ? "Pause (space)" : "Play (space)";
    // A reader that spoke every frame would never finish.
    this.readout.setAttribute("aria-live", playing ? "off" : "polite");
  }
}
