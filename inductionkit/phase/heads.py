"""Which heads are induction heads: those that meet both properties, matching and copying; and what the others are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import HistoryError
from ..history import head_scores
from ..scores.nulls import surprise
from ..scores.roles import INDUCTION_ROLES, RoleRule
from ..system.real_numbers import real_number

BOTH = ("prefix_matching", "copying")
LIFTS = ("direct_lift", "total_lift")


def head_roles(
    scores: xr.Dataset, min_prefix_matching: float = 0.3, min_copying: float = -0.5, min_lift: float = 0.1
) -> pd.DataFrame:
    """The role of every head, beside its scores: a row a head, indexed by (layer, head), in order.

    `scores`, `min_prefix_matching`, `min_copying` and `min_lift` are as in `induction_heads`. `role` is "induction" for
    heads that match prefixes and copy; "copying" for those whose copying later heads undo or stand in for;
    "anti-copying" for those that lower what they match; "prefix-matching" for those that match alone; "previous-token"
    and "duplicate-token" from 0.3 of their attention on; else "". `path` says how a head copies, see `induction_heads`.

    Raises HistoryError as `induction_heads` does.
    """
    rule = rule_for(scores, min_prefix_matching, min_copying, min_lift)
    if scores["prefix_matching"].dims != ("layer", "head"):
        raise HistoryError(
            f"prefix_matching has dims {scores['prefix_matching'].dims}, expected ('layer', 'head'); "
            f"choose one step of a history, such as history.isel(step=-1)"
        )
    names = list(head_scores(scores))
    chosen = xr.Dataset({name: scores[name].variable for name in names}, scores[["layer", "head"]].coords)
    table = chosen.reset_coords(drop=True).to_dataframe()[names]
    figures = {name: table[name].to_numpy() for name in names}
    for name, null in _nulls(scores).items():
        if name in table:
            table[f"{name}_p"] = surprise(figures[name], null)
    table["role"], table["path"] = rule.roles_of(figures), rule.paths_of(figures)
    return table


def roles_along(history: xr.Dataset) -> np.ndarray | None:
    """The role of every head at every step of `history`, (step, layer, head), as `head_roles` gives it at one step.

    None if the history lacks prefix matching or copying.
    """
    if any(name not in history or history[name].dims != ("step", "layer", "head") for name in BOTH):
        return None
    names = [name for name in head_scores(history) if history[name].dims == ("step", "layer", "head")]
    return rule_for(history).roles_of({name: history[name].values for name in names})


def rule_for(
    scores: xr.Dataset, min_prefix_matching: float = 0.3, min_copying: float = -0.5, min_lift: float = 0.1
) -> RoleRule:
    """The rule by which `head_roles` tells the roles of `scores`, with the nulls that these have beside them.

    The parameters are as in `induction_heads`. Raises HistoryError if the scores lack prefix matching or copying, or a
    threshold is no number.
    """
    rule = RoleRule(
        min_prefix_matching=real_number(min_prefix_matching, "min_prefix_matching", "[-inf, inf]", HistoryError),
        min_copying=real_number(min_copying, "min_copying", "[-inf, inf]", HistoryError),
        **dict.fromkeys(
            ("min_direct_lift", "min_total_lift"), real_number(min_lift, "min_lift", "(0, inf]", HistoryError)
        ),
    )
    if not isinstance(scores, xr.Dataset):
        raise HistoryError(f"scores must be what scan_heads gives, an xarray.Dataset; seen {type(scores).__name__}")
    missing = [name for name in BOTH if name not in scores]
    if missing:
        raise HistoryError(f"the scores lack {', '.join(missing)}; scan the model with scan_heads")
    return rule.beside(_nulls(scores))


def _nulls(scores: xr.Dataset) -> dict[str, np.ndarray]:
    return {name: scores[f"{name}_null"].values for name in (*BOTH, *LIFTS) if f"{name}_null" in scores}


def heads_text(history: xr.Dataset) -> str:
    """The induction heads of the last step of `history` as a table of text, with roles, paths and what tells them."""
    heads = induction_heads(history.isel(step=-1))
    if heads.empty:
        return "No induction heads at the last checkpoint."
    shown = [name for name in ("role", "path", *BOTH, *LIFTS) if name in heads]
    return f"Induction heads at the last checkpoint:\n{heads[shown].round(2).to_string()}"


def induction_heads(
    scores: xr.Dataset, min_prefix_matching: float = 0.3, min_copying: float = -0.5, min_lift: float = 0.1
) -> pd.DataFrame:
    """The heads that meet both properties of an induction head (O22), strongest prefix matching first.

    `scores` is what `scan_heads` gives, or one step of a history (`history.isel(step=-1)`). A row a head, indexed by
    (layer, head), a column a score. Where the scores have their nulls beside them, `prefix_matching_p`, `copying_p`,
    `direct_lift_p` and `total_lift_p` say how surprising they are: the share of null heads that score as high or
    higher, the head itself counted among them, so at least `1 / (1 + n)`.

    A head matches from `min_prefix_matching` on (0 to 1). It copies if it raises the token that it attends to by at
    least `min_lift` (nats), by whichever path: `direct_lift` or `total_lift`. With nulls beside the scores, the size
    that 95 % of the null lifts stay below takes the place of `min_lift`. The column `path` says how it copies: "direct"
    if at least half of the total goes straight to the logits, "later layers" if less does, "direct, undone" if the
    total is too low: later heads undo it, or would stand in for it, and zeroing the head costs little. The column
    `role` tells the last, "copying", from the others, "induction". Heads that lower what they attend to are not among
    them; `head_roles` has the role of every head.

    Histories of earlier releases have no lifts. There a head copies from `min_copying` on (-1 to 1), which sees the
    direct path alone. On 25 tokens a head that prefers none of them has a copying score of 4/26 - 1 = -0.85; at -0.5
    the attended token is raised four times as much as each other one, at 0 twelve times. How far up a head can come is
    bounded by its width: an OV circuit of rank `d_head` cannot tell all tokens apart.

    All thresholds are choices, not definitions: scores form a continuum, and a head may induce on random tokens and do
    something else on text.

    Raises HistoryError if `scores` has a step dimension or lacks prefix_matching or copying, or a threshold is
    no number.
    """
    table = head_roles(scores, min_prefix_matching, min_copying, min_lift)
    return table[table["role"].isin(INDUCTION_ROLES)].sort_values("prefix_matching", ascending=False)
