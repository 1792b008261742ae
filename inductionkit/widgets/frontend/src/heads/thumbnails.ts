import type { Alert } from "../common/alert";
import { ColourScale } from "../common/colours";
import { html } from "../common/dom";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed, Store } from "../common/store";
import { themeOf } from "../common/theme";

/** Pixels of a small pattern, however many tokens there are. */
const SIDE = 64;

export interface State {
  /** The head on show, by its place among those that travelled, and the one under the pointer. */
  index: number;
  hover: number | null;
  hidesFirst: boolean;
  scale: "linear" | "square root";
}

/** Attention 0 to 255 of a head, row by row of the lower triangle. */
export type Levels = (index: number) => Promise<Uint8Array>;

/** The patterns of all heads, small, a row for each layer. */
export class Thumbnails implements View<State> {
  readonly panel = new Panel("heads", "All heads", "a row for each layer");
  private readonly buttons: HTMLButtonElement[];
  private readonly whole = document.createElement("canvas");
  private paintings = 0;

  constructor(
    private readonly names: readonly (readonly [number, number])[],
    private readonly nTokens: number,
    private readonly levels: Levels,
    private readonly store: Store<State>,
    private readonly root: HTMLElement,
    private readonly alert: Alert,
  ) {
    this.whole.width = this.whole.height = nTokens;
    this.buttons = names.map((pair) => {
      const canvas = html("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
      const name = pair.join(".");
      return html("button", { type: "button", class: "ik-thumb", title: name, "aria-label": `Head ${name}`, tabindex: -1 }, canvas);
    });
    const rows = new Map<number, HTMLElement>();
    for (const [index, [layer]] of names.entries()) {
      if (!rows.has(layer)) rows.set(layer, html("div", { class: "ik-thumb-row" }, html("span", {}, String(layer))));
      rows.get(layer)!.append(this.buttons[index]!);
    }
    const grid = html("div", { class: "ik-thumbs", role: "group", "aria-label": "Heads, layer by head" }, ...rows.values());
    grid.addEventListener("click", alert.guard((event: Event) => {
      const index = this.indexOf(event);
      if (index !== null) store.set({ index });
    }));
    grid.addEventListener("pointerover", alert.guard((event: Event) => store.set({ hover: this.indexOf(event) })));
    grid.addEventListener("pointerleave", () => store.set({ hover: null }));
    this.panel.body.append(grid);
  }

  draw(): void {
    this.mark();
    this.paint().catch((error: unknown) => this.alert.show(error));
  }

  update(changed: Changed<State>): void {
    if (changed.has("hidesFirst") || changed.has("scale")) this.draw();
    else this.mark();
  }

  private mark(): void {
    const { index, hover } = this.store.state;
    for (const [own, button] of this.buttons.entries()) {
      button.setAttribute("aria-pressed", String(own === index));
      button.tabIndex = own === index ? 0 : -1;
    }
    this.panel.value.textContent = `head ${this.names[hover ?? index]!.join(".")}`;
  }

  /** One after the other; a later painting ends the one before it. */
  private async paint(): Promise<void> {
    const own = ++this.paintings;
    const { hidesFirst, scale } = this.store.state;
    const colours = new ColourScale(themeOf(this.root), 0, 1);
    const palette = Array.from({ length: 256 }, (_, level) => colours.rgb(scale === "linear" ? level / 255 : Math.sqrt(level / 255)));
    const draw = this.whole.getContext("2d")!;
    for (const [index, button] of this.buttons.entries()) {
      const levels = await this.levels(index);
      if (own !== this.paintings) return;
      const image = draw.createImageData(this.nTokens, this.nTokens);
      for (let query = 0, at = 0; query < this.nTokens; query++) {
        for (let key = 0; key <= query; key++, at++) {
          if (hidesFirst && key === 0) continue;
          image.data.set([...palette[levels[at]!]!, 255], 4 * (query * this.nTokens + key));
        }
      }
      draw.putImageData(image, 0, 0);
      const small = button.querySelector("canvas")!.getContext("2d")!;
      small.imageSmoothingEnabled = this.nTokens > SIDE;
      small.clearRect(0, 0, SIDE, SIDE);
      small.drawImage(this.whole, 0, 0, SIDE, SIDE);
    }
    this.root.dataset.thumbnails = `${scale}${hidesFirst ? ", first hidden" : ""}`;
  }

  private indexOf(event: Event): number | null {
    const index = this.buttons.indexOf((event.target as Element).closest<HTMLButtonElement>(".ik-thumb")!);
    return index < 0 ? null : index;
  }
}
