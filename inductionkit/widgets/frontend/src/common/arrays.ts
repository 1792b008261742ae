/** The arrays of a payload; the Python half of the format is `_payload.py`. */

export interface Entry {
  name: string;
  dtype: "float32" | "float64" | "uint8";
  shape: number[];
  offset: number;
}

export type Values = Float32Array | Float64Array | Uint8Array;

const TYPES = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array };

export function readArrays(entries: Entry[], data: DataView): Map<string, Values> {
  const arrays = new Map<string, Values>();
  for (const { name, dtype, shape, offset } of entries) {
    const count = shape.reduce((product, size) => product * size, 1);
    const type = TYPES[dtype];
    const start = data.byteOffset + offset;
    // A copy: the view that Jupyter hands over may begin anywhere, a typed array may not.
    arrays.set(name, new type(data.buffer.slice(start, start + count * type.BYTES_PER_ELEMENT) as ArrayBuffer));
  }
  return arrays;
}
