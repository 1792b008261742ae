import type { ScaleLinear } from "d3-scale";
import { svg } from "../common/dom";

const LEAST_DISTANCE = 12;
const FRACTIONS: Record<string, string> = { 0.75: "3/4", [2 / 3]: "2/3", 0.5: "1/2", 0.4: "2/5", 0.375: "3/8" };

/** A ruled line for each polytope's dimensionality, with its fraction to the right and its name if there is room. */
export function drawLevels(
  group: SVGGElement,
  levels: [string, number][],
  y: ScaleLinear<number, number>,
  width: number,
  named: boolean,
): void {
  group.replaceChildren();
  let above = -Infinity;
  for (const [name, value] of levels.toSorted((one, other) => other[1] - one[1])) {
    svg("line", { x1: 0, x2: width, y1: y(value), y2: y(value), "data-level": name }, group);
    above = Math.max(y(value), above + LEAST_DISTANCE);
    const text = svg("text", { x: width + 8, y: above, dy: "0.35em" }, group);
    const fraction = FRACTIONS[value] ?? String(value);
    text.textContent = named ? `${fraction} ${name}` : fraction;
  }
}
