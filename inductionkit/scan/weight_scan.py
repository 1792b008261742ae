"""The weight scores of a whole model: layer by layer, each layer's heads against all heads below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..lens import Circuits, Lens
from ..scores import from_weights as weight_scores

COMPOSITION = ("k_composition", "q_composition", "v_composition")


@dataclass
class _Below:
    """The heads of the layers below, one entry a layer: their circuits and their previous-token scores."""

    factors: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    previous_token: list[Tensor] = field(default_factory=list)

    def add(self, value: Tensor, output: Tensor, previous_token: Tensor) -> None:
        self.factors.append(weight_scores.write_factors(value, output))
        self.values.append(value)
        self.outputs.append(output)
        self.previous_token.append(previous_token)


@torch.no_grad()
def score_weights(
    lens: Lens,
    names: Sequence[str],
    heads: Mapping[int, list[int]],
    previous_token: Tensor,
    effective_embedding: bool,
    found: dict[str, Tensor],
    advance: Callable[[], object],
) -> dict[str, str]:
    """Fill `found` with the scores in `names` that need weights; the reasons for those that stay NaN.

    `previous_token` (layer, head) is what `qk_trace` weighs the heads below with; NaN where unknown.
    """
    circuits, wanted, reasons = lens.circuits(), set(names), {}
    looks_below = bool(wanted & {"qk_trace", *COMPOSITION})
    gram = circuits.gram(effective_embedding) if "ov_copying" in wanted and lens.has_direct_path else None
    embedding_gram = circuits.embedding_gram() if "qk_trace" in wanted else None
    below = _Below()
    for layer in range(max(heads) + 1):
        if layer in lens.unscored:
            continue
        value, output, chosen = circuits.value(layer), circuits.output(layer), heads.get(layer, [])
        scores = {}
        if gram is not None and chosen:
            scores["ov_copying"] = weight_scores.ov_copying(value[chosen], output[chosen], gram)
        if chosen and below.factors:
            scores |= _compositions(circuits, layer, chosen, below)
            if circuits.normalises_queries(layer):
                reasons[f"k_composition, q_composition, qk_trace in layer {layer}"] = (
                    "queries and keys pass a norm of their own: weights alone do not say what they match"
                )
            elif embedding_gram is not None:
                scores["qk_trace"] = weight_scores.qk_trace(
                    circuits.query(layer)[chosen],
                    circuits.key(layer)[chosen],
                    torch.cat(below.values),
                    torch.cat(below.outputs),
                    torch.cat(below.previous_token),
                    embedding_gram,
                )
        for name in scores.keys() & wanted:
            found[name][layer, chosen] = scores[name]
        if looks_below:
            below.add(value, output, previous_token[layer])
        advance()
    return reasons


def _compositions(circuits: Circuits, layer: int, chosen: list[int], below: _Below) -> dict[str, Tensor]:
    """Each head's strongest composition with one head below, less what a random rotation gives."""
    earlier = torch.cat(below.factors)
    earlier = earlier[earlier.flatten(1).norm(dim=1) > 0]  # a head that writes nothing composes with nothing
    if not len(earlier):
        return {}
    pairs = {
        "v_composition": weight_scores.v_composition(
            circuits.value(layer)[chosen], circuits.output(layer)[chosen], earlier
        )
    }
    if not circuits.normalises_queries(layer):
        query, key = circuits.query(layer)[chosen], circuits.key(layer)[chosen]
        pairs["k_composition"] = weight_scores.k_composition(query, key, earlier)
        pairs["q_composition"] = weight_scores.q_composition(query, key, earlier)
    baseline = circuits.n_dimensions**-0.5
    return {name: pair.amax(dim=1) - baseline for name, pair in pairs.items()}
