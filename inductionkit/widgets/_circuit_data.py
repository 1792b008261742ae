"""What a circuit's diagram shows, taken out of circuits: arrays for the payload and the words beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ..circuit.along_run import circuits_of
from ..circuit.result import NODE_FIGURES, InductionCircuit
from ..display.score_maps import printable
from ..history import PATTERN_SCALE
from ..scores.roles import ROLES, SIDES
from ._circuit_check import checked, of_one_model
from ._circuit_layout import CAPACITIES, Layout, place_nodes
from ._pattern_series import BUDGET_BYTES
from ._payload import pack_lower

Head = tuple[int, int]
ABSENT = 255
# The figure that says how large a head is drawn: the first of them that any head has.
SIZES = ("loss_effect", "total_lift")
# What a head's label says beside its name: a figure, and the words before and after it. Other roles have their size.
LABELS = {
    "previous-token": ("previous_token", "prev ", ""),
    "duplicate-token": ("duplicate_token", "dup ", ""),
    "prefix-matching": ("prefix_matching", "match ", ""),
}


class CircuitData:
    """A circuit at one or more steps, over the nodes and edges that it has at any of them.

    Raises HistoryError if the circuits are none, are of different models, or have edges between heads they do not have.
    """

    def __init__(self, circuits: Mapping[int, InductionCircuit] | InductionCircuit) -> None:
        by_step = {None: circuits} if isinstance(circuits, InductionCircuit) else dict(circuits)
        self.circuits = [checked(circuit, step) for step, circuit in by_step.items()]
        self.first = of_one_model(self.circuits)
        self.steps = [int(step) for step in by_step if step is not None]
        self.nodes: list[Head] = sorted({node for circuit in self.circuits for node in _heads(circuit)})
        self.edges = sorted({edge for circuit in self.circuits for edge in _edges(circuit)})
        known = {name: self._figure(name) for name in NODE_FIGURES}
        self.figures = {name: values for name, values in known.items() if np.isfinite(values).any()}
        self.size = next((name for name in SIZES if name in self.figures), None)

    @classmethod
    def of_history(cls, history: xr.Dataset) -> CircuitData:
        """The circuits of a history, one for each of its steps."""
        return cls(dict(zip(history["step"].values.tolist(), circuits_of(history))))

    def arrays(self) -> dict[str, np.ndarray]:
        """Roles and figures (step, node), shares (step, edge), and the layout for each capacity."""
        found = {"circuit role": self.roles()}
        found |= {f"circuit {name}": values.astype(np.float32) for name, values in self.figures.items()}
        found |= {f"circuit {name}": self.of_edges(name).astype(np.float32) for name in ("share", "measured")}
        for capacity in CAPACITIES:
            layout = self.layout(capacity)
            places = np.concatenate([layout.x, layout.y, layout.layers])
            found[f"circuit layout {capacity}"] = places.astype(np.float32)
        return found

    def layout(self, capacity: int) -> Layout:
        """Where nodes and layers are drawn at every step, with `capacity` heads beside each other."""
        most = np.nan_to_num(np.nanmax(np.abs(self.of_edges("share")), axis=0)) if self.edges else []
        ends = [(self.nodes.index(sender), self.nodes.index(to)) for sender, to, _ in self.edges]
        weighted = [(*pair, float(share)) for pair, share in zip(ends, most)]
        return place_nodes([layer for layer, _ in self.nodes], self.first.n_layers, weighted, capacity)

    def header(self) -> dict[str, object]:
        return {
            "nLayers": int(self.first.n_layers),
            "nHeads": int(self.first.n_heads),
            "nodes": [list(node) for node in self.nodes],
            "edges": [[self.nodes.index(sender), self.nodes.index(to), side] for sender, to, side in self.edges],
            "roles": list(ROLES),
            "sides": list(SIDES),
            "figures": list(self.figures),
            "labels": {role: list(self.label(role)) for role in ROLES},
            "size": self.size,
            "capacities": [CAPACITIES.start, CAPACITIES.stop - 1],
            "sentences": [printable(" ".join(repr(circuit).split())) for circuit in self.circuits],
        }

    def label(self, role: str) -> tuple[str | None, str, str]:
        """The figure that a head of this role is labelled with, None if it is not known, and the words around it."""
        figure, before, after = LABELS.get(role, (self.size, "", " nats"))
        return (figure if figure in self.figures else None), before, after

    def strongest(self) -> Head | None:
        """The induction head with the largest size at the last step that has one, or else the largest head of any."""
        sizes = np.zeros((len(self.circuits), len(self.nodes))) if self.size is None else self.figures[self.size]
        roles = self.roles()
        for wanted in (roles == ROLES.index("induction"), roles != ABSENT):
            if wanted.any():
                step = int(wanted.any(1).nonzero()[0][-1])
                return self.nodes[int(np.where(wanted[step], np.nan_to_num(np.abs(sizes[step])), -1).argmax())]
        return None

    def roles(self) -> np.ndarray:
        """The role of each node at each step (step, node), as its index in ROLES; ABSENT where it takes no part."""
        roles = np.full((len(self.circuits), len(self.nodes)), ABSENT, np.uint8)
        for row, circuit in zip(roles, self.circuits):
            row[self._places(circuit)] = [ROLES.index(role) for role in circuit.nodes["role"]]
        return roles

    def of_edges(self, name: str) -> np.ndarray:
        """A column of the edges (step, edge), NaN where there is no such edge."""
        values = np.full((len(self.circuits), len(self.edges)), np.nan)
        place = {edge: index for index, edge in enumerate(self.edges)}
        for row, circuit in zip(values, self.circuits):
            row[[place[edge] for edge in _edges(circuit)]] = circuit.edges[name]
        return values

    def patterns(self) -> tuple[dict[str, object], np.ndarray, list[str]] | None:
        """The attention patterns that travel, (series, step, lower triangle): which, the arrays, and their tokens.

        Those of the strongest heads come first, where the budget does not hold all.
        """
        with_patterns = [circuit for circuit in self.circuits if circuit.patterns is not None and len(circuit.tokens)]
        if not with_patterns or not self.nodes:
            return None
        tokens = [str(token) for token in with_patterns[-1].tokens]
        n_values = len(tokens) * (len(tokens) + 1) // 2
        n_fitting = max(BUDGET_BYTES // (n_values * len(self.circuits)), 1)
        sent = self._by_size()[:n_fitting]
        levels = np.zeros((len(sent), len(self.circuits), n_values), np.uint8)
        for step, circuit in enumerate(self.circuits):
            if circuit.patterns is None or [str(token) for token in circuit.tokens] != tokens:
                continue
            weights = np.clip(np.nan_to_num(circuit.patterns), 0, 1)
            packed = pack_lower(np.rint(weights / PATTERN_SCALE).astype(np.uint8))
            place = {self.nodes.index(head): index for index, head in enumerate(_heads(circuit))}
            for series, node in enumerate(sent):
                if node in place:
                    levels[series, step] = packed[place[node]]
        heads_texts = [[layer * int(self.first.n_heads) + head, 0] for layer, head in map(self.nodes.__getitem__, sent)]
        return {"heads_texts": heads_texts, "steps": list(range(len(self.circuits)))}, levels, tokens

    def _by_size(self) -> list[int]:
        sizes = np.zeros(len(self.nodes))
        for values in self.figures.values() if self.size is None else [self.figures[self.size]]:
            sizes = np.fmax(sizes, np.fmax.reduce(np.abs(values)))
        return [int(node) for node in np.argsort(-sizes, kind="stable")]

    def _figure(self, name: str) -> np.ndarray:
        values = np.full((len(self.circuits), len(self.nodes)), np.nan)
        for row, circuit in zip(values, self.circuits):
            if name in circuit.nodes:
                row[self._places(circuit)] = circuit.nodes[name]
        return values

    def _places(self, circuit: InductionCircuit) -> list[int]:
        return [self.nodes.index(head) for head in _heads(circuit)]


def _heads(circuit: InductionCircuit) -> list[Head]:
    return [(int(layer), int(head)) for layer, head in circuit.nodes.index]


def _edges(circuit: InductionCircuit) -> list[tuple[Head, Head, int]]:
    """Sender, receiver and side (its index in SIDES) of each edge."""
    columns = ("from_layer", "from_head", "to_layer", "to_head", "side")
    rows: Sequence[tuple[int, int, int, int, str]] = list(zip(*(circuit.edges[name].tolist() for name in columns)))
    return [((a, b), (c, d), SIDES.index(side)) for a, b, c, d, side in rows]
