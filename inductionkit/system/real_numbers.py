"""Real numbers as users give them: Python's, NumPy's or arrays of them, within an interval."""

from __future__ import annotations

from numbers import Real

import numpy as np
from jaxtyping import Float

from ..errors import InductionKitError


def real_number(value: object, name: str, interval: str, error: type[InductionKitError]) -> float:
    """`value` as a float. Raises `error`, with `name`, if it is no number in `interval`, as `(0, 1]`; NaN is in none.

    >>> real_number(0.5, "density", "(0, 1]", InductionKitError)
    0.5
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not _within(np.array(float(value)), interval).all():
        raise error(f"{name}={value!r} must be a number in {interval}")
    return float(value)


def real_numbers(values: object, name: str, interval: str, error: type[InductionKitError]) -> Float[np.ndarray, ...]:
    """One number or an array of them, of any shape, as float64.

    Raises `error`, with `name`, if there are none, or one is not in `interval`.

    >>> real_numbers([0.5, 1], "density", "(0, 1]", InductionKitError)
    array([0.5, 1. ])
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.array([])
    if not array.size or array.dtype.kind not in "iuf":
        raise error(f"{name}={values!r} must be numbers in {interval}")
    array = array.astype(float)
    if len(outside := array[~_within(array, interval)]):
        raise error(f"{name} must be numbers in {interval}; seen {outside[0]}")
    return array


def _within(numbers: np.ndarray, interval: str) -> np.ndarray:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = numbers >= low if interval[0] == "[" else numbers > low
    inside: np.ndarray = above & (numbers <= high if interval[-1] == "]" else numbers < high)
    return inside
