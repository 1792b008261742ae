/** An SVG path through places; a null is a gap. */
export function path(places: Iterable<readonly [number, number] | null>): string {
  let text = "";
  let pen = "M";
  for (const place of places) {
    if (place) text += `${pen}${place[0].toFixed(2)},${place[1].toFixed(2)}`;
    pen = place ? "L" : "M";
  }
  return text;
}
