import type { Heads } from "../common/heads";

/** One part of a search: a head "1.3", a layer "layer 1", "1." or "1", or that head of every layer, "head 3". */
const PART = /^(?:(?<layer>\d+)\.(?<head>\d+)|(?:layer\s*)?(?<whole>\d+)\.?|head\s*(?<every>\d+))$/i;

/** The heads that a search finds, parts separated by commas; null where it is empty: all of them. */
export function findHeads(heads: Heads, search: string): Set<number> | null {
  const parts = search.split(/[,;]/).map((part) => part.trim()).filter(Boolean);
  if (!parts.length) return null;
  const asked = parts.map((part) => PART.exec(part)?.groups);
  const found = new Set<number>();
  for (const [number, [layer, inLayer]] of heads.pairs.entries()) {
    const fits = ({ layer: one, head: other, whole, every }: Record<string, string | undefined>): boolean =>
      one !== undefined ? Number(one) === layer && Number(other) === inLayer : Number(whole) === layer || Number(every) === inLayer;
    if (asked.some((groups) => groups && fits(groups))) found.add(number);
  }
  return found;
}
