"""Heads as users name them: a pair of whole numbers, or the label that tables and figures print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral


def named_head(value: object) -> tuple[int, int] | None:
    """Return the (layer, head) that `value` names, or None if it names none.

    >>> named_head((1, 3)), named_head("1.3"), named_head("L1H3")
    ((1, 3), (1, 3), None)
    """
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+)\.([0-9]+)", value.strip())
        return (int(match[1]), int(match[2])) if match else None
    pair = value.tolist() if hasattr(value, "tolist") else value  # an array or a tensor
    if not isinstance(pair, Sequence) or len(pair) != 2:
        return None
    if not all(isinstance(part, Integral) and not isinstance(part, bool) for part in pair):
        return None
    return int(pair[0]), int(pair[1])
