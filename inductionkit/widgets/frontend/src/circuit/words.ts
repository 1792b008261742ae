import type { Circuit } from "./data";
import { roleName } from "./marks";

const FIGURES: Record<string, string> = {
  prefix_matching: "prefix matching",
  previous_token: "previous token",
  duplicate_token: "duplicate token",
  direct_lift: "direct lift",
  total_lift: "total lift",
  loss_effect: "loss without it (estimated)",
};
const SCORES = new Set(["prefix_matching", "previous_token", "duplicate_token"]);
const SHARES: Record<string, string> = { K: "share of the score gap", Q: "share of the score gap", V: "share of the sender's lift" };

/** A share or score with two decimals and no zero before the point. */
export function share(value: number): string {
  return value.toFixed(2).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

export function nats(value: number, digits = Math.abs(value) < 0.995 ? 2 : 1): string {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : `${value < 0 ? "" : "+"}${text}`.replace("-", "−");
}

/** The figure behind a node's role, as its label says it; nothing where that is not known. */
export function nodeLabel(circuit: Circuit, step: number, node: number): string {
  const [figure, before, after] = circuit.header.labels[circuit.role(step, node) ?? ""] ?? [null, "", ""];
  const value = figure === null ? NaN : circuit.figure(figure, step, node);
  return Number.isFinite(value) ? `${before}${SCORES.has(figure!) ? share(value) : nats(value)}${after}` : "";
}

/** A name and a value for each figure known of a node. */
export function nodeFigures(circuit: Circuit, step: number, node: number): [string, string][] {
  const rows: [string, string][] = [];
  for (const name of circuit.header.figures) {
    const value = circuit.figure(name, step, node);
    if (Number.isFinite(value)) rows.push([FIGURES[name] ?? name, SCORES.has(name) ? share(value) : `${nats(value, 2)} nats`]);
  }
  return rows;
}

export function edgeFigures(circuit: Circuit, step: number, edge: number): [string, string][] {
  const measured = circuit.measured(step, edge);
  const told = Number.isFinite(measured) ? share(measured) : "no";
  return [[SHARES[circuit.side(edge)]!, share(circuit.share(step, edge))], ["measured by ablation", told]];
}

/** An edge as a node has it: the other end, the side and the share, and the share that was measured. */
export function edgeOf(circuit: Circuit, step: number, edge: number, other: number): [string, string] {
  const measured = circuit.measured(step, edge);
  const more = Number.isFinite(measured) ? ` (measured ${share(measured)})` : "";
  return [`${circuit.name(other)} ${circuit.side(edge)}`, `${share(circuit.share(step, edge))}${more}`];
}

/** All that is known of a node, for screen readers. */
export function nodeText(circuit: Circuit, step: number, node: number): string {
  const role = circuit.role(step, node);
  if (role === null) return `${circuit.name(node)}: not in the circuit here`;
  const { into, outOf } = circuit.edgesOf(step, node);
  const told = (edges: number[], end: 0 | 1): string =>
    edges.map((edge) => edgeOf(circuit, step, edge, circuit.header.edges[edge]![end]).join(" ")).join(", ");
  const parts = [
    nodeFigures(circuit, step, node).map((row) => row.join(" ")).join(", "),
    into.length ? `from ${told(into, 0)}` : "",
    outOf.length ? `to ${told(outOf, 1)}` : "",
  ];
  // Whoever speaks to the page says what they see: the label comes first.
  const label = [circuit.name(node), nodeLabel(circuit, step, node)].filter(Boolean).join(" ");
  return `${label}, ${roleName(role)}: ${parts.filter(Boolean).join("; ")}`;
}
