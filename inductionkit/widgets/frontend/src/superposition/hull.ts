import type { Place } from "./history";

type Face = number[];

/** How far out of a face's plane, against the size of the whole, a point still counts as lying in it. */
const FLAT = 0.04;

/** The faces of the convex hull, each a loop of point numbers: a line for two points, a polygon for points in a plane. */
export function hullFaces(points: Place[]): Face[] {
  if (points.length < 2) return [];
  if (points.length === 2) return [[0, 1]];
  const size = Math.max(...points.map((point) => Math.hypot(...point))) || 1;
  const faces = new Map<string, Face>();
  for (let i = 0; i < points.length; i++) {
    for (let j = i + 1; j < points.length; j++) {
      for (let k = j + 1; k < points.length; k++) {
        const normal = cross(minus(points[j]!, points[i]!), minus(points[k]!, points[i]!));
        const area = Math.hypot(...normal);
        if (area < 1e-6 * size * size) continue;
        const heights = points.map((point) => dot(minus(point, points[i]!), normal) / area / size);
        if (heights.some((height) => height > FLAT) && heights.some((height) => height < -FLAT)) continue;
        const face = points.map((_, index) => index).filter((index) => Math.abs(heights[index]!) <= FLAT);
        faces.set(face.join(), around(points, face, normal, minus(points[j]!, points[i]!)));
      }
    }
  }
  const all = [...faces.values()];
  // Points that all but lie in a plane may have made a face by themselves too.
  return all.filter((face) => !all.some((other) => other.length > face.length && face.every((index) => other.includes(index))));
}

/** The corners of a plane set's hull, in order around it. */
function around(points: Place[], face: Face, normal: Place, first: Place): Face {
  const second = cross(normal, first);
  const [scaleU, scaleV] = [Math.hypot(...first), Math.hypot(...second)];
  const flat = face.map((index) => {
    const from = minus(points[index]!, points[face[0]!]!);
    return { index, u: dot(from, first) / scaleU, v: dot(from, second) / scaleV };
  });
  flat.sort((one, other) => one.u - other.u || one.v - other.v);
  const chain = (ordered: typeof flat): typeof flat => {
    const kept: typeof flat = [];
    for (const point of ordered) {
      while (kept.length > 1 && turn(kept.at(-2)!, kept.at(-1)!, point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept.slice(0, -1);
  };
  return [...chain(flat), ...chain(flat.toReversed())].map(({ index }) => index);
}

function turn(a: { u: number; v: number }, b: { u: number; v: number }, c: { u: number; v: number }): number {
  return (b.u - a.u) * (c.v - a.v) - (b.v - a.v) * (c.u - a.u);
}

function minus(a: Place, b: Place): Place {
  return [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
}

function dot(a: Place, b: Place): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function cross(a: Place, b: Place): Place {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}
