"""The effect of each head on the loss on repeated random tokens: gradients on all prompts, ablations on few.

Gradients see most of how effects differ between prompts, and what they miss, where attention is saturated, is much the
same on every prompt. So the first-order change on all prompts and a correction from one give an estimate for each head,
and the heads that it puts first are worth a correction from more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from ..lens import ABLATION_MAX_BYTES, HeadZeroing, Lens
from ..lens.tape import Tape, taped_batches
from ..scores.on_losses import loss_effect
from .measurement import Advance

N_STRONGEST, ONE_IN = 16, 8  # the heads that are ablated on more than one prompt: at least so many, and one in so many
N_PROMPTS = 3  # on which these are ablated

Head = tuple[int, int]
Effects = Float[Tensor, "head"]


def score_loss_effects(
    lens: Lens,
    heads: Mapping[int, list[int]],
    prompts: Int[Tensor, "sequence position"],
    sample: slice,
    max_bytes: int,
    found: Mapping[str, Tensor],
    advance: Advance,
) -> dict[str, str]:
    """Put `loss_effect` into `found` (layer, head), and return the reasons where it stays NaN.

    `sample` says where the first repeat of the prompts stands; the second follows it, and later ones are left out.
    """
    tokens, queries = on_second_repeat(prompts, sample)
    if queries.start == queries.stop:
        return {"loss_effect": "a repeat of one token has no next token in it; take n_distinct of 2 or more"}
    max_bytes = min(max_bytes, ABLATION_MAX_BYTES)
    try:
        first_order = _first_order(lens, tokens, queries, max_bytes)
        reached = [layer for layer in heads if layer in first_order]
        candidates = [(layer, head) for layer in reached for head in heads[layer]]
        if candidates:
            effects = _effects(lens, candidates, tokens, queries, first_order, max_bytes, advance)
            for (layer, head), effect in zip(candidates, effects):
                found["loss_effect"][layer, head] = effect
    except ModelError as error:
        return {"loss_effect": str(error)}
    if cut := [str(layer) for layer in heads if layer not in first_order]:
        return {f"loss_effect in layer {', '.join(cut)}": "what heads write here is not on the way to the logits"}
    return {}


def on_second_repeat(
    prompts: Int[Tensor, "sequence position"], sample: slice
) -> tuple[Int[Tensor, "sequence position"], slice]:
    """Return the first two repeats of prompts, and the queries of the second whose next token stands there too."""
    end = 2 * sample.stop - sample.start
    return prompts[:, :end], slice(sample.stop, end - 1)


def ablated(
    lens: Lens,
    heads: list[Head],
    tokens: Int[Tensor, "sequence position"],
    queries: slice,
    max_bytes: int,
    advance: Advance,
) -> Effects:
    """The mean effect of zeroing each head, by ablation, on the tokens' queries."""
    zeroed = torch.zeros(1 + len(heads), lens.n_layers, lens.n_heads, dtype=torch.bool)  # the first of none
    for ablation, (layer, head) in enumerate(heads, start=1):
        zeroed[ablation, layer, head] = True
    losses = torch.empty(1 + len(heads), len(tokens), queries.stop - queries.start, dtype=torch.float32)
    for which, ablations, part in HeadZeroing(lens, False, max_bytes).losses(tokens, zeroed, queries):
        losses[ablations, which] = part.float().cpu()
        advance(1)
    return loss_effect(losses[1:], losses[0])


def _effects(
    lens: Lens,
    heads: list[Head],
    tokens: Int[Tensor, "sequence position"],
    queries: slice,
    first_order: Mapping[int, Float[Tensor, "sequence head"]],
    max_bytes: int,
    advance: Advance,
) -> Effects:
    if len(heads) <= N_STRONGEST or len(tokens) == 1:
        return ablated(lens, heads, tokens, queries, max_bytes, advance)
    linear = torch.stack([first_order[layer][:, head] for layer, head in heads], dim=1)
    missed = ablated(lens, heads, tokens[:1], queries, max_bytes, advance) - linear[0]
    strongest = (linear.mean(0) + missed).abs().topk(max(N_STRONGEST, len(heads) // ONE_IN)).indices
    more = slice(1, min(N_PROMPTS, len(tokens)))
    measured = ablated(lens, [heads[i] for i in strongest.tolist()], tokens[more], queries, max_bytes, advance)
    missed_there = measured - linear[more, strongest].mean(0)
    missed[strongest] += (missed_there - missed[strongest]) * (more.stop - 1) / more.stop  # the mean over prompts
    return linear.mean(0) + missed


def _first_order(
    lens: Lens, tokens: Int[Tensor, "sequence position"], queries: slice, max_bytes: int
) -> dict[int, Float[Tensor, "sequence head"]]:
    """The first-order change of the mean loss when a head is zeroed, by layer; without layers that cannot matter."""
    parts: list[dict[int, Tensor]] = []
    for batch in taped_batches(lens, tokens, max_bytes):
        tape = Tape(lens, batch)
        gradients = tape.gradients(tape.loss(queries))
        parts.append({at: -(tape.outputs(at) * gradient).sum(dim=(1, 3)).cpu() for at, gradient in gradients.items()})
    return {layer: torch.cat([part[layer] for part in parts]) / (queries.stop - queries.start) for layer in parts[0]}
