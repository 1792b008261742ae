"""The role that a head has in an induction circuit, told from its scores. The one rule, which everything else asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        """The role of a head, one of `ROLES`, by its scores; one that is missing or NaN counts as 0.

        A head that matches prefixes is an induction head if it raises what it attends to through everything downstream
        (`total_lift`), a copying head if it does so along the direct path alone (later heads undo it or stand in for
        it), anti-copying if it lowers it on both, and `prefix-matching` else.
        """
        known = {name: float(np.nan_to_num(value)) for name, value in figures.items() if name != "role"}
        if known.get("prefix_matching", 0.0) >= self.min_prefix_matching:
            if path := self.path_of(figures):
                return "copying" if path == "direct, undone" else "induction"
            lifts = {name: figures.get(name, np.nan) for name in ("direct_lift", "total_lift")}
            lowers = [lift <= -getattr(self, f"min_{name}") for name, lift in lifts.items() if np.isfinite(lift)]
            return "anti-copying" if lowers and all(lowers) else "prefix-matching"
        if known.get("previous_token", 0.0) >= self.min_previous:
            return "previous-token"
        return "duplicate-token" if known.get("duplicate_token", 0.0) >= self.min_previous else ""

    def path_of(self, figures: Mapping[str, float]) -> str:
        """By which path a head copies: "direct" if at least half of its total lift goes straight to the logits,
        "later layers" if less does, "direct, undone" if the total does not count; "unknown path" if it copies by
        the one lift that is known, or by `copying` where neither is; "" if it does not copy."""
        direct, total = (figures.get(name, np.nan) for name in ("direct_lift", "total_lift"))
        if not np.isfinite([direct, total]).any():
            return "unknown path" if figures.get("copying", np.nan) >= self.min_copying else ""
        if not np.isfinite([direct, total]).all():
            return "unknown path" if direct >= self.min_direct_lift or total >= self.min_total_lift else ""
        if total >= self.min_total_lift:
            return "direct" if direct >= total / 2 else "later layers"
        return "direct, undone" if direct >= self.min_direct_lift else ""
