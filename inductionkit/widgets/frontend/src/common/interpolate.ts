/**
 * Stands in for d3-interpolate, which d3-scale imports: scales here map numbers to numbers, and the colours, dates and
 * transforms of the original would be a sixth of every bundle. Rounding and diverging scales would need more.
 */
export function interpolate(from: number, to: number): (part: number) => number {
  return (part) => from * (1 - part) + to * part;
}

export { interpolate as interpolateNumber, interpolate as interpolateRound, interpolate as piecewise };
