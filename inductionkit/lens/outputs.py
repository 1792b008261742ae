"""What a head writes, as its hooks show it: whether it is no more than its pattern times its values times `W_O`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from .attention_weights import has_latent_bias
from .running import Enough, name_of, running

N_TRIAL_TOKENS = 8
_SHOWN = ("hook_pattern", "hook_v", "hook_z")


def per_query_head(values: Tensor, hook: Any, n_heads: int) -> Float[Tensor, "sequence position head d_head"]:
    """Return what `hook_v` shows as one value for each query head; heads of a group share theirs."""
    if getattr(hook, "pos_dim", None) == 2:  # DeepSeek's attention shows (sequence, head, position, d_head)
        values = values.transpose(1, 2)
    per_head: Tensor = values.repeat_interleave(n_heads // values.shape[2], dim=2)
    return per_head


def by_head(z: Float[Tensor, "row position ..."], n_heads: int) -> Float[Tensor, "row position head d_head"]:
    """Return what `hook_z` shows with an axis for heads, however it is laid out."""
    heads: Tensor = z.flatten(2).unflatten(2, (n_heads, -1))
    return heads


@torch.no_grad()
def indirect_layers(model: Any, layers: Sequence[int]) -> dict[int, str]:
    """Return the layers where `hook_z` is not pattern times values, or cannot be compared, each with the reason.

    Gates and norms between the two change what a head writes in a way that neither its weights nor its values show.
    Raises ModelError if there are patterns of more or fewer heads than the model has.
    """
    n_heads: int = model.cfg.n_heads
    found: dict[int, str] = {}
    seen: dict[tuple[int, str], Tensor] = {}

    def keep(tensor: Tensor, hook: Any, layer: int, name: str) -> None:
        if name == "hook_pattern" and tensor.shape[1] != n_heads:
            raise ModelError(
                f"TransformerLens shows patterns of {tensor.shape[1]} heads in layer {layer} of {name_of(model)}, its "
                f"configuration says {n_heads}; such a model cannot be scored"
            )
        seen[layer, name] = per_query_head(tensor, hook, n_heads) if name == "hook_v" else tensor
        if all((layers[-1], shown) in seen for shown in _SHOWN):
            raise Enough

    hooks = []
    for layer in layers:
        shown = [name for name in _SHOWN if hasattr(model.blocks[layer].attn, name)]
        hooks += [(f"blocks.{layer}.attn.{name}", partial(keep, layer=layer, name=name)) for name in shown]
    length = min(N_TRIAL_TOKENS, model.cfg.n_ctx, model.cfg.d_vocab)
    device = next(model.parameters()).device
    with running(model), contextlib.suppress(Enough), model.hooks(fwd_hooks=hooks):
        model(torch.arange(length, device=device)[None], return_type=None)
    gaps: dict[int, Tensor] = {}
    for layer in layers:
        if not all((layer, name) in seen for name in _SHOWN):
            found[layer] = f"TransformerLens does not show the values of {name_of(model)} here"
        elif has_latent_bias(model.blocks[layer].attn):
            found[layer] = "the latent vectors of values have a bias, which a norm divides differently for each token"
        else:
            pattern, values, z = (seen[layer, name] for name in _SHOWN)
            written, expected = by_head(z, n_heads), torch.einsum("shqk,skhd->sqhd", pattern.to(z.dtype), values)
            tolerance = torch.finfo(z.dtype).eps ** 0.5 * written.abs().max()
            gaps[layer] = (written - expected).abs().max() > tolerance  # false where weights are not finite
    if gaps:
        apart = torch.stack([*gaps.values()]).cpu().tolist()  # one wait for the device
        why = "a gate or a norm stands between what a head attends to and its output weights"
        found |= {layer: why for layer, is_apart in zip(gaps, apart) if is_apart}
    return found
