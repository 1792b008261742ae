"""The role that a head has in an induction circuit, told from its scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MIN_PREFIX_MATCHING = 0.3  # share of attention
MIN_PREVIOUS = 0.3  # share of attention; of duplicate-token heads too
MIN_LIFT = 0.1  # nats


def role_of(figures: Mapping[str, float]) -> str:
    """The role of a head, one of `result.ROLES`, by its scores; one that is missing or NaN counts as 0.

    A head that matches prefixes is an induction head if it raises what it attends to through everything downstream
    (`total_lift`), a copying head if it does so along the direct path alone (later heads undo it or stand in for it),
    anti-copying if it lowers it on both, and `prefix-matching` else. The thresholds are choices, not definitions.
    """
    known = {name: float(np.nan_to_num(value)) for name, value in figures.items() if name != "role"}
    total, direct = known.get("total_lift", 0.0), known.get("direct_lift", 0.0)
    if known.get("prefix_matching", 0.0) >= MIN_PREFIX_MATCHING:
        if total >= MIN_LIFT:
            return "induction"
        if direct >= MIN_LIFT:
            return "copying"
        return "anti-copying" if max(total, direct) <= -MIN_LIFT else "prefix-matching"
    if known.get("previous_token", 0.0) >= MIN_PREVIOUS:
        return "previous-token"
    return "duplicate-token" if known.get("duplicate_token", 0.0) >= MIN_PREVIOUS else ""
