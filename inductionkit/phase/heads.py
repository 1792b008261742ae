"""Which heads are induction heads: those that meet both properties, matching and copying."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from ..errors import HistoryError
from ..history import head_scores
from ..scores.nulls import surprise
from ..system.real_numbers import real_number

BOTH = ("prefix_matching", "copying")
LIFTS = ("direct_lift", "total_lift")


def induction_heads(
    scores: xr.Dataset, min_prefix_matching: float = 0.3, min_copying: float = -0.5, min_lift: float = 0.1
) -> pd.DataFrame:
    """The heads that meet both properties of an induction head (O22), strongest prefix matching first.

    `scores` is what `scan_heads` gives, or one step of a history (`history.isel(step=-1)`). A row a
    head, indexed by (layer, head), a column a score. Where the scores have their nulls beside them,
    `prefix_matching_p` and `copying_p` say how surprising the two are: the share of null heads that
    score as high or higher, the head itself counted among them, so at least `1 / (1 + n)`.

    `min_prefix_matching` (0 to 1) and `min_copying` (-1 to 1) are choices, not definitions: scores form a continuum,
    and a head may induce on random tokens and do something else on text. On 25 tokens a head that prefers none of
    them has a copying score of 4/26 - 1 = -0.85; at -0.5 the attended token is raised four times as much as each
    other one, at 0 twelve times. How far up a head can come is bounded by its width: an OV circuit of rank `d_head`
    cannot tell all tokens apart.

    `copying` sees the direct path alone, but the heads of deep models copy through later layers. Where `scores` has
    `direct_lift` and `total_lift`, these decide instead: a head copies if either is at least `min_lift` (nats), and the
    column `path` says how: "direct" if at least half of what it adds goes straight to the logits, "later layers" if
    less does, "direct, undone" if the total is below `min_lift`: later heads undo it, or would stand in for it, and
    zeroing the head costs little. A head that lowers what it attends to is not among them.

    Raises HistoryError if `scores` has a step dimension or lacks prefix_matching or copying, or a threshold is
    no number.
    """
    min_prefix_matching = real_number(min_prefix_matching, "min_prefix_matching", "[-inf, inf]", HistoryError)
    min_copying = real_number(min_copying, "min_copying", "[-inf, inf]", HistoryError)
    min_lift = real_number(min_lift, "min_lift", "(0, inf]", HistoryError)
    missing = [name for name in BOTH if name not in scores]
    if missing:
        raise HistoryError(f"the scores lack {', '.join(missing)}; scan the model with scan_heads")
    if scores["prefix_matching"].dims != ("layer", "head"):
        raise HistoryError(
            f"prefix_matching has dims {scores['prefix_matching'].dims}, expected ('layer', 'head'); "
            f"choose one step of a history, such as history.isel(step=-1)"
        )
    names = list(head_scores(scores))
    chosen = xr.Dataset({name: scores[name].variable for name in names}, scores[["layer", "head"]].coords)
    table = chosen.reset_coords(drop=True).to_dataframe()[names]
    for name in BOTH:
        if f"{name}_null" in scores:
            table[f"{name}_p"] = surprise(table[name].to_numpy(), scores[f"{name}_null"].values)
    copies = table["copying"] >= min_copying
    if all(name in table for name in LIFTS):
        copies = table[[*LIFTS]].max(axis=1) >= min_lift
        table["path"] = [_path(direct, total, min_lift) for direct, total in table[[*LIFTS]].to_numpy()]
    both = (table["prefix_matching"] >= min_prefix_matching) & copies
    return table[both].sort_values("prefix_matching", ascending=False)


def _path(direct: float, total: float, min_lift: float) -> str:
    """By which path a head copies, empty if it does not."""
    if total >= min_lift:
        return "direct" if direct >= total / 2 else "later layers"
    return "direct, undone" if direct >= min_lift else ""
