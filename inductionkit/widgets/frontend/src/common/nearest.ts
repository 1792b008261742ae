/** Which of the values, by index, is nearest to one. */
export function nearest(values: ArrayLike<number>, value: number): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (Math.abs(values[i]! - value) < Math.abs(values[best]! - value)) best = i;
  return best;
}

/** Which of so many things is the least `away` and nearer than `reach`, or null; NaN is out of reach. */
export function nearestWithin(reach: number, size: number, away: (index: number) => number): number | null {
  let [best, distance] = [null as number | null, reach];
  for (let index = 0; index < size; index++) {
    const own = away(index);
    if (own < distance) [best, distance] = [index, own];
  }
  return best;
}
