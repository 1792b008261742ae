import { html, svg } from "../common/dom";
import { shareWidth, sideDash } from "./strokes";
import type { Circuit } from "./data";

const DISC = "M-1,0A1,1 0 1 1 1,0A1,1 0 1 1 -1,0Z";
/** The shape of each role, of radius 1: told apart without colours too. */
const SHAPES: Record<string, string> = {
  "previous-token": "M-.88,-.88H.88V.88H-.88Z",
  "duplicate-token": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
  "prefix-matching": DISC,
  induction: DISC,
  copying: "M0,-1.1L1.13,.85H-1.13Z",
  "anti-copying": "M0,1.1L1.13,-.85H-1.13Z",
};

export function shapeOf(role: string): string {
  return SHAPES[role] ?? DISC;
}

/** A role as a class and as words; a head without one takes part without passing a threshold. */
export function roleClass(role: string): string {
  return `ik-role-${role || "other"}`;
}

export function roleName(role: string): string {
  return role || "other";
}

/** What shapes, strokes and sizes stand for: those that the circuit has. */
export function legend(circuit: Circuit, roles: ReadonlySet<string>): HTMLElement[] {
  const { header } = circuit;
  const keys = header.roles.filter((role) => roles.has(role)).map((role) => key(shapeSample(role), roleName(role)));
  const sides = new Set(header.edges.map((_, edge) => circuit.side(edge)));
  const name: Record<string, string> = { K: "keys (K)", Q: "queries (Q)", V: "values (V)" };
  for (const side of header.sides.filter((one) => sides.has(one))) keys.push(key(edgeSample(side, false), name[side] ?? side));
  if (header.edges.some((_, edge) => circuit.extreme(edge).negative)) keys.push(key(edgeSample("K", true), "negative share"));
  return keys;
}

function key(sample: Element, text: string): HTMLElement {
  return html("span", { class: "ik-key" }, sample, text);
}

function shapeSample(role: string): SVGSVGElement {
  const sample = svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
  svg("path", { class: `ik-node-mark ${roleClass(role)}`, d: shapeOf(role), transform: "scale(5)" }, sample);
  return sample;
}

function edgeSample(side: string, negative: boolean): SVGSVGElement {
  const sample = svg("svg", { width: 30, height: 12, viewBox: "0 0 30 12", "aria-hidden": "true" });
  const width = shareWidth(0.25);
  const line = { class: `ik-edge-line ik-edge-sample${negative ? " is-negative" : ""}`, d: "M2,6H28", "stroke-width": width };
  svg("path", { ...line, "stroke-dasharray": sideDash(side, width) }, sample);
  if (negative) minus(sample).setAttribute("transform", "translate(15,6)");
  return sample;
}

/** The sign in the middle of an edge with a negative share. */
export function minus(parent: Element): SVGGElement {
  const sign = svg("g", { class: "ik-edge-minus" }, parent);
  svg("circle", { r: 5.5 }, sign);
  svg("path", { d: "M-2.6,0H2.6" }, sign);
  return sign;
}
