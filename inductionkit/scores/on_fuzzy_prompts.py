"""Scores of fuzzy induction: attention to the right places and lift on the right tokens (O22, "Argument 4")."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..history import PER_HEAD, Variable
from .fuzzy import FuzzyPrompts
from .on_prompts import Pattern, PerHead

ROWS = {
    "fuzzy_matching": Variable(
        PER_HEAD, "float32", "1", "attention to the right places on fuzzy induction prompts", "O22"
    ),
    "fuzzy_logit_lift": Variable(PER_HEAD, "float32", "nats", "OV logit lift on the right next token", "O22"),
}


def fuzzy_matching(pattern: Pattern, prompts: FuzzyPrompts) -> PerHead:
    """Attention to the right places, 0 to 1: summed over a query's targets, averaged over queries that have one.

    `pattern` is the attention of a layer's heads on the tokens of `prompts`. A high value does not show that the match
    is fuzzy: where tokens also repeat literally, a literal induction head scores too. Compare `prompts.even_attention`
    and the head's `prefix_matching`.
    """
    return summed_attention(pattern, prompts.targets.to(pattern.device)) / prompts.queries.sum()


def fuzzy_logit_lift(
    pattern: Pattern, lift: Float[Tensor, "sequence head source query"], prompts: FuzzyPrompts
) -> PerHead:
    """OV logit lift on the right next token, in nats; 0 is no lift.

    `pattern` is the attention of a layer's heads on the tokens of `prompts`. `lift[j, i]` is what source `j` alone
    would add to the logit of query `i`'s answer along the direct path, less the mean over the vocabulary:
    `Circuits.ov_lift` with the answers as targets. The score is the mean of `sum_j A[i,j] lift[j,i]` over queries that
    have a target, attention not renormalised. A high value does not show that the lift comes from the right place (see
    `fuzzy_matching`), nor that the answer is raised more than its rivals: a head that raises every word of the prompt
    scores too.
    """
    return summed_lift(pattern, lift, prompts.queries.to(pattern.device)) / prompts.queries.sum()


def summed_attention(pattern: Pattern, targets: Bool[Tensor, "sequence query key"]) -> PerHead:
    return torch.einsum("shqk,sqk->h", pattern.float(), targets.float())


def summed_lift(pattern: Pattern, lift: Tensor, queries: Bool[Tensor, "sequence query"]) -> PerHead:
    return torch.einsum("shqk,shkq,sq->h", pattern.float(), lift.float(), queries.float())
