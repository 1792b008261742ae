"""The per-head score of what the loss rests on: losses with and without a head in, nats per head out. No model here."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .on_prompts import PerHead
from .score import head_score


@head_score(
    "loss",
    of=lambda effect, seen: effect(*seen),
    long_name="rise of the loss on the second repeat of random tokens when the head is zeroed",
    units="nats/token",
)
def loss_effect(zeroed: Float[Tensor, "head sequence query"], loss: Float[Tensor, "sequence query"]) -> PerHead:
    """By how much the loss on repeated random tokens rises when the head writes nothing, in nats per token.

    `zeroed` are the losses with the head's `z` at zero, `loss` those of the whole model, at the queries of the second
    repeat whose next token stands there too: what induction predicts. Above 0 the model does better with the head.
    0 does not show that the head does nothing: others may stand in for it.

    A scan estimates it as the first-order change on all prompts, the gradient of the loss times `-z`, plus a measured
    correction, ablation less first-order change: on the first prompt for every head, on the first three for those that
    then come out strongest (one in eight, and at least 16). The gradient alone will not do: where attention is
    saturated, it does not see what a head's absence would undo. Models of up to 16 heads are measured by ablation on
    all prompts.
    """
    return (zeroed - loss).mean(dim=(1, 2))
