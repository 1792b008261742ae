import type { Theme } from "./theme";

export type Colour = [number, number, number];

/** From the ground's colour to the strongest contrast with it. */
const SEQUENTIAL: Record<Theme, Colour[]> = {
  light: [[238, 243, 249], [183, 209, 234], [74, 142, 196], [16, 78, 139], [8, 38, 84]],
  dark: [[29, 37, 47], [30, 66, 104], [47, 122, 181], [126, 190, 233], [238, 248, 255]],
};
/** Orange below zero, blue above: told apart by colour-blind readers. */
const DIVERGING: Record<Theme, Colour[]> = {
  light: [[127, 59, 8], [214, 116, 28], [247, 188, 118], [245, 245, 243], [150, 196, 228], [54, 125, 184], [10, 53, 104]],
  dark: [[255, 214, 160], [240, 148, 77], [139, 78, 30], [33, 38, 45], [35, 86, 130], [86, 170, 228], [200, 231, 255]],
};

/** Numbers to colours. `rgb` is for canvas pixels, `css` for elements, `ink` reads well on top. */
export class ColourScale {
  private readonly stops: Colour[];

  constructor(
    theme: Theme,
    readonly low: number,
    readonly high: number,
  ) {
    this.stops = (low < 0 ? DIVERGING : SEQUENTIAL)[theme];
  }

  /** From 0 to the largest value; where some are below zero, as far to both sides. A hint of a negative is noise. */
  static over(theme: Theme, extent: [number, number] | null): ColourScale {
    const [low, high] = extent ?? [0, 1];
    const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return low < -0.02 * most ? new ColourScale(theme, -most, most) : new ColourScale(theme, 0, high > 0 ? high : 1);
  }

  rgb(value: number): Colour {
    return between(this.stops, this.share(value));
  }

  /** Where a value lies on the scale, 0 to 1. */
  share(value: number): number {
    return Math.min(Math.max((value - this.low) / (this.high - this.low), 0), 1);
  }

  css(value: number): string {
    return `rgb(${this.rgb(value).join(" ")})`;
  }

  ink(value: number): string {
    return inkOn(this.rgb(value));
  }

  /** The whole scale, left to right. */
  get gradient(): string {
    const parts = this.stops.map((_, index) => index / (this.stops.length - 1));
    return `linear-gradient(to right, ${parts.map((part) => this.css(this.low + part * (this.high - this.low))).join(", ")})`;
  }
}

/** The colour `share` of the way, 0 to 1, from the first of evenly spaced stops to the last. */
export function between(stops: readonly Colour[], share: number): Colour {
  const at = share * (stops.length - 1);
  const left = Math.min(Math.floor(at), stops.length - 2);
  return stops[left]!.map((from, channel) => Math.round(from + (stops[left + 1]![channel]! - from) * (at - left))) as Colour;
}

/** Black or white, whichever reads better on a colour. */
export function inkOn(colour: readonly number[]): string {
  const [red, green, blue] = colour.map((channel) => (channel / 255) ** 2.2) as Colour;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

/** 256 colours for attention 0 … 255, as red, green, blue; the square root lets weak attention be seen. */
export function attentionColours(theme: Theme): Uint8ClampedArray {
  const scale = new ColourScale(theme, 0, 1);
  return Uint8ClampedArray.from(Array.from({ length: 256 }, (_, value) => scale.rgb(Math.sqrt(value / 255))).flat());
}
