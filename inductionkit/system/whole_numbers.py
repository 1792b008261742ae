"""Whole numbers as users give them: Python's or NumPy's, within bounds."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from jaxtyping import Int

from ..errors import InductionKitError


def whole_number(value: object, name: str, least: int, error: type[InductionKitError]) -> int:
    """`value` as an int. Raises `error`, with `name`, if it is no whole number or below `least`.

    >>> whole_number(3, "n_draws", 1, InductionKitError)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise error(f"{name}={value!r} must be a whole number of at least {least}")
    return int(value)


def whole_numbers(values: object, name: str, least: int, error: type[InductionKitError]) -> Int[np.ndarray, " value"]:
    """One number or a list of them as an array; floats that are whole are taken too, as NumPy's functions return them.

    Raises `error`, with `name`, if there are none, or one is not whole or below `least`.

    >>> whole_numbers([0, 10.0], "steps", 0, InductionKitError).tolist()
    [0, 10]
    """
    try:
        array = np.atleast_1d(np.asarray(values))
    except ValueError:  # lists of several lengths
        array = np.array([])
    is_numeric = array.ndim == 1 and array.size > 0 and array.dtype.kind in "iuf"
    if not is_numeric or not ((array >= least) & (array == np.floor(array)) & (array < 2**63)).all():
        raise error(f"{name}={values!r} must be whole numbers of at least {least}")
    return array.astype(np.int64)
