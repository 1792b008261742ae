import { format } from "d3-format";

const short = format(".3~s");
const grouped = format(",");

/** 5 060 000 as 5.06M, and billions as B. */
export function count(value: number): string {
  return short(value).replace("G", "B");
}

export function integer(value: number): string {
  return grouped(value);
}

export function decimal(value: number | undefined, digits = 2): string {
  if (value === undefined || !Number.isFinite(value)) return "no data";
  return value.toFixed(digits).replace("-", "−");
}

const NAMED: Record<string, string> = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽" };
const INVISIBLE = /[\p{C}\p{Z}]/gu;
const MAX_TOKEN_LENGTH = 24;

/** Text with every space, control and bidirectional character made visible, so that it can play no tricks. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (character) => {
    const code = character.codePointAt(0)!;
    if (NAMED[character]) return NAMED[character];
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

export function shortened(text: string, length = MAX_TOKEN_LENGTH): string {
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : text;
}

/** A name, where spaces may stay spaces. */
export function label(text: string): string {
  return visible(text).replaceAll("·", " ");
}
