import type { Alert } from "../common/alert";
import { html } from "../common/dom";
import { shortened, visible } from "../common/format";

/** How a token is drawn: its ground and ink, and marks by class. */
export interface Look {
  ground: string;
  ink: string;
  marks: string;
}

/** A text as its tokens, one element each. */
export class TokenRow {
  readonly element: HTMLElement;
  private tokens: HTMLElement[] = [];
  private written: readonly string[] | null = null;
  private looks: Look[] = [];

  /** `pointed` is called with the position under the pointer, and with null when it leaves. */
  constructor(alert: Alert, label: string, pointed: (position: number | null) => void) {
    this.element = html("div", { class: "ik-strip", role: "group", tabindex: 0, "aria-label": label });
    const point = alert.guard((event: Event) => {
      const token = (event.target as HTMLElement).closest<HTMLElement>("[data-position]");
      if (token) pointed(Number(token.dataset.position));
    });
    this.element.addEventListener("pointerover", point);
    this.element.addEventListener("pointerdown", point);
    this.element.addEventListener("pointerleave", alert.guard(() => pointed(null)));
  }

  write(tokens: readonly string[]): void {
    if (this.written === tokens) return;
    this.written = tokens;
    this.looks = [];
    this.element.replaceChildren();
    this.tokens = tokens.map((token, position) => {
      const shown = visible(token);
      const element = html("span", { class: "ik-token", "data-position": position, title: `${position}: ${shown}` });
      element.textContent = shortened(shown);
      this.element.append(element);
      if (token.includes("\n")) this.element.append(html("br"));
      return element;
    });
  }

  /** Only what has changed is touched: a long text is drawn anew at every step. */
  shade(look: (position: number) => Look): void {
    for (const [position, token] of this.tokens.entries()) {
      const [next, last] = [look(position), this.looks[position]];
      if (next.ground !== last?.ground) token.style.background = next.ground;
      if (next.ink !== last?.ink) token.style.color = next.ink;
      if (next.marks !== last?.marks) token.className = `ik-token ${next.marks}`;
      this.looks[position] = next;
    }
  }
}

/** A token in a readout, under a title. */
export function tokenBox(token: string, title: string): HTMLElement {
  const shown = visible(token);
  return html("span", { class: "ik-token-named" }, html("small", {}, title), html("code", { title: shown }, shortened(shown)));
}
