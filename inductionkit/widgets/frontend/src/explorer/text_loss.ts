import { ColourScale } from "../common/colours";
import { choice } from "../common/controls";
import { html } from "../common/dom";
import { decimal, integer } from "../common/format";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import type { Field, State } from "./state";
import { TokenRow, tokenBox, type Look } from "./tokens";
import type { Context, View } from "./view";

const FIELDS: Field[] = ["index", "text", "reference", "query"];
/** Colours reach to the largest change but for this share of the tokens. */
const BEYOND = 0.02;

/** The text, each token coloured by how its loss has changed since a reference checkpoint. */
export class TextLossView implements View {
  readonly panel = new Panel("text", "Loss of each token", "change in nats");
  private readonly readout = html("p", { class: "ik-readout" });
  private readonly strip: TokenRow;
  private readonly reference: HTMLSelectElement;
  private readonly bar = new ScaleBar();
  private pointed: number | null = null;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    const steps = [...history.steps].map((step, index) => new Option(`step ${integer(step)}`, String(index)));
    const { element, select } = choice("Since", steps, (index) => store.set({ reference: Number(index) }));
    this.reference = select;
    this.strip = new TokenRow(alert, "Tokens of the text, coloured by the change of their loss", (position) => {
      this.pointed = position;
      if (position !== null) store.set({ query: position });
      this.readOut();
    });
    this.panel.legend.append(element, this.bar.element);
    this.panel.body.append(this.readout, this.strip.element);
  }

  draw(): void {
    const { history, store, root } = this.context;
    this.reference.value = String(store.state.reference);
    const tokens = history.header.tokens[store.state.text] ?? [];
    const limit = this.limit(tokens.length);
    const scale = new ColourScale(themeOf(root), -limit, limit);
    this.strip.write(tokens);
    this.strip.shade((position): Look => {
      const change = this.change(position);
      const marks = position === store.state.query ? "is-query" : "";
      if (!Number.isFinite(change)) return { ground: "", ink: "", marks: `is-unknown ${marks}`.trim() };
      // A lower loss is better, and drawn blue.
      return { ground: scale.css(-change), ink: scale.ink(-change), marks };
    });
    this.bar.show("blue: better", scale, (value) => decimal(value, 1), true);
    this.readOut();
  }

  update(changed: Changed<State>): void {
    if (FIELDS.some((field) => changed.has(field))) this.draw();
  }

  private loss(index: number, position: number): number {
    const { history, store } = this.context;
    const losses = history.arrays.get("text_loss")!;
    const [nTexts, length] = [history.header.texts.length, losses.length / history.nSteps / history.header.texts.length];
    return losses[(index * nTexts + store.state.text) * length + position] ?? NaN;
  }

  private change(position: number): number {
    const { index, reference } = this.context.store.state;
    return this.loss(index, position) - this.loss(reference, position);
  }

  /** The same colours at every checkpoint: from the reference to whichever end of training is further off. */
  private limit(nTokens: number): number {
    const { history, store } = this.context;
    const { reference } = store.state;
    const sizes: number[] = [];
    for (const index of [0, history.nSteps - 1]) {
      for (let position = 0; position < nTokens; position++) {
        const size = Math.abs(this.loss(index, position) - this.loss(reference, position));
        if (Number.isFinite(size)) sizes.push(size);
      }
    }
    sizes.sort((one, other) => one - other);
    return sizes[Math.floor((sizes.length - 1) * (1 - BEYOND))] || 1;
  }

  private readOut(): void {
    const { history, store } = this.context;
    const { index, reference, text } = store.state;
    const tokens = history.header.tokens[text] ?? [];
    const known = tokens.map((_, position) => this.change(position)).filter(Number.isFinite);
    const mean = known.reduce((sum, change) => sum + change, 0) / known.length;
    this.panel.value.textContent = `mean ${known.length ? signed(mean) : "no data"}`;
    const position = this.pointed ?? Math.min(store.state.query, tokens.length - 1);
    if (!tokens[position]) return this.readout.replaceChildren("no data");
    const [before, after] = [this.loss(reference, position), this.loss(index, position)];
    const change = after - before;
    this.readout.replaceChildren(
      tokenBox(tokens[position], `token ${position}`),
      html("span", { class: "ik-arrow" }, `loss ${decimal(before)} → ${decimal(after)}`),
      html("span", { class: "ik-number" }, Number.isFinite(change) ? signed(change) : "no data"),
    );
  }
}

function signed(value: number): string {
  return value > 0 ? `+${decimal(value)}` : decimal(value);
}
