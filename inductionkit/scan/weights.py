"""The scores that need weights alone, of a whole model: each layer's heads against all heads below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..lens import Circuits, Lens, exact
from ..scores.from_weights import write_factors
from ..scores.score import SCORES, names_from
from .measurement import Advance


class _Below:
    """The heads of the layers below, one entry a layer: their circuits and their previous-token scores."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.previous_token: list[Tensor] = []
        self._factors: list[Tensor] = []

    def add(self, value: Tensor, output: Tensor, previous_token: Tensor) -> None:
        self.values.append(value)
        self.outputs.append(output)
        self.previous_token.append(previous_token)
        self._factors.append(write_factors(value, output))

    def factors(self) -> Tensor:
        """Those of the heads that write anything: a head that writes nothing composes with nothing."""
        factors = torch.cat(self._factors) if self._factors else torch.empty(0, 0, 0)
        return factors[factors.flatten(1).norm(dim=1) > 0]


class _Layer:
    """What `scores.from_weights.LayerWeights` asks for."""

    def __init__(self, circuits: Circuits, layer: int, chosen: list[int], below: _Below, grams: _Grams):
        self._circuits, self._layer, self._chosen, self._below, self._grams = circuits, layer, chosen, below, grams
        self.random_composition = circuits.n_dimensions**-0.5

    @cached_property
    def value(self) -> Tensor:
        return exact(self._circuits.value(self._layer)[self._chosen])

    @cached_property
    def output(self) -> Tensor:
        return exact(self._circuits.output(self._layer)[self._chosen])

    @cached_property
    def query(self) -> Tensor:
        return exact(self._circuits.query(self._layer)[self._chosen])

    @cached_property
    def key(self) -> Tensor:
        return exact(self._circuits.key(self._layer)[self._chosen])

    @property
    def gram(self) -> Tensor:
        return self._grams.unembedding

    @property
    def embedding_gram(self) -> Tensor:
        return self._grams.embedding

    @cached_property
    def earlier_values(self) -> Tensor:
        return torch.cat(self._below.values)

    @cached_property
    def earlier_outputs(self) -> Tensor:
        return torch.cat(self._below.outputs)

    @cached_property
    def earlier_factors(self) -> Tensor:
        return self._below.factors()

    @cached_property
    def earlier_previous_token(self) -> Tensor:
        return exact(torch.cat(self._below.previous_token))


class _Grams:
    """Products over the vocabulary, made once, when the first layer asks."""

    def __init__(self, circuits: Circuits, effective_embedding: bool):
        self._circuits, self._effective = circuits, effective_embedding

    @cached_property
    def unembedding(self) -> Tensor:
        return self._circuits.gram(self._effective)

    @cached_property
    def embedding(self) -> Tensor:
        return self._circuits.embedding_gram()


def score_weights(
    lens: Lens,
    names: Sequence[str],
    heads: Mapping[int, list[int]],
    previous_token: Tensor,
    effective_embedding: bool,
    found: dict[str, Tensor],
    advance: Advance,
) -> dict[str, str]:
    """Fill `found` with the scores in `names` that need weights; the reasons for those that stay NaN.

    `previous_token` (layer, head) is what `qk_trace` weighs the heads below with; NaN where unknown.
    """
    circuits, below, reasons = lens.circuits(), _Below(), {}
    grams = _Grams(circuits, effective_embedding)
    wanted = [SCORES[name] for name in names if name in names_from("weights")]
    wanted = [score for score in wanted if lens.has_direct_path or "direct path" not in score.needs]
    looks_below = any("earlier heads" in score.needs for score in wanted)
    indirect = lens.indirect(range(max(heads) + 1))
    for layer in range(max(heads) + 1):
        if layer in lens.unscored or layer in indirect:
            continue
        weights = _Layer(circuits, layer, heads.get(layer, []), below, grams)
        missing = set()
        if looks_below and not len(weights.earlier_factors):
            missing.add("earlier heads")
        if circuits.normalises_queries(layer):
            missing.add("queries without a norm")
        for score in wanted if layer in heads else []:
            if not missing & set(score.needs):
                found[score.name][layer, heads[layer]] = score.of(weights).float()
            elif "queries without a norm" in missing & set(score.needs) and below.values:
                blocked = ", ".join(each.name for each in wanted if "queries without a norm" in each.needs)
                reasons[f"{blocked} in layer {layer}"] = (
                    "queries and keys pass a norm of their own: weights alone do not say what they match"
                )
        if looks_below:
            below.add(exact(circuits.value(layer)), exact(circuits.output(layer)), previous_token[layer])
        advance(1)
    return reasons
