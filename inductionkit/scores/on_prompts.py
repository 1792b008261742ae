"""Per-head scores of what a pass shows: attention patterns and OV terms in, numbers per head out. No model here.

Each function takes one layer's heads at once. Definitions and ranges: O22 is Olsson et al. 2022, E21 Elhage et al.
2021. `@head_score` registers a function as a score. Prompts come in batches, so a scan reads a `Share` off each batch:
its two sums are added up over the batches and divided once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .no_preference import copying_scale
from .score import head_score

Pattern = Float[Tensor, "sequence head query key"]
PerHead = Float[Tensor, " head"]


class Share(NamedTuple):
    """`part / whole`, kept as its two sums."""

    part: PerHead
    whole: PerHead

    def __add__(self, other: Share) -> Share:  # type: ignore[override]
        return Share(self.part + other.part, self.whole + other.whole)

    @property
    def value(self) -> PerHead:
        return self.part / self.whole


@dataclass(frozen=True)
class OnRepeatedTokens:
    """What the heads of one layer show on a batch of repeated random tokens.

    `attention_to_stripes` is `attention_to` of the followers and of the earlier copies; `sample` is where the first
    repeat stands; `lift_in_sample` gives the OV lift of each source there on each of its tokens.
    """

    pattern: Pattern
    attention_to_stripes: Callable[[Pattern], list[Share]]
    sample: slice
    lift_in_sample: Callable[[], Float[Tensor, "sequence head source target"]]

    @cached_property
    def stripes(self) -> list[Share]:
        return self.attention_to_stripes(self.pattern)

    @cached_property
    def lift(self) -> Float[Tensor, "sequence head source target"]:
        return self.lift_in_sample()

    @property
    def sample_pattern(self) -> Float[Tensor, "sequence head query source"]:
        return self.pattern[:, :, self.sample, self.sample]


def attention_to(
    targets: Bool[Tensor, "stripe sequence query key"],
) -> Callable[[Pattern], list[Share]]:
    """For each stripe: attention summed over its targets, averaged over the queries that have one.

    The targets are laid out once for all layers, so that a layer's heads and all stripes are one product.
    """
    columns = targets.flatten(2).permute(1, 2, 0).float()
    n_queries = targets.any(-1).sum(dim=(1, 2))

    def of(pattern: Pattern) -> list[Share]:
        summed = (pattern.float().flatten(2) @ columns).sum(0)
        return [Share(part, n.expand_as(part)) for part, n in zip(summed.unbind(1), n_queries)]

    return of


@head_score(
    "repeated tokens",
    of=lambda _, seen: seen.stripes[0],
    long_name="attention to the followers of earlier copies of the token, on repeated random tokens",
    reference="O22",
)
def prefix_matching(pattern: Pattern, tokens: Int[Tensor, "sequence query"]) -> PerHead:
    """Attention to what followed earlier copies of the current token, 0 to 1 (O22, "Data collection").

    `pattern` is the attention of a layer's heads on `tokens`. For each query `i` whose token occurred before, the
    attention summed over the keys `j <= i` with `t_(j-1) = t_i` and `j - 1 < i`; averaged over those queries. A
    perfect induction head scores 1; attention to the BOS token counts as a miss. A high value does not show that the
    head copies what it attends to: see `copying`.
    """
    return attention_to(followers(tokens)[None])(pattern)[0].value


def earlier_copies(tokens: Int[Tensor, "sequence query"]) -> Bool[Tensor, "sequence query key"]:
    """Whether key `j` holds an earlier copy of the token at query `i`: `j < i` and `t_j = t_i`."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same.tril(-1)


def followers(tokens: Int[Tensor, "sequence query"]) -> Bool[Tensor, "sequence query key"]:
    """Whether key `j` follows an earlier copy of the token at query `i`: `j <= i` and `t_(j-1) = t_i`."""
    after = torch.zeros(*tokens.shape, tokens.shape[1], dtype=torch.bool, device=tokens.device)
    after[:, :, 1:] = earlier_copies(tokens)[:, :, :-1]
    return after


@head_score(
    "repeated tokens",
    of=lambda _, seen: raised_on_attended(seen.sample_pattern, seen.lift),
    finish=lambda share: copying_of(share),
    long_name="share of the OV circuit's logit rise that falls on attended tokens, -1 to 1",
    reference="O22, rescaled",
    needs=("direct path",),
)
def copying(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head source target"]
) -> PerHead:
    """Share of a head's logit rise that falls on the tokens it attends to, -1 to 1 (O22, rescaled).

    `pattern` is the heads' attention within a sample. `lift[j, t]` is what source `j` alone would add to the logit of
    the sample's `t`-th token along the direct path, less the mean over the vocabulary; source and target run over the
    same sample of distinct tokens. With `r = relu(lift)`, `a = sum_ij A[i,j] r[j,j]` and `s = sum_ijt A[i,j] r[j,t]`:
    `4 a / (a + s) - 1`. A head that raises only what it attends to scores 1, one that raises only others -1, and one
    that raises nothing is undefined (NaN). One that raises all n tokens of the sample alike scores
    `no_preference`, 4 / (n + 1) - 1. A high value does not show that the head attends anywhere useful: see
    `prefix_matching`.
    """
    return copying_of(raised_on_attended(pattern, lift))


def raised_on_attended(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head source target"]
) -> Share:
    """`a / (a + s)` of `copying`."""
    rise = lift.float().relu()
    attention = pattern.float().sum(dim=2)
    attended = (attention * rise.diagonal(dim1=-2, dim2=-1)).sum(dim=(0, 2))
    sample = (attention * rise.sum(-1)).sum(dim=(0, 2))
    return Share(attended, attended + sample)


def copying_of(attended: Share) -> PerHead:
    """The share rescaled to -1 to 1."""
    scaled: PerHead = copying_scale(attended.value)
    return scaled


@dataclass(frozen=True)
class OnSample:
    """The lifts of one layer's heads on the first repeat, once it is known how logits are read.

    `pattern` is their attention within the sample; `lift[i, j]` is what source `j`, if it alone is attended to, adds at
    query `i` to its own token's logit, less the mean logit.
    """

    pattern: Float[Tensor, "sequence head query source"]
    lift: Float[Tensor, "sequence head query source"]


@head_score(
    "sample",
    of=lambda _, seen: summed_lift(seen.pattern, seen.lift),
    long_name="OV logit lift on attended tokens",
    units="nats",
    reference="O22",
    needs=("direct path",),
)
def logit_lift(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head query source"]
) -> PerHead:
    """OV logit lift on attended tokens, in nats; 0 is no lift (O22).

    Mean over queries of `sum_j A[i,j] lift[i,j]`, with `pattern` the attention `A` within the sample, renormalised over
    its sources. `lift[i,j]` is what source `j` alone would add, along the direct path, to the logit of its own token
    at query `i`, less the mean logit: `v_j W_O (U[t_j] - mean U) / sigma_i`, with `sigma_i` the final norm's scale at
    the query. Capped logits count by their slope there.
    """
    return summed_lift(pattern, lift).value


def summed_lift(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head query source"]
) -> Share:
    """`logit_lift`, summed over queries, and their number."""
    attention = pattern.float()
    summed = (attention * lift.float()).sum(-1)
    per_query = summed / attention.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    n_queries = torch.full((pattern.shape[1],), pattern.shape[0] * pattern.shape[2], device=pattern.device)
    return Share(per_query.sum(dim=(0, 2)), n_queries)


@head_score(
    "text",
    of=lambda _, pattern: attention_to_previous(pattern),
    long_name="attention to the token before, on text",
    reference="E21",
)
def previous_token(pattern: Pattern) -> PerHead:
    """Mean attention from each position to the one before, 0 to 1; `pattern` is that of a layer's heads."""
    return attention_to_previous(pattern).value


def attention_to_previous(pattern: Pattern) -> Share:
    """`previous_token`, summed over positions, and their number."""
    diagonal = pattern.diagonal(-1, dim1=-2, dim2=-1).float()
    n_positions = torch.full((pattern.shape[1],), diagonal.shape[0] * diagonal.shape[2], device=pattern.device)
    return Share(diagonal.sum(dim=(0, 2)), n_positions)


@head_score(
    "repeated tokens",
    of=lambda _, seen: seen.stripes[1],
    long_name="attention to earlier copies of the token, on repeated random tokens",
    reference="E21",
)
def duplicate_token(pattern: Pattern, tokens: Int[Tensor, "sequence query"]) -> PerHead:
    """Attention to earlier copies of the current token, summed over them, 0 to 1; mean over repeated tokens.

    `pattern` and `tokens` are as in `prefix_matching`.
    """
    return attention_to(earlier_copies(tokens)[None])(pattern)[0].value
