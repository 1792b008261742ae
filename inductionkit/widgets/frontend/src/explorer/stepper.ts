import type { Alert } from "../common/alert";
import { html, svg } from "../common/dom";

const FRAME_MS = 160;
const ICONS = { play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11h-3zM9.5 2.5h3v11h-3z" };

/** What a stepper steps through: places in training, counted from 0. */
export interface Clock {
  readonly size: number;
  readonly place: number;
  go(place: number): void;
  /** The place in words: the step, and the tokens seen. */
  words(): [string, string];
}

/** A slider over training, a play button, and the place read out. */
export class Stepper {
  readonly elements: HTMLElement[];
  private readonly slider: HTMLInputElement;
  private readonly play = html("button", { class: "ik-play", type: "button" });
  private readonly icon = svg("path");
  private readonly readout = html("output", { class: "ik-step", "aria-live": "polite" });
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly alert: Alert,
  ) {
    const last = clock.size - 1;
    this.slider = html("input", { type: "range", class: "ik-slider", min: 0, max: last, step: 1, "aria-label": "Checkpoint" });
    const drawing = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
    drawing.append(this.icon);
    this.play.append(drawing);
    this.slider.disabled = this.play.disabled = last === 0;
    this.slider.addEventListener("input", alert.guard(() => {
      this.stop();
      clock.go(this.slider.valueAsNumber);
    }));
    this.play.addEventListener("click", alert.guard(() => this.toggle()));
    this.elements = [this.play, this.slider, this.readout];
    this.showPlaying();
    this.update();
  }

  /** Space plays, wherever in the widget the focus is, unless what has it takes spaces itself. */
  onKey(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.key !== " " || target.closest("button, select, input:not(.ik-slider)") || this.play.disabled) return;
    event.preventDefault();
    this.toggle();
  }

  update(): void {
    const { size, place } = this.clock;
    const [step, tokens] = this.clock.words();
    this.slider.valueAsNumber = place;
    this.slider.style.setProperty("--ik-share", `${(100 * place) / Math.max(size - 1, 1)}%`);
    this.slider.setAttribute("aria-valuetext", [step, tokens].filter(Boolean).join(", "));
    this.readout.replaceChildren(html("strong", {}, step), tokens && html("span", {}, tokens));
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.showPlaying();
  }

  private toggle(): void {
    const { place, size } = this.clock;
    if (this.timer !== undefined) return this.stop();
    if (place === size - 1) this.clock.go(0);
    this.timer = setInterval(this.alert.guard(() => this.advance()), FRAME_MS);
    this.showPlaying();
  }

  private advance(): void {
    const next = this.clock.place + 1;
    if (next < this.clock.size) this.clock.go(next);
    if (next >= this.clock.size - 1) this.stop();
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
