import { html, setAll, svg } from "../common/dom";
import { decimal } from "../common/format";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { type Context, featured, type State } from "./view";

const MAX_SIDE = 420;
type Colour = [number, number, number];
const DIVERGING: Record<string, [Colour, Colour, Colour]> = {
  light: [[179, 88, 6], [247, 247, 245], [33, 102, 172]],
  dark: [[240, 148, 77], [27, 32, 39], [108, 179, 238]],
};

/** W^T W at the current step: a row a feature, a column what it is read out as. */
export class GramView implements View<State> {
  readonly panel = new Panel("gram", "Interference", "WᵀW, features ordered by their groups at the end");
  private readonly frame = html("div", { class: "ik-gram" });
  private readonly canvas = html("canvas", { class: "ik-gram-canvas", role: "img", "aria-label": "Matrix of overlaps of all features" });
  private readonly overlay = svg("svg", { class: "ik-gram-overlay", "aria-hidden": "true" });
  private order: number[] = [];
  private cell: [number, number] | null = null;
  private side = 0;

  constructor(private readonly context: Context) {
    const { store, alert } = context;
    this.frame.append(this.canvas, this.overlay);
    this.panel.body.append(this.frame, scale());
    this.frame.addEventListener("pointermove", alert.guard((event: PointerEvent) => {
      this.cell = this.cellAt(event);
      store.set({ hover: this.cell && this.cell[0] });
      this.mark();
    }));
    this.frame.addEventListener("pointerleave", alert.guard(() => {
      this.cell = null;
      store.set({ hover: null });
      this.mark();
    }));
    this.frame.addEventListener("click", alert.guard((event: MouseEvent) => {
      const [feature] = this.cellAt(event) ?? [null];
      store.set({ feature: feature === store.state.feature ? null : feature });
    }));
  }

  draw(width: number): void {
    this.side = Math.min(width, MAX_SIDE);
    this.frame.style.width = this.frame.style.height = `${this.side}px`;
    setAll(this.overlay, { width: this.side, height: this.side });
    this.arrange();
    this.paint();
  }

  update(changed: Changed<State>): void {
    if (changed.has("instance")) this.arrange();
    if (changed.has("instance") || changed.has("index")) this.paint();
    else this.mark();
  }

  /** Features of a group beside each other, by the groups of the last step: the order then stays through training. */
  private arrange(): void {
    const { history, store } = this.context;
    const grouped = history.groups(store.state.instance, history.nSteps - 1).flat();
    const others = Array.from({ length: history.nFeatures }, (_, feature) => feature).filter((feature) => !grouped.includes(feature));
    this.order = [...grouped, ...others];
  }

  private paint(): void {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    const n = this.order.length;
    const dark = this.panel.element.closest<HTMLElement>(".ik-root")?.dataset.theme === "dark";
    const [low, middle, high] = dark ? DIVERGING.dark! : DIVERGING.light!;
    this.canvas.width = this.canvas.height = n;
    const draw = this.canvas.getContext("2d")!;
    const image = draw.createImageData(n, n);
    for (const [row, one] of this.order.entries()) {
      for (const [column, other] of this.order.entries()) {
        const value = history.overlap(instance, index, one, other);
        if (!Number.isFinite(value)) continue;
        const end = value < 0 ? low : high;
        const share = Math.min(Math.abs(value), 1);
        const at = 4 * (row * n + column);
        for (let channel = 0; channel < 3; channel++) {
          image.data[at + channel] = middle[channel]! + (end[channel]! - middle[channel]!) * share;
        }
        image.data[at + 3] = 255;
      }
    }
    draw.putImageData(image, 0, 0);
    this.canvas.dataset.shown = `${instance}/${index}`;
    this.mark();
  }

  private mark(): void {
    const { history, store } = this.context;
    const { instance, index } = store.state;
    this.overlay.replaceChildren();
    const feature = featured(store.state);
    const size = this.side / this.order.length;
    if (feature !== null) {
      svg("rect", { class: "ik-row", x: 0, y: this.order.indexOf(feature) * size, width: this.side, height: size }, this.overlay);
    }
    this.panel.value.textContent = "";
    if (!this.cell) return;
    const [one, other] = this.cell;
    const place = { x: this.order.indexOf(other) * size, y: this.order.indexOf(one) * size };
    svg("rect", { class: "ik-cell", ...place, width: size, height: size }, this.overlay);
    this.panel.value.textContent = `${one} as ${other}: ${decimal(history.overlap(instance, index, one, other))}`;
  }

  private cellAt(event: MouseEvent): [number, number] | null {
    const box = this.frame.getBoundingClientRect();
    const at = (offset: number): number | undefined => this.order[Math.floor((offset / box.width) * this.order.length)];
    const [one, other] = [at(event.clientY - box.top), at(event.clientX - box.left)];
    return one === undefined || other === undefined ? null : [one, other];
  }
}

function scale(): HTMLElement {
  const ramp = html("span", { class: "ik-diverging" });
  return html("div", { class: "ik-legend ik-gram-scale" }, html("span", { class: "ik-key" }, "−1", ramp, "1"));
}
