"""Places across for the nodes of a layered graph, such that edges are short and run over no node."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

MAX_SWEEPS = 12
# Places that a node may move to, in slots.
GRID = 0.5
# A node's shape reaches this far to both sides, in slots, and its label this far to the right.
SHAPE, LABEL = 0.24, 0.72
# What an edge costs per slot sideways, and for running over a node and over a label; what a node costs off the middle.
PER_SLOT, OVER_SHAPE, OVER_LABEL, OFF_MIDDLE = 1.0, 1.6, 0.9, 0.04
LEAST_WEIGHT = 0.15

# How far sideways an edge has got, by how far upwards: it leaves and arrives upright, as a cubic curve.
_T = np.linspace(0, 1, 65)
UP, ACROSS = 1.5 * _T * (1 - _T) + _T**3, 3 * _T**2 - 2 * _T**3


class Tangle:
    """Nodes in `rows` (height, nodes), `edges` (from, to, weight), and slots from 0 to `last`."""

    def __init__(
        self, rows: Sequence[tuple[float, list[int]]], edges: Sequence[tuple[int, int, float]], last: int
    ) -> None:
        self.rows = [nodes for _, nodes in rows]
        self.last = last
        self.y = np.zeros(sum(map(len, self.rows)))
        self.x = np.zeros(len(self.y))
        for height, nodes in rows:
            self.y[nodes] = height
            self.x[nodes] = np.arange(len(nodes)) + round(last - len(nodes) + 1) // 2
        ends = np.array([edge[:2] for edge in edges], int).reshape(-1, 2)
        self.sender, self.to = ends.T
        self.weight = LEAST_WEIGHT + np.array([abs(edge[2]) for edge in edges])
        rise = (self.y[self.to] - self.y[self.sender])[:, None]
        part = (self.y[None] - self.y[self.sender][:, None]) / rise
        self.passes = (part > 0.01) & (part < 0.99)
        self.across = np.interp(part, UP, ACROSS)

    def untangled(self) -> Float[np.ndarray, " node"]:
        """Moves one node, or swaps two of a row, for as long as that makes the drawing better."""
        for _ in range(MAX_SWEEPS):
            moves = [self._move(node, row) for row in self.rows for node in row]
            swaps = [self._swap(one, other) for row in self.rows for one, other in combinations(row, 2)]
            if not any(moves) and not any(swaps):
                break
        return self.x

    def _move(self, node: int, row: list[int]) -> bool:
        others = self.x[[other for other in row if other != node]]
        grid = np.arange(0, self.last + GRID / 2, GRID)
        free = grid[(np.abs(grid[:, None] - others) >= 1).all(1)]
        costs = self._cost(node, np.array([self.x[node], *free]))
        best = int(costs.argmin())
        if costs[best] > costs[0] - 1e-6:
            return False
        self.x[node] = free[best - 1]
        return True

    def _swap(self, one: int, other: int) -> bool:
        before = self._both(one, other)
        self.x[[one, other]] = self.x[[other, one]]
        if self._both(one, other) < before - 1e-6:
            return True
        self.x[[one, other]] = self.x[[other, one]]
        return False

    def _both(self, one: int, other: int) -> float:
        return float(sum(self._cost(node, self.x[[node]])[0] for node in (one, other)))

    def _cost(self, node: int, places: Float[np.ndarray, " place"]) -> Float[np.ndarray, " place"]:
        """What a node and its edges cost at each of `places`, all else staying where it is."""
        own = np.flatnonzero((self.sender == node) | (self.to == node))
        at = places[:, None]
        start, end = (np.where(ends[own] == node, at, self.x[ends[own]]) for ends in (self.sender, self.to))
        length = PER_SLOT * (np.abs(end - start) * self.weight[own]).sum(1)
        course = start[..., None] + (end - start)[..., None] * self.across[own]
        over = _over(course - self.x, self.passes[own]) * self.weight[own][:, None]
        others = self.x[self.sender] + (self.x[self.to] - self.x[self.sender]) * self.across[:, node]
        not_own = self.passes[:, node] & (self.sender != node) & (self.to != node)
        under = _over(others - at, not_own) * self.weight
        total: np.ndarray = length + over.sum((1, 2)) + under.sum(1) + OFF_MIDDLE * np.abs(places - self.last / 2)
        return total


def _over(gap: np.ndarray, passes: np.ndarray) -> np.ndarray:
    """What it costs that an edge passes this far to the right of a node."""
    shape, label = np.abs(gap) < SHAPE, (gap >= SHAPE) & (gap < LABEL)
    return np.where(passes, OVER_SHAPE * shape + OVER_LABEL * label, 0.0)
