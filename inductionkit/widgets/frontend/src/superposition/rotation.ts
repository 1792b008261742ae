import type { Place } from "./history";

/** Where an orthographic view is taken from, in radians. */
export interface Rotation {
  azimuth: number;
  elevation: number;
}

export const INITIAL: Rotation = { azimuth: -0.6, elevation: 0.45 };
const KEY_STEP = Math.PI / 24;
const DRAG_STEP = 0.01;

/** To the right, up, and towards the reader. */
export function rotate([x, y, z]: Place, { azimuth, elevation }: Rotation): Place {
  const [cosA, sinA, cosE, sinE] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
  const right = cosA * x - sinA * y;
  const deep = sinA * x + cosA * y;
  return [right, cosE * z + sinE * deep, sinE * z - cosE * deep];
}

export function dragged({ azimuth, elevation }: Rotation, right: number, down: number): Rotation {
  return { azimuth: azimuth + right * DRAG_STEP, elevation: clamp(elevation + down * DRAG_STEP) };
}

/** The rotation after a key, undefined for keys that don't rotate. */
export function keyed({ azimuth, elevation }: Rotation, key: string): Rotation | undefined {
  const turned: Record<string, Rotation> = {
    ArrowLeft: { azimuth: azimuth - KEY_STEP, elevation },
    ArrowRight: { azimuth: azimuth + KEY_STEP, elevation },
    ArrowUp: { azimuth, elevation: clamp(elevation - KEY_STEP) },
    ArrowDown: { azimuth, elevation: clamp(elevation + KEY_STEP) },
    Home: INITIAL,
  };
  return turned[key];
}

/** From straight below to straight above: further, left and right would change sides. */
function clamp(elevation: number): number {
  return Math.min(Math.max(elevation, -Math.PI / 2), Math.PI / 2);
}
