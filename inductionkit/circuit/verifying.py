"""Edges of a circuit by ablation: what one head wrote is taken from what another reads, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..lens import Lens
from ..lens.readings import Readings
from ..lens.readout import summed_lift
from ..lens.without_edge import WithoutEdge, logits_with
from ..scan.circuit_tracing import Edge, TwoRepeats, written_from_followers
from ..scan.measurement import Advance, silently


@torch.no_grad()
def measured_shares(
    lens: Lens, prompts: TwoRepeats, edges: Sequence[Edge], max_bytes: int, advance: Advance = silently
) -> dict[Edge, float]:
    """The share of the receiver's gap (K, Q) or of the sender's total lift (V) that is lost without each edge."""
    lost = dict.fromkeys(edges, 0.0)
    layers = {edge.receiver[0] for edge in edges} | {edge.sender[0] for edge in edges if edge.side == "V"}
    batches = prompts.batches(lens, max_bytes) if edges else []
    for batch in batches:
        readings = Readings(lens, batch.tokens, layers)
        without = WithoutEdge(readings)
        moves_on = any(edge.side == "V" for edge in edges)
        clean_lift = _lift(lens, batch) if moves_on else 0.0
        for edge in edges:
            layer, head = edge.receiver
            clean = readings.of[layer]
            if edge.side == "V":
                sender = readings.of[edge.sender[0]]
                assert sender.values is not None and clean.values is not None  # it would not have been traced
                pattern = readings.patterns[edge.sender[0]]
                values = sender.values - lens.circuits().value_bias(edge.sender[0])
                removed = written_from_followers(readings, edge.sender[0], pattern, values, batch)
                changed = without.reading(layer, removed[:, :, edge.sender[1]], "V")
                assert changed.values is not None
                moved = readings.patterns[layer][:, head] @ (changed.values - clean.values)[:, :, head]
                lost[edge] += clean_lift - _lift(lens, batch, layer, head, moved)
            else:
                removed = readings.written(edge.sender[0])[:, :, edge.sender[1]]
                changed = without.reading(layer, removed, edge.side)
                gaps = (each.gap(head, batch.attended, batch.second) for each in (clean, changed))
                lost[edge] += float(next(gaps) - next(gaps))
            advance(1 / len(batches))
    n_queries = prompts.targets.numel()
    return {edge: total / (edge.whole * n_queries) for edge, total in lost.items()}


def _lift(lens: Lens, batch: TwoRepeats, *added: Any) -> float:
    """The followers' logits less the mean logit, summed over the second repeat; `added` to a head's output."""
    return summed_lift(logits_with(lens, batch.tokens, *added)[:, batch.second], batch.targets).item()
