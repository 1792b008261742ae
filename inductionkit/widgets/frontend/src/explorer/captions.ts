import { html } from "../common/dom";
import type { Panel } from "../common/panel";

/** What each panel shows, in a line, and how it is defined. */
const CAPTIONS: Record<string, readonly [string, string]> = {
  "hero-loss": [
    "How badly the model predicts held-out text, as training goes on. Lower is better.",
    "The mean, over held-out tokens, of −ln of the probability that the model gave to the token that came. " +
      "The bump is where the curve lies above its convex envelope on a logarithmic axis (dashed): learning stalls, then resumes. " +
      "The shaded window is where induction heads form. The control, if there is one, is a second run under the same axes.",
  ],
  "hero-pattern": [
    "Each row is a token, its colours the earlier tokens that the head looks at. Orange: what followed an earlier copy.",
    "Row: the token being read (query). Column: the token looked at (key). Colours follow the attention weight to the power of 0.7. " +
      "Orange cells stand right after an earlier copy of the row's token: an induction head attends there. Click a row to read it.",
  ],
  "hero-text": [
    "The head finds where the token came before, and the model expects what followed there.",
    "The arc leads from the token being read to the token after its earlier copy; its number is the head's attention. " +
      "The bar is exp(−loss) of the next token: the probability that the whole model gives it. Other heads may contribute to it.",
  ],
  loss: [
    "How badly the model predicts held-out text; lower is better.",
    "Mean of −ln p of each held-out token, in nats. The convex envelope is the highest convex curve below the loss, on the log of training.",
  ],
  icl: [
    "How much better late tokens are predicted than early ones; lower means more is learnt from the context.",
    "Loss at a late token minus loss at an early token of the same text, averaged over held-out texts (Olsson et al., 2022).",
  ],
  slopes: [
    "How fast the loss falls along the text, at each checkpoint.",
    "Derivative of the loss by ln(token index), in nats per e-fold of the index. Negative: later tokens are predicted better.",
  ],
  trajectories: [
    "One line for each head: when it takes up a behaviour.",
    "The chosen score of every head at every checkpoint. Prefix matching is the attention, on repeated random tokens, to what followed earlier copies.",
  ],
  grid: ["Every head at this checkpoint, layer by head.", "Each cell is the chosen score of one head. Layers and heads are counted from 0."],
  scatter: ["Every head at this checkpoint, one score against another.", "Each dot is a head. A trail shows how the chosen head got there."],
  circuit: [
    "Which heads work together, as the circuit assembles.",
    "Edges are shares of one head's output in what another head reads. Previous-token heads feed induction heads.",
  ],
  pattern: [
    "Where the chosen head looks from each token of the text.",
    "Row: query. Column: key. Each row sums to 1. OV lift: by how much attending to a token raises its own logit, in nats.",
  ],
  text: [
    "Which tokens the model has learnt to predict since a chosen checkpoint.",
    "Loss of each token now minus its loss at the reference checkpoint, in nats. Blue: predicted better now.",
  ],
};

/** A line under a panel's title, and a `?` that opens the definition. */
export function explain(panel: Panel): void {
  const [caption, definition] = CAPTIONS[panel.element.dataset.panel!] ?? [];
  if (!caption || !definition) return;
  const help = html("details", { class: "ik-help" }, html("summary", { "aria-label": "Definition", title: "Definition" }, "?"), html("p", {}, definition));
  panel.element.firstElementChild!.after(html("div", { class: "ik-caption" }, html("span", {}, caption), help));
}
