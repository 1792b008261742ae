"""Where a score lies for a head that prefers no token: not every score is 0 there."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any


def copying_scale(share: Any) -> Any:
    """A share of the logit rise, 0 to 0.5, on the scale of `copying`, -1 to 1; `share` may be an array or a tensor."""
    return 4 * share - 1


def no_preference(score: str, attrs: Mapping[str, object]) -> float | None:
    """Return the value of `score` for a head that prefers no token, None if it is 0 or not known.

    `attrs` are the attributes of the scan. In the terms of `copying`, a head that raises all n tokens of a sample alike
    has `a / (a + s) = 1 / (n + 1)`, n the `prompts_n_distinct`: -0.85 on 25 tokens.
    """
    n_distinct = attrs.get("prompts_n_distinct")
    if score != "copying" or isinstance(n_distinct, bool) or not isinstance(n_distinct, Integral) or n_distinct < 1:
        return None
    return float(copying_scale(1 / (int(n_distinct) + 1)))
