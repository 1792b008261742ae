import { svg } from "../common/dom";
import { decimal, label } from "../common/format";
import { CurveView } from "./curves";
import type { Curve } from "./history";
import type { Context } from "./view";

const HEIGHT = 318;
/** From a curve to its name, above and below; a letter of a name is so wide. */
const [ABOVE, BELOW, LETTER] = [-8, 17, 7.5];

/** The loss beside the control's, with names at the curves instead of a legend. */
export class HeroLoss extends CurveView {
  private readonly names = svg("g", { class: "ik-hero-names" }, this.frame.front);

  constructor(context: Context) {
    super(context, {
      ...{ name: "hero-loss", title: "Loss during training", unit: "nats per token", variable: "loss" },
      ...{ height: HEIGHT, titled: true, isLoss: true },
    });
    this.panel.legend.replaceChildren();
  }

  override draw(width: number): void {
    super.draw(width);
    const { axis, history } = this.context;
    const { window, bump, control } = history.header;
    this.names.replaceChildren();
    if (window) {
      const middle = (axis.xOf(window[0]) + axis.xOf(window[1])) / 2;
      this.write("window", middle, 11, "window");
    }
    if (bump) {
      const [[from, low], [to, high]] = bump.ends;
      const x = (axis.xOf(from) + axis.xOf(to)) / 2;
      this.write(`bump, ${decimal(bump.nats)} nats`, x, this.y((low + high) / 2) + BELOW, "bump", "end");
    }
    const value = history.curve("loss");
    const other = history.control("loss");
    if (value && other) {
      this.nameAtEnd(value, label(history.header.model) || "this run", "value", BELOW);
      this.nameAtEnd(other, `${label(control!)} (control)`, "control", ABOVE);
    }
  }

  /** A name at the right end of a curve, above or below all of it that the name is beside. */
  private nameAtEnd(curve: Curve, text: string, kind: string, shift: number): void {
    const { axis } = this.context;
    const elapsed = axis.valuesOf(curve);
    const left = this.frame.width - text.length * LETTER;
    const beside = [...curve.y].filter((value, index) => Number.isFinite(value) && axis.xInside(elapsed[index + 1] ?? elapsed[index]!) >= left);
    if (!beside.length) return;
    const y = this.y(shift < 0 ? Math.max(...beside) : Math.min(...beside)) + shift;
    this.write(text, this.frame.width, Math.min(Math.max(y, 12), this.frame.height - 3), kind, "end");
  }

  private write(text: string, x: number, y: number, kind: string, anchor = "middle"): void {
    svg("text", { class: `ik-halo ik-hero-name-${kind}`, x, y, "text-anchor": anchor }, this.names).textContent = text;
  }
}
