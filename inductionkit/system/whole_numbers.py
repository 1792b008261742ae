"""Whole numbers as users give them: Python's or NumPy's, within bounds."""

from __future__ import annotations

from numbers import Integral

from ..errors import InductionKitError


def whole_number(value: object, name: str, least: int, error: type[InductionKitError]) -> int:
    """`value` as an int. Raises `error`, with `name`, if it is no whole number or below `least`.

    >>> whole_number(3, "n_draws", 1, InductionKitError)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise error(f"{name}={value!r} must be a whole number of at least {least}")
    return int(value)
