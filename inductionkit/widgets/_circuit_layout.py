"""Where the heads of a circuit are drawn: layers upwards, and across so that edges are short and run over no head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float

from ._circuit_untangle import Tangle

# How many heads with their labels have room beside each other: few on a telephone, more on a wide screen.
CAPACITIES = range(2, 9)
# In rows: the distance between two rows of one layer, and what layers without a node take.
ROW_OF_SAME_LAYER, EMPTY_LAYER, MAX_EMPTY = 0.9, 0.1, 0.7


@dataclass(frozen=True)
class Layout:
    """Places in slots to the right and rows upwards, both from 0: of each node, and of the middle of each layer."""

    x: Float[np.ndarray, " node"]
    y: Float[np.ndarray, " node"]
    layers: Float[np.ndarray, " layer"]


def place_nodes(layers: Sequence[int], n_layers: int, edges: Sequence[tuple[int, int, float]], capacity: int) -> Layout:
    """The layout of nodes, given by their `layers` in order, with `capacity` slots to a row.

    Two nodes of a row are at least one slot apart. A layer with more nodes than slots takes several rows. `edges` are
    (from, to, weight), by node: those of more weight are kept shorter.
    """
    in_layer = {
        layer: [node for _, node in group] for layer, group in groupby(_numbered(layers), key=lambda one: one[0])
    }
    rows: list[tuple[float, list[int]]] = []
    at, middles = 0.0, np.zeros(n_layers)
    for empty, group in groupby(range(n_layers), key=lambda layer: layer not in in_layer):
        numbers = list(group)
        if empty:
            height = min(EMPTY_LAYER * len(numbers), MAX_EMPTY)
            # Half a row of air between the dots and the heads on either side.
            start = at - 0.5 if numbers[0] else at
            middles[numbers] = start + height * (np.arange(len(numbers)) + 0.5) / len(numbers)
            at += height + (0 if numbers[0] else 0.5)
            continue
        for layer in numbers:
            n_rows = -(-len(in_layer[layer]) // capacity)
            own = [(at + row * ROW_OF_SAME_LAYER, in_layer[layer][row::n_rows]) for row in range(n_rows)]
            rows += own
            middles[layer] = (at + own[-1][0]) / 2
            at = own[-1][0] + 1
    tangle = Tangle(rows, edges, capacity - 1)
    return Layout(tangle.untangled(), tangle.y, middles)


def _numbered(layers: Sequence[int]) -> list[tuple[int, int]]:
    return [(layer, node) for node, layer in enumerate(layers)]
