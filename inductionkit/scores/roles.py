"""The role that a head has in an induction circuit, told from its scores. The one rule, which everything else asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ROLES = ("previous-token", "duplicate-token", "prefix-matching", "induction", "copying", "anti-copying", "")
INDUCTION_ROLES = ("induction", "copying")  # they match and copy, by whichever path


@dataclass(frozen=True)
class RoleRule:
    """From where on a head has a role: shares of attention, and nats. These are choices, not definitions.

    `min_copying` stands in for the lifts in histories that have none.
    """

    min_prefix_matching: float = 0.3
    min_previous: float = 0.3  # of duplicate-token heads too
    min_direct_lift: float = 0.1
    min_total_lift: float = 0.1
    min_copying: float = -0.5

    def beside(self, nulls: Mapping[str, np.ndarray]) -> RoleRule:
        """The rule with lifts judged by the lifts of heads that learnt nothing, where these are known.

        A lift then counts from the largest null lift on, in place of the fixed number.
        """
        largest = {
            f"min_{name}": float(np.nanmax(np.abs(nulls[name])))
            for name in ("direct_lift", "total_lift")
            if name in nulls and np.isfinite(nulls[name]).any()
        }
        return RoleRule(**{**vars(self), **largest})

    def role_of(self, figures: Mapping[str, float]) -> str:
        """The role of one head, see `roles_of`."""
        return str(self.roles_of(figures).item())

    def roles_of(self, figures: Mapping[str, Any]) -> np.ndarray:
        """The roles of heads, of `ROLES`, by arrays of their scores; one that is missing or NaN counts as 0.

        A head that matches prefixes is an induction head if it raises what it attends to through everything downstream
        (`total_lift`), a copying head if it does so along the direct path alone (later heads undo it or stand in for
        it), anti-copying if it lowers it on both, and `prefix-matching` else.
        """
        matching, previous, duplicate, direct, total = (
            np.nan_to_num(np.asarray(figures.get(name, 0.0), float))
            for name in ("prefix_matching", "previous_token", "duplicate_token", "direct_lift", "total_lift")
        )
        paths = self.paths_of(figures)
        lowers = (direct <= -self.min_direct_lift) & (total <= -self.min_total_lift)
        matched = np.select(
            [paths == "direct, undone", paths != "", lowers],
            ["copying", "induction", "anti-copying"],
            "prefix-matching",
        )
        least = (matching >= self.min_prefix_matching, previous >= self.min_previous, duplicate >= self.min_previous)
        return np.select(least, [matched, "previous-token", "duplicate-token"], "")

    def paths_of(self, figures: Mapping[str, Any]) -> np.ndarray:
        """By which path heads copy: "direct" if at least half of the total lift goes straight to the logits, "later
        layers" if less does, "direct, undone" if the total does not count; "unknown path" if a head copies by
        `copying` and its lifts are not known; "" if it does not copy."""
        direct, total, copying = (
            np.asarray(figures.get(name, np.nan), float) for name in ("direct_lift", "total_lift", "copying")
        )
        unknown = ~(np.isfinite(direct) | np.isfinite(total))
        direct, total = np.nan_to_num(direct), np.nan_to_num(total)
        counts = total >= self.min_total_lift
        return np.select(
            [unknown & (copying >= self.min_copying), unknown, counts & (direct >= total / 2), counts,
             direct >= self.min_direct_lift],
            ["unknown path", "", "direct", "later layers", "direct, undone"],
            "",
        )  # fmt: skip
