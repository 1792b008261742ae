"""Per-head scores: attention patterns and OV terms in, numbers per head out. No model here.

Each function takes one layer's heads at once. Definitions and ranges: O22 is Olsson et al. 2022,
E21 Elhage et al. 2021.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pattern = Float[Tensor, "sequence head query key"]
PerHead = Float[Tensor, " head"]


def prefix_matching(pattern: Pattern, tokens: Int[Tensor, "sequence query"]) -> PerHead:
    """Attention to what followed earlier copies of the current token, 0 to 1 (O22, "Data collection").

    For each query `i` whose token occurred before, the attention summed over the keys `j <= i` with
    `t_(j-1) = t_i` and `j - 1 < i`; averaged over those queries. A perfect induction head scores 1;
    attention to the BOS token counts as a miss. A high value does not show that the head copies what
    it attends to: see `copying`.
    """
    return _attention_to(followers(tokens), earlier_copies(tokens).any(-1), pattern)


def duplicate_token(pattern: Pattern, tokens: Int[Tensor, "sequence query"]) -> PerHead:
    """Attention to earlier copies of the current token, summed over them, 0 to 1; mean over repeated tokens."""
    targets = earlier_copies(tokens)
    return _attention_to(targets, targets.any(-1), pattern)


def previous_token(pattern: Pattern) -> PerHead:
    """Mean attention from each position to the one before, 0 to 1."""
    return pattern.float().diagonal(-1, dim1=-2, dim2=-1).mean(dim=(0, 2))


def earlier_copies(tokens: Int[Tensor, "sequence query"]) -> Bool[Tensor, "sequence query key"]:
    """Whether key `j` holds an earlier copy of the token at query `i`: `j < i` and `t_j = t_i`."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same.tril(-1)


def followers(tokens: Int[Tensor, "sequence query"]) -> Bool[Tensor, "sequence query key"]:
    """Whether key `j` follows an earlier copy of the token at query `i`: `j <= i` and `t_(j-1) = t_i`."""
    after = torch.zeros(*tokens.shape, tokens.shape[1], dtype=torch.bool, device=tokens.device)
    after[:, :, 1:] = earlier_copies(tokens)[:, :, :-1]
    return after


def _attention_to(
    targets: Bool[Tensor, "sequence query key"], queries: Bool[Tensor, "sequence query"], pattern: Pattern
) -> PerHead:
    """Attention summed over `targets`, averaged over `queries` (those that have a target at all)."""
    summed = torch.einsum("shqk,sqk->hsq", pattern.float(), targets.float())
    return (summed * queries).sum(dim=(1, 2)) / queries.sum()


def copying(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head source target"]
) -> PerHead:
    """Share of a head's logit rise that falls on the tokens it attends to, -1 to 1 (O22, rescaled).

    `lift[j, t]` is what source `j` alone would add to the logit of the sample's `t`-th token along
    the direct path, less the mean over the vocabulary; source and target run over the same sample of
    distinct tokens. With `r = relu(lift)`, `a = sum_ij A[i,j] r[j,j]` and `s = sum_ijt A[i,j] r[j,t]`:
    `4 a / (a + s) - 1`. A head that raises only what it attends to scores 1, one that raises only
    others -1, and one that raises nothing is undefined (NaN). A high value does not show that the
    head attends anywhere useful: see `prefix_matching`.
    """
    rise = lift.float().relu()
    attention = pattern.float().sum(dim=2)
    attended = torch.einsum("shj,shjj->h", attention, rise)
    sample = torch.einsum("shj,shjt->h", attention, rise)
    return 4 * attended / (attended + sample) - 1


def logit_lift(
    pattern: Float[Tensor, "sequence head query source"], lift: Float[Tensor, "sequence head source target"]
) -> PerHead:
    """OV logit lift on attended tokens, in nats; 0 is no lift (O22).

    Mean over queries of `sum_j A[i,j] lift[j,j]`, the attention renormalised over the sample's
    sources (`lift` as in `copying`).
    """
    attention = pattern.float() / pattern.float().sum(dim=-1, keepdim=True).clamp_min(1e-12)
    own = lift.float().diagonal(dim1=-2, dim2=-1)
    return torch.einsum("shij,shj->shi", attention, own).mean(dim=(0, 2))
