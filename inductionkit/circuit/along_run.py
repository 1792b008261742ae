"""The circuits of a run, one for each checkpoint, as its history holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import HistoryError
from ..history import validate
from ..scores.roles import RoleRule
from .result import EDGE_COLUMNS, NODE_FIGURES, SIDES, InductionCircuit

EDGES = ("edge_from", "edge_to", "edge_side", "edge_share")


def circuits_of(history: xr.Dataset) -> list[InductionCircuit]:
    """The circuit at each step of a history, from its edges (step, edge) and the scores of the heads they join.

    `edge_from` and `edge_to` are `layer * n_heads + head`, -1 for no edge; `edge_side` counts in `SIDES`. Raises
    HistoryError if the history has no such edges, or they name heads or sides that there are not.
    """
    validate(history, (*EDGES, "prefix_matching"))
    n_layers, n_heads = (history.sizes.get(dim, 0) for dim in ("layer", "head"))
    if any(history[name].dims != ("step", "edge") for name in EDGES) or not n_layers * n_heads:
        raise HistoryError(f"{', '.join(EDGES)} must have the dims (step, edge), beside scores by layer and head")
    scores = {name: history[name].values for name in NODE_FIGURES if name in history}
    found = []
    for index in range(history.sizes["step"]):
        sender, to, side, share = (history[name].values[index] for name in EDGES)
        there = sender >= 0
        ends = np.stack([sender[there], to[there]]).astype(int)
        sides = side[there].astype(int)
        if ((ends < 0) | (ends >= n_layers * n_heads)).any() or ((sides < 0) | (sides >= len(SIDES))).any():
            step = history["step"].values[index]
            raise HistoryError(f"the edges at step {step} name heads or sides that the history does not have")
        matching = np.argwhere(scores["prefix_matching"][index] >= RoleRule().min_prefix_matching)
        joined = {divmod(int(head), n_heads) for head in ends.ravel()}
        names = sorted(joined | {(int(layer), int(head)) for layer, head in matching})
        rows = [{name: values[(index, *head)] for name, values in scores.items()} for head in names]
        nodes = pd.DataFrame(rows, index=_index(names), columns=NODE_FIGURES, dtype=float)
        nodes.insert(0, "role", [RoleRule().role_of(row) for row in rows])
        named = [SIDES[number] for number in sides]
        columns = [*np.divmod(ends[0], n_heads), *np.divmod(ends[1], n_heads), named, share[there].astype(float)]
        edges = pd.DataFrame(dict(zip(EDGE_COLUMNS, [*columns, np.full(len(named), np.nan)])))
        model = str(history.attrs.get("model", ""))
        found.append(InductionCircuit(model, n_layers, n_heads, nodes, edges))
    return found


def _index(heads: list[tuple[int, int]]) -> pd.MultiIndex:
    layers, numbers = zip(*heads) if heads else ((), ())
    return pd.MultiIndex.from_arrays([list(layers), list(numbers)], names=["layer", "head"])
