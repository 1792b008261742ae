/** How wide an edge is drawn that has a share, in pixels. */
export function shareWidth(share: number): number {
  return 1.25 + 7.5 * Math.min(Math.abs(share), 1.2);
}

/** Keys are drawn solid, queries dashed, values dotted. */
export function sideDash(side: string, width: number): string {
  if (side === "Q") return `${(5 + 1.4 * width).toFixed(1)} ${(3 + width).toFixed(1)}`;
  if (side === "V") return `0 ${(2.2 + 1.5 * width).toFixed(1)}`;
  return "none";
}
