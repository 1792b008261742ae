"""How arrays travel to the browser: one buffer of raw little-endian values and a table of what lies where.

`pack_arrays` and `unpack_arrays` are inverses, and so are `pack_lower` and `unpack_lower`; the
browser's half of the same format is `frontend/src/common/arrays.ts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import numpy as np

# A typed array in the browser must begin at a multiple of its item size; 8 serves every dtype below.
ALIGNMENT = 8
DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "uint8": "|u1"}


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[list[dict[str, Any]], bytes]:
    """One buffer with all `arrays`, and per array its name, dtype, shape and offset in bytes."""
    table: list[dict[str, Any]] = []
    buffer = bytearray()
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"{name} has dtype {array.dtype}; the payload carries {', '.join(DTYPES)}")
        buffer.extend(bytes(-len(buffer) % ALIGNMENT))
        table.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": len(buffer)})
        buffer.extend(np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name]).tobytes())
    return table, bytes(buffer)


def unpack_arrays(table: Sequence[Mapping[str, Any]], buffer: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack_arrays` put into `buffer`."""
    arrays = {}
    for entry in table:
        shape = tuple(entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(buffer, DTYPES[entry["dtype"]], count, entry["offset"])
        arrays[entry["name"]] = values.reshape(shape)
    return arrays


def halved(values: np.ndarray) -> np.ndarray:
    """`values` in half precision, three digits and half the bytes, or in single where half would overflow."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(np.isfinite(half), np.isfinite(values)) else values.astype(np.float32)


def pack_lower(pattern: np.ndarray) -> np.ndarray:
    """The entries with key <= query of (..., query, key), row by row: a causal pattern has no others."""
    return pattern[(..., *np.tril_indices(pattern.shape[-1]))]


def unpack_lower(packed: np.ndarray) -> np.ndarray:
    """The (..., query, key) pattern that `pack_lower` packed, zero above the diagonal."""
    n_tokens = (isqrt(8 * packed.shape[-1] + 1) - 1) // 2
    pattern = np.zeros((*packed.shape[:-1], n_tokens, n_tokens), packed.dtype)
    pattern[(..., *np.tril_indices(n_tokens))] = packed
    return pattern
