/** A score as text, with the decimals that its scale calls for; only powers of ten will do where those are null. */
export function number(value: number | undefined, digits: number | null): string {
  if (value === undefined || !Number.isFinite(value)) return "–";
  const text = digits === null ? value.toExponential(2) : value.toFixed(digits);
  return /^-[0.]+(e|$)/.test(text) ? text.slice(1) : text.replace("-", "−");
}

/** A name as read: `prefix_matching` with a space. */
export function spaced(name: string): string {
  return name.replaceAll("_", " ");
}

/** The decimals that three digits of `limit` need, or null where there are too many. */
export function digitsOf(limit: number): number | null {
  return limit >= 1e-3 && limit < 1e6 ? Math.max(0, 2 - Math.floor(Math.log10(limit))) : null;
}

/** The largest magnitude among finite values, or 1. */
export function limitOf(values: Iterable<number>): number {
  let limit = 0;
  for (const value of values) if (Number.isFinite(value)) limit = Math.max(limit, Math.abs(value));
  return limit || 1;
}
