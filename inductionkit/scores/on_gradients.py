"""Per-head scores of what heads cause: gradients of the logits and of the loss in, nats per head out. No model here.

All are measured on the second repeat of random tokens, where a query's token occurred once before: its follower there
is the token that induction predicts. Each function takes one layer's heads at once; `@head_score` registers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .on_prompts import Pattern, PerHead, Share
from .score import head_score

PerQuery = Float[Tensor, "sequence query head d_head"]
Values = Float[Tensor, "sequence position head d_head"]


@dataclass(frozen=True)
class OnSecondRepeat:
    """What the heads of one layer show on a batch of repeated random tokens, with gradients.

    `pattern` is the attention of the second repeat's queries, `followers` says which keys hold each query's follower.
    `values` are without biases, which write the same for any attended token, and None where the heads write more than
    their pattern times values. `direct` and `total` are the gradients, with respect to the heads' output `z` at each
    query, of the followers' logits less the mean logit: along the direct path, with the final norm's scale as it is,
    and through everything downstream.
    """

    pattern: Float[Tensor, "sequence head query key"]
    followers: Bool[Tensor, "sequence query key"]
    values: Values | None
    direct: PerQuery | None
    total: PerQuery | None

    @cached_property
    def moved(self) -> PerQuery:
        assert self.values is not None
        return moved_from_followers(self.pattern, self.values, self.followers)


def moved_from_followers(pattern: Pattern, values: Values, followers: Bool[Tensor, "sequence query key"]) -> PerQuery:
    """What each head adds to its output `z` by attending to the followers: `sum_f A[i,f] v_f`."""
    attention = pattern.float() * followers[:, None]
    return torch.einsum("shqk,skhd->sqhd", attention, values.float())


@head_score(
    "gradients",
    of=lambda _, seen: lift_of(seen.moved, seen.direct),
    long_name="rise of the followers' logits along the direct path, on repeated random tokens",
    units="nats",
    reference="E21",
    needs=("values", "direct path"),
)
def direct_lift(moved: PerQuery, gradient: PerQuery) -> PerHead:
    """What a head adds, along the direct path, to the logit of the token that follows an earlier copy, in nats (E21).

    `moved` is `sum_f A[i,f] v_f`, what the head moves from the followers `f` to each query `i` of the second repeat,
    and `gradient` that of the follower's logit less the mean logit with respect to the head's output `z` at the query:
    `W_O (U[t_f] - mean U) / sigma_i`, with `sigma_i` the final norm's scale. Averaged over the queries; 0 is no lift.
    A high value does not show that the model needs the head: later heads may undo or stand in for it, see
    `total_lift`.
    """
    return lift_of(moved, gradient).value


@head_score(
    "gradients",
    of=lambda _, seen: lift_of(seen.moved, seen.total),
    long_name="rise of the followers' logits through everything downstream, on repeated random tokens",
    units="nats",
    needs=("values",),
)
def total_lift(moved: PerQuery, gradient: PerQuery) -> PerHead:
    """What a head adds, through everything downstream, to the logit of the token that follows an earlier copy, in nats.

    As `direct_lift`, with the gradient through later heads, MLPs and norms: `sum_f A[i,f] v_f . dM/dz_i`, where `M` is
    the sum over the second repeat's queries of the logit of the follower less the mean logit. First-order: what would
    happen if the head moved a little less. Zeroing the head may do more, see `loss_effect` and `scan_ablations`.
    """
    return lift_of(moved, gradient).value


def lift_of(moved: PerQuery, gradient: PerQuery) -> Share:
    """`direct_lift` or `total_lift`, summed over queries, and their number."""
    part = (moved * gradient).sum(dim=(0, 1, 3))
    return Share(part, torch.full_like(part, moved.shape[0] * moved.shape[1]))
