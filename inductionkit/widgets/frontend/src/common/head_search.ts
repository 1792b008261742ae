import type { Heads } from "./heads";

/** Heads from which a search chooses, with what it may ask of them. */
export interface Searched {
  heads: Heads;
  /** The names of their scores, and the one on show. */
  scores: readonly string[];
  shown: string;
  value(score: string, head: number): number;
  marked: readonly number[];
  /** What a head's role is called, none without one. */
  role(head: number): readonly string[];
}

/** A head "1.3", a layer "layer 1" or "1.", that head of every layer "head 3", a number for a layer or else a head. */
const PLACE = /^(?:(?<layer>\d+)\.(?<head>\d+)|layer\s*(?<whole>\d+)|(?<dotted>\d+)\.|head\s*(?<every>\d+)|(?<number>\d+))$/;
/** "> 0.5" of the score on show, "copying < 0" of another. */
const COMPARISON = /^(?<name>.*?)\s*(?<sign>>=|<=|[><≥≤])\s*(?<bound>[-−]?\d*\.?\d+)$/;
const MIN_LETTERS = 3;

/** What a search field says of itself. */
export const SEARCH_FIELD = {
  ...{ type: "search", class: "ik-search", "aria-label": "Search heads", placeholder: "1.3, induction, > 0.5" },
  title: "1.3; a layer: 1; a head of every layer: head 2; induction, previous, marked; > 0.5, copying > 0; several with commas",
};

type Test = (head: number) => boolean;

/** The heads that a search finds, of several parts any; null where it is empty: all of them. */
export function findHeads(searched: Searched, search: string): Set<number> | null {
  const parts = partsOf(search);
  if (!parts.length) return null;
  const tests = parts.map((part) => testOf(searched, part));
  const all = Array.from({ length: searched.heads.n }, (_, head) => head);
  return new Set(all.filter((head) => tests.some((test) => test(head))));
}

/** Whether what a search finds depends on scores, and so on the checkpoint. */
export function asksForScores(search: string): boolean {
  return partsOf(search).some((part) => !PLACE.test(part) && part !== "marked");
}

function partsOf(search: string): string[] {
  return search.toLowerCase().split(/[,;]/).map((part) => part.trim().replace(/\s+/g, " ")).filter(Boolean);
}

function testOf(searched: Searched, part: string): Test {
  const { heads, marked, shown, value } = searched;
  const place = PLACE.exec(part)?.groups;
  if (place) return placeTest(heads, place);
  if (part === "marked") return (head) => marked.includes(head);
  const comparison = COMPARISON.exec(part)?.groups;
  if (!comparison) return roleTest(searched, part);
  const score = comparison.name ? named(searched.scores, comparison.name) : shown;
  const bound = Number(comparison.bound!.replace("−", "-"));
  const compare: Record<string, (one: number) => boolean> = {
    ...{ ">": (one) => one > bound, "<": (one) => one < bound, ">=": (one) => one >= bound, "<=": (one) => one <= bound },
    ...{ "≥": (one) => one >= bound, "≤": (one) => one <= bound },
  };
  return (head) => score !== undefined && compare[comparison.sign!]!(value(score, head));
}

function placeTest(heads: Heads, { layer, head, whole, dotted, every, number }: Record<string, string | undefined>): Test {
  const isLayer = number !== undefined && heads.layers.includes(Number(number));
  const [inLayer, ofEvery] = [layer ?? whole ?? dotted ?? (isLayer ? number : undefined), head ?? every ?? (isLayer ? undefined : number)];
  return (of) => {
    const [ownLayer, ownNumber] = heads.pair(of);
    return (inLayer === undefined || Number(inLayer) === ownLayer) && (ofEvery === undefined || Number(ofEvery) === ownNumber);
  };
}

/** "induction", "previous" and others: the heads of that role. */
function roleTest({ role }: Searched, part: string): Test {
  return (head) => role(head).some((name) => isMeant(part, name));
}

function named(scores: readonly string[], name: string): string | undefined {
  return scores.find((score) => spacedName(score) === spacedName(name)) ?? scores.find((score) => isMeant(name, score));
}

function isMeant(part: string, name: string): boolean {
  return part.length >= MIN_LETTERS && spacedName(name).startsWith(spacedName(part));
}

function spacedName(name: string): string {
  return name.toLowerCase().replace(/[-_ ]+/g, " ").replace(/ heads?$/, "");
}
