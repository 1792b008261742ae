/** The arrays of a payload; the Python half of the format is `_payload.py`. */

export interface Entry {
  name: string;
  dtype: "float16" | "float32" | "float64" | "uint8";
  shape: number[];
  offset: number;
}

export type Values = Float32Array | Float64Array | Uint8Array;

const TYPES = { float16: Uint16Array, float32: Float32Array, float64: Float64Array, uint8: Uint8Array };

export function readArrays(entries: Entry[], data: DataView): Map<string, Values> {
  const arrays = new Map<string, Values>();
  for (const { name, dtype, shape, offset } of entries) {
    const count = shape.reduce((product, size) => product * size, 1);
    const type = TYPES[dtype];
    const start = data.byteOffset + offset;
    // A copy: the view that Jupyter hands over may begin anywhere, a typed array may not.
    const values = new type(data.buffer.slice(start, start + count * type.BYTES_PER_ELEMENT) as ArrayBuffer);
    arrays.set(name, values instanceof Uint16Array ? fromHalf(values) : values);
  }
  return arrays;
}

/** Half-precision numbers, given by their bits; browsers of 2024 have no Float16Array. */
export function fromHalf(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  for (const [index, half] of bits.entries()) {
    const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
    let size = (1 + fraction / 1024) * 2 ** (exponent - 15);
    if (exponent === 0) size = fraction * 2 ** -24;
    if (exponent === 31) size = fraction ? NaN : Infinity;
    values[index] = half & 0x8000 ? -size : size;
  }
  return values;
}

/** The smallest and the largest finite of the values, or null where there is none. */
export function extent(values: Iterable<number>): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
