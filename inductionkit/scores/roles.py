"""The role that a head has in an induction circuit, told from its scores. The one rule, which everything else asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ROLES = ("previous-token", "duplicate-token", "prefix-matching", "induction", "copying", "anti-copying", "")
LEAST_LIFT = 1e-3  # nats; where null lifts are smaller or 0
SIDES = ("K", "Q", "V")  # what a head reads through: keys, queries, values
MAX_P = 0.05  # share of null lifts that may be as large
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

        A lift then counts from the size on that 95 % of the null lifts stay below, in place of the fixed number.
        """
        surprising = {
            f"min_{name}": max(float(np.quantile(np.abs(known), 1 - MAX_P)), LEAST_LIFT)
            for name in ("direct_lift", "total_lift")
            if name in nulls and (known := nulls[name][np.isfinite(nulls[name])]).size
        }
        return RoleRule(**{**vars(self), **surprising})

    def role_of(self, figures: Mapping[str, float]) -> str:
        """The role of one head, see `roles_of`."""
        return str(self.roles_of(figures).item())

    def roles_of(self, figures: Mapping[str, Any]) -> np.ndarray:
        """The roles of heads, of `ROLES`, by arrays of their scores; one that is missing or NaN counts as 0.

        A head that matches prefixes is an induction head if it raises what it attends to through everything downstream
        (`total_lift`), a copying head if it does so along the direct path alone (later heads undo it or stand in for
        it), anti-copying if it lowers it on both, and `prefix-matching` else.
        """
        matching, previous, duplicate = (
            np.nan_to_num(np.asarray(figures.get(name, 0.0), float))
            for name in ("prefix_matching", "previous_token", "duplicate_token")
        )
        paths = self.paths_of(figures)
        direct, total = (np.asarray(figures.get(name, np.nan), float) for name in ("direct_lift", "total_lift"))
        known = np.isfinite(direct) | np.isfinite(total)
        lowers = known & ~(direct > -self.min_direct_lift) & ~(total > -self.min_total_lift)  # as far as is known
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
        the one lift that is known, or by `copying` where neither is; "" if it does not copy."""
        direct, total, copying = (
            np.asarray(figures.get(name, np.nan), float) for name in ("direct_lift", "total_lift", "copying")
        )
        n_known = np.isfinite(direct).astype(int) + np.isfinite(total)
        goes_straight, counts = direct >= self.min_direct_lift, total >= self.min_total_lift
        copies = np.select([n_known == 0, n_known == 1], [copying >= self.min_copying, goes_straight | counts], False)
        return np.select(
            [copies, n_known < 2, counts & (direct >= total / 2), counts, goes_straight],
            ["unknown path", "", "direct", "later layers", "direct, undone"],
            "",
        )
