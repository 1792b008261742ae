"""The circuits of a run, one for each checkpoint, as its history holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import HistoryError
from ..history import PER_HEAD, head_scores, validate
from ..scores.roles import SIDES, RoleRule
from .result import EDGE_COLUMNS, InductionCircuit, node_table

EDGES = ("edge_from", "edge_to", "edge_side", "edge_share")


def circuits_of(history: xr.Dataset) -> list[InductionCircuit]:
    """The circuit at each step of a history, from its edges (step, edge) and its scores.

    `edge_from` and `edge_to` are `layer * n_heads + head`, -1 for no edge; `edge_side` counts in `SIDES`. The nodes are
    the heads that edges join and those that match prefixes, with the roles that `head_roles` tells.

    Raises HistoryError if the history has no such edges or no prefix matching, or edges name heads or sides that there
    are not.
    """
    validate(history, (*EDGES, "prefix_matching"))
    n_layers, n_heads = (history.sizes.get(dim, 0) for dim in ("layer", "head"))
    if any(history[name].dims != ("step", "edge") for name in EDGES) or not n_layers * n_heads:
        raise HistoryError(f"{', '.join(EDGES)} must have the dims (step, edge), beside scores by layer and head")
    for name in EDGES:
        if history[name].dtype.kind not in ("f" if name == "edge_share" else "iu"):
            raise HistoryError(f"{name} holds {history[name].dtype}; edges are whole numbers, their shares numbers")
    scores = {name: history[name].values for name in head_scores(history) if history[name].dims == PER_HEAD}
    if "prefix_matching" not in scores:
        raise HistoryError(f"prefix_matching has dims {history['prefix_matching'].dims}, expected {PER_HEAD}")
    nulls = {name: history[f"{name}_null"].values for name in scores if f"{name}_null" in history}
    rule = RoleRule().beside(nulls)
    found = []
    for index in range(history.sizes["step"]):
        sender, to, side, share = (history[name].values[index] for name in EDGES)
        there = sender != -1
        ends = np.stack([sender[there], to[there]]).astype(int)
        sides = side[there].astype(int)
        if ((ends < 0) | (ends >= n_layers * n_heads)).any() or ((sides < 0) | (sides >= len(SIDES))).any():
            step = history["step"].values[index]
            raise HistoryError(f"the edges at step {step} name heads or sides that the history does not have")
        matching = np.argwhere(scores["prefix_matching"][index] >= rule.min_prefix_matching)
        joined = {divmod(int(head), n_heads) for head in ends.ravel()}
        names = sorted(joined | {(int(layer), int(head)) for layer, head in matching})
        figures = {head: {name: float(array[(index, *head)]) for name, array in scores.items()} for head in names}
        named = [SIDES[number] for number in sides]
        columns = [*np.divmod(ends[0], n_heads), *np.divmod(ends[1], n_heads), named, share[there].astype(float)]
        edges = pd.DataFrame(dict(zip(EDGE_COLUMNS, [*columns, np.full(len(named), np.nan)])))
        model = str(history.attrs.get("model", ""))
        found.append(InductionCircuit(model, n_layers, n_heads, node_table(figures, rule), edges))
    return found
