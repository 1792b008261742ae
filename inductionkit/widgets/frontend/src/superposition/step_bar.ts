import { html, svg } from "../common/dom";
import { integer, label, shortened } from "../common/format";
import type { Bar } from "./shell";
import type { Changed } from "./store";
import type { Context, State } from "./view";

const FRAME_MS = 160;
const ICONS = { play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11h-3zM9.5 2.5h3v11h-3z" };

/** Slider over the recorded steps, play button, and the choice of instance, feature and colours. */
export class StepBar implements Bar<State> {
  readonly element = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Step, instance, feature and colours" });
  private readonly slider: HTMLInputElement;
  private readonly play = html("button", { class: "ik-play", type: "button" });
  private readonly icon = svg("path");
  private readonly readout = html("output", { class: "ik-step ik-step-short", "aria-live": "polite" });
  private readonly instance: HTMLSelectElement;
  private readonly feature: HTMLSelectElement;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    const last = history.nSteps - 1;
    this.slider = html("input", { type: "range", class: "ik-slider", min: 0, max: last, step: 1, "aria-label": "Training step" });
    const drawing = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
    drawing.append(this.icon);
    this.play.append(drawing);
    this.slider.disabled = this.play.disabled = last === 0;
    this.slider.addEventListener("input", alert.guard(() => store.set({ index: this.slider.valueAsNumber, playing: false })));
    this.play.addEventListener("click", alert.guard(() => this.toggle()));
    this.element.append(this.play, this.slider, this.readout);
    const names = history.header.instances.map((name, number) => option(shortened(label(name)), number));
    this.instance = this.choice("Model", names, (value) => store.set({ instance: Number(value) }));
    const features = Array.from({ length: history.nFeatures }, (_, feature) => option(String(feature), feature));
    const chosen = (value: string): void => store.set({ feature: value === "" ? null : Number(value) });
    this.feature = this.choice("Feature", [option("all", ""), ...features], chosen);
    if (history.has("importance")) {
      const colours = [option("polytope", "polytope"), option("importance", "importance")];
      this.choice("Colour", colours, (value) => store.set({ colour: value as State["colour"] }));
    }
  }

  /** Space plays, wherever in the widget the focus is, unless a control there has its own use for it. */
  onKey(event: KeyboardEvent): void {
    if (event.key !== " " || (event.target as Element).closest("button, select") || this.play.disabled) return;
    event.preventDefault();
    this.toggle();
  }

  update(changed?: Changed<State>): void {
    const { history, store } = this.context;
    const { index, instance, feature, playing } = store.state;
    const step = `step ${integer(history.steps[index]!)}`;
    this.slider.valueAsNumber = index;
    this.slider.style.setProperty("--ik-share", `${(100 * index) / Math.max(history.nSteps - 1, 1)}%`);
    this.slider.setAttribute("aria-valuetext", step);
    if (this.readout.textContent !== step) this.readout.replaceChildren(html("strong", {}, step));
    this.instance.value = String(instance);
    this.feature.value = feature === null ? "" : String(feature);
    if (!changed || changed.has("playing")) this.showPlaying(playing);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private toggle(): void {
    const { store, history } = this.context;
    const { playing, index } = store.state;
    const atEnd = index === history.nSteps - 1;
    store.set({ playing: !playing, ...(!playing && atEnd ? { index: 0 } : {}) });
  }

  private showPlaying(playing: boolean): void {
    this.icon.setAttribute("d", playing ? ICONS.pause : ICONS.play);
    this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.play.title = playing ? "Pause (space)" : "Play (space)";
    // A reader that spoke every frame would never finish.
    this.readout.setAttribute("aria-live", playing ? "off" : "polite");
    this.stop();
    if (playing) this.timer = setInterval(this.context.alert.guard(() => this.advance()), FRAME_MS);
  }

  private advance(): void {
    const { store, history } = this.context;
    const next = store.state.index + 1;
    if (next < history.nSteps) store.set({ index: next });
    if (next >= history.nSteps - 1) store.set({ playing: false });
  }

  private choice(name: string, options: HTMLOptionElement[], chosen: (value: string) => void): HTMLSelectElement {
    const select = html("select", { class: "ik-select", "data-choice": name.toLowerCase() }, ...options);
    select.addEventListener("change", this.context.alert.guard(() => chosen(select.value)));
    this.element.append(html("label", { class: "ik-choice" }, html("span", {}, name), select));
    return select;
  }
}

function option(text: string, value: string | number): HTMLOptionElement {
  return new Option(text, String(value));
}
