"""Whether circuits can be drawn: the columns, heads and edges that a diagram needs, and one model for all steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..circuit.result import EDGE_COLUMNS, InductionCircuit
from ..errors import HistoryError
from ..scores.roles import ROLES, SIDES

ENDS_AND_SHARE = tuple(name for name in EDGE_COLUMNS if name not in ("side", "measured"))


def checked(circuit: object, step: object) -> InductionCircuit:
    """`circuit`, if its heads exist, each once, and its edges go upwards between them."""
    where = "" if step is None else f" at step {step}"
    if not isinstance(circuit, InductionCircuit):
        raise HistoryError(f"the circuit{where} must be an InductionCircuit; got {type(circuit).__name__}")
    nodes, edges = circuit.nodes, circuit.edges
    if nodes.index.nlevels != 2 or "role" not in nodes:
        raise HistoryError(f"nodes{where} must have a role for each (layer, head); got columns {list(nodes.columns)}")
    if missing := [name for name in EDGE_COLUMNS if name not in edges]:
        raise HistoryError(f"edges{where} lack {', '.join(missing)}; they have {', '.join(map(str, edges.columns))}")
    for column, values, known in (("role", nodes["role"], ROLES), ("side", edges["side"], SIDES)):
        for value in values[~values.isin(known)][:1]:
            raise HistoryError(f"{column} {value!r:.40}{where} is not one of {', '.join(map(repr, known))}")
    _check_nodes(circuit, where)
    _check_edges(circuit, where)
    _check_patterns(circuit, where)
    return circuit


def of_one_model(circuits: Sequence[InductionCircuit]) -> InductionCircuit:
    """The first of `circuits`, if all have as many layers and heads."""
    if not circuits:
        raise HistoryError("there is no circuit to draw; give an InductionCircuit, or a history with at least one step")
    shapes = sorted({(circuit.n_layers, circuit.n_heads) for circuit in circuits})
    if len(shapes) > 1:
        raise HistoryError(f"circuits of one run must be of one model; got (layers, heads) {shapes[0]} and {shapes[1]}")
    return circuits[0]


def _check_nodes(circuit: InductionCircuit, where: str) -> None:
    size = (circuit.n_layers, circuit.n_heads)
    index = circuit.nodes.index
    for layer, head in index:
        if not (_is_within(layer, size[0]) and _is_within(head, size[1])):
            raise HistoryError(
                f"node {(layer, head)!r:.40}{where} is no head of a model of {size[0]} x {size[1]} heads"
            )
    if index.has_duplicates:
        layer, head = index[index.duplicated()][0]
        raise HistoryError(f"head {layer}.{head}{where} is given twice in the circuit's nodes")


def _check_edges(circuit: InductionCircuit, where: str) -> None:
    known, edges = set(circuit.nodes.index), circuit.edges
    for from_layer, from_head, to_layer, to_head, share in zip(*(edges[name].tolist() for name in ENDS_AND_SHARE)):
        sender, to = (from_layer, from_head), (to_layer, to_head)
        if sender not in known or to not in known or not from_layer < to_layer:
            raise HistoryError(
                f"edge {sender} -> {to}{where} must go from a node of the circuit to one of a later layer"
            )
        if not np.isfinite(share):
            raise HistoryError(f"edge {sender} -> {to}{where} has share {share}; a share is a finite number")
    ends: pd.Series = edges.duplicated(list(EDGE_COLUMNS[:5]))
    if ends.any():
        raise HistoryError(f"the circuit{where} has an edge of the same heads and side twice")


def _check_patterns(circuit: InductionCircuit, where: str) -> None:
    if circuit.patterns is None:
        return
    expected = (len(circuit.nodes), len(circuit.tokens), len(circuit.tokens))
    if circuit.patterns.shape != expected:
        raise HistoryError(
            f"patterns{where} have shape {circuit.patterns.shape}; {expected[0]} nodes and {expected[1]} tokens need "
            f"{expected}"
        )


def _is_within(number: object, size: int) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and 0 <= int(number) < size
