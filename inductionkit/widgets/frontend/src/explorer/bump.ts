import type { ScaleLinear } from "d3-scale";
import { svg } from "../common/dom";
import { path } from "../common/path";
import type { Header } from "./history";
import type { Context } from "./view";

const N_POINTS = 48;

/** The loss bump: the chord of the convex envelope, straight on a log axis, and the loss above it. */
export class Bump {
  private readonly above: SVGPathElement;
  private readonly chord: SVGPathElement;

  constructor(
    private readonly context: Context,
    plot: Element,
    private readonly bump: NonNullable<Header["bump"]>,
  ) {
    this.above = svg("path", { class: "ik-bump" }, plot);
    this.chord = svg("path", { class: "ik-line ik-line-envelope" }, plot);
  }

  draw(y: ScaleLinear<number, number>): void {
    const { axis, history } = this.context;
    const [[from, low], [to, high]] = this.bump.ends;
    const chord = Array.from({ length: N_POINTS + 1 }, (_, point): [number, number] => {
      const share = point / N_POINTS;
      return [axis.xOf(from * (to / from) ** share), y(low + (high - low) * share)];
    });
    const loss = history.curve("loss")!.y;
    const curve = [...history.elapsed().entries()]
      .filter(([index, seen]) => seen > from && seen < to && Number.isFinite(loss[index]))
      .map(([index]): [number, number] => [axis.x(axis.values[index]!), y(loss[index]!)]);
    this.chord.setAttribute("d", path(chord));
    this.above.setAttribute("d", `${path([...chord.slice(0, 1), ...curve, ...chord.toReversed()])}Z`);
  }
}
