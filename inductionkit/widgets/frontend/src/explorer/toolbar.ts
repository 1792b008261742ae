import { html, svg } from "../common/dom";
import { count, integer, label, shortened } from "../common/format";
import type { Field } from "./state";
import type { Context } from "./view";

const FRAME_MS = 160;
const ICONS = { play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11h-3zM9.5 2.5h3v11h-3z" };

/** Checkpoint slider, play button, and the choice of head and text. */
export class Toolbar {
  readonly element = html("div", { class: "ik-toolbar", role: "group", "aria-label": "Checkpoint, head and text" });
  private readonly slider: HTMLInputElement;
  private readonly play = html("button", { class: "ik-play", type: "button" });
  private readonly icon = svg("path");
  private readonly readout = html("output", { class: "ik-step", "aria-live": "polite" });
  private readonly head: HTMLSelectElement | undefined;
  private readonly text: HTMLSelectElement | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    const last = history.nSteps - 1;
    this.slider = html("input", { type: "range", class: "ik-slider", min: 0, max: last, step: 1, "aria-label": "Checkpoint" });
    const drawing = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
    drawing.append(this.icon);
    this.play.append(drawing);
    this.slider.disabled = this.play.disabled = last === 0;
    this.slider.addEventListener("input", alert.guard(() => store.set({ index: this.slider.valueAsNumber, playing: false })));
    this.play.addEventListener("click", alert.guard(() => this.toggle()));
    this.element.append(this.play, this.slider, this.readout);
    if (history.nHeads) this.head = this.choice("Head", heads(context), (head) => store.set({ head }));
    if (history.hasPatterns) {
      const names = history.header.texts.map((name, index) => new Option(shortened(label(name)), String(index)));
      this.text = this.choice("Text", names, (text) => store.set({ text, key: null, query: lastQuery(context, text) }));
    }
  }

  /** Space plays, wherever in the explorer the focus is, unless a control there has its own use for it. */
  onKey(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.key !== " " || target.closest("button, select") || this.play.disabled) return;
    event.preventDefault();
    this.toggle();
  }

  update(changed?: ReadonlySet<Field>): void {
    const { history, store } = this.context;
    const { index, head, text, playing } = store.state;
    const step = `step ${integer(history.steps[index]!)}`;
    const tokens = history.header.elapsed === "tokens" ? `${count(history.elapsed[index]!)} tokens` : "";
    this.slider.valueAsNumber = index;
    this.slider.style.setProperty("--ik-share", `${(100 * index) / Math.max(history.nSteps - 1, 1)}%`);
    this.slider.setAttribute("aria-valuetext", [step, tokens].filter(Boolean).join(", "));
    this.readout.replaceChildren(html("strong", {}, step), tokens && html("span", {}, tokens));
    if (this.head) this.head.value = String(head);
    if (this.text) this.text.value = String(text);
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

  private choice(name: string, options: HTMLElement[], chosen: (value: number) => void): HTMLSelectElement {
    const select = html("select", { class: "ik-select", "data-choice": name.toLowerCase() }, ...options);
    select.addEventListener("change", this.context.alert.guard(() => chosen(Number(select.value))));
    this.element.append(html("label", { class: "ik-choice" }, html("span", {}, name), select));
    return select;
  }
}

function heads({ history }: Context): HTMLElement[] {
  const { layers, heads: inLayer } = history.header;
  return layers.map((layer, index) => {
    const options = inLayer.map((_, head) => {
      const number = index * inLayer.length + head;
      return new Option(history.headName(number), String(number));
    });
    return html("optgroup", { label: `Layer ${layer}` }, ...options);
  });
}

/** The query that a text is first read from: its last token. */
export function lastQuery({ history }: Pick<Context, "history">, text: number): number {
  return Math.max((history.header.tokens[text]?.length ?? 1) - 1, 0);
}
