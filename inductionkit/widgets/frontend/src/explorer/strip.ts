import { html } from "../common/dom";
import { shortened, visible } from "../common/format";
import type { Field } from "./state";
import type { Context } from "./view";

/** The text's tokens, each shaded by the attention that the current query pays to it. */
export class TokenStrip {
  readonly element = html("div", { class: "ik-strip", role: "group", "aria-label": "Tokens, shaded by attention of the query" });
  private tokens: HTMLElement[] = [];
  private text = -1;

  constructor(private readonly context: Context) {
    const point = (event: Event): void => {
      const token = (event.target as HTMLElement).closest<HTMLElement>("[data-position]");
      if (token) context.store.set({ query: Number(token.dataset.position), key: null });
    };
    this.element.addEventListener("pointerover", context.alert.guard(point));
    this.element.addEventListener("pointerdown", context.alert.guard(point));
  }

  draw(colours: Uint8ClampedArray): void {
    this.write();
    this.shade(colours);
  }

  update(changed: ReadonlySet<Field>, colours: Uint8ClampedArray): void {
    if (changed.has("text")) this.write();
    if (["index", "head", "text", "query", "key"].some((field) => changed.has(field as Field))) this.shade(colours);
  }

  private write(): void {
    const { history, store } = this.context;
    if (this.text === store.state.text) return;
    this.text = store.state.text;
    this.tokens = [];
    this.element.replaceChildren();
    for (const [position, token] of (history.header.tokens[this.text] ?? []).entries()) {
      const shown = visible(token);
      const element = html("span", { class: "ik-token", "data-position": position, title: `${position}: ${shown}` });
      element.textContent = shortened(shown);
      this.tokens.push(element);
      this.element.append(element);
      if (token.includes("\n")) this.element.append(html("br"));
    }
  }

  private shade(colours: Uint8ClampedArray): void {
    const { history, store } = this.context;
    const { index, head, text, query, key } = store.state;
    const weights = this.tokens.length ? history.attention(index, head, text, query) : undefined;
    for (const [position, token] of this.tokens.entries()) {
      const attended = weights !== undefined && position <= query;
      token.classList.toggle("is-query", position === query);
      token.classList.toggle("is-key", position === key);
      token.classList.toggle("is-later", position > query);
      token.style.background = attended ? colour(colours, weights[position]!) : "";
      token.style.color = attended ? ink(colours, weights[position]!) : "";
    }
  }
}

function colour(colours: Uint8ClampedArray, weight: number): string {
  return `rgb(${colours[3 * weight]} ${colours[3 * weight + 1]} ${colours[3 * weight + 2]})`;
}

/** Black or white, whichever reads better on the colour of `weight`. */
function ink(colours: Uint8ClampedArray, weight: number): string {
  const [red, green, blue] = [0, 1, 2].map((channel) => (colours[3 * weight + channel]! / 255) ** 2.2) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#10151c" : "#f4f7fa";
}
