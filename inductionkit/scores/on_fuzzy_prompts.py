"""Scores of fuzzy induction: attention to the right places and lift on the right tokens (O22, "Argument 4")."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ..history import PER_HEAD, Variable
from .fuzzy import FuzzyPrompts
from .on_gradients import PerQuery
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


def fuzzy_logit_lift(moved: PerQuery, gradient: PerQuery, prompts: FuzzyPrompts) -> PerHead:
    """OV logit lift on the right next token, in nats; 0 is no lift.

    `moved` is `sum_j A[i,j] v_j`, which a layer's heads move to each query `i`, values without biases. `gradient` is
    that of the logit of the query's answer, less the mean logit, along the direct path: `W_O (U[a_i] - mean U) /
    sigma_i`, with `sigma_i` the final norm's scale. The score is the mean over the queries of `prompts` that have a
    target. A high value does not show that the lift comes from the right place (see `fuzzy_matching`), nor that the
    answer is raised more than its rivals: a head that raises every word of the prompt scores too.
    """
    return summed_lift(moved, gradient, prompts.queries.to(moved.device)) / prompts.queries.sum()


def summed_attention(pattern: Pattern, targets: Bool[Tensor, "sequence query key"]) -> PerHead:
    return torch.einsum("shqk,sqk->h", pattern.float(), targets.float())


def summed_lift(moved: PerQuery, gradient: PerQuery, queries: Bool[Tensor, "sequence query"]) -> PerHead:
    return torch.einsum("sqhd,sqhd,sq->h", moved.float(), gradient.float(), queries.float())
