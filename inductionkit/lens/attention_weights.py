"""The weights of attention heads as a TransformerLens model has them, whichever way its architecture keeps them."""

from __future__ import annotations

from math import prod
from typing import Any

from jaxtyping import Float
from torch import Tensor

from .running import explaining, name_of, transformer_lens_version

PerHead = Float[Tensor, "head inputs outputs"]

# Factors in a Hugging Face configuration by which Granite and Falcon-H1 multiply what attention reads and writes.
_FACTORS = {
    "W_Q": ("attention_in_multiplier",),
    "W_K": ("attention_in_multiplier", "key_multiplier"),
    "W_V": ("attention_in_multiplier",),
    "W_O": ("attention_out_multiplier", "residual_multiplier"),
}


def attention_weight(model: Any, layer: int, name: str) -> PerHead:
    """Return `W_Q`, `W_K`, `W_V` or `W_O` of each head, or of each group that shares it, as the module has them.

    Raises ModelError if TransformerLens does not show it.
    """
    attention = model.blocks[layer].attn
    with explaining(
        f"TransformerLens {transformer_lens_version()} does not show {name} of {name_of(model)} in layer {layer}, so "
        f"scores that need weights cannot be computed; name scores of patterns alone, such as "
        f"scores=['prefix_matching', 'previous_token']"
    ):
        if not has_latent_values(attention):
            weight: Tensor = getattr(attention, name)
        elif name == "W_O":
            weight = attention.o.weight.T.unflatten(0, (model.cfg.n_heads, -1))
        elif name == "W_V":
            weight = _latent_values(attention, model.cfg.n_heads)
        else:
            raise AttributeError("queries and keys pass norms of their own")
        return weight


def stream_factor(model: Any, name: str) -> float:
    """Return the constant by which the model multiplies what `W_Q`, `W_K` or `W_V` reads, or what `W_O` writes."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    return prod(float(getattr(config, factor, 1.0)) for factor in _FACTORS[name])


def attention_bias(attention: Any, name: str) -> Tensor | None:
    """Return `b_V` or `b_O` of an attention, or None if it has none."""
    if has_latent_values(attention):
        return attention.o.bias if name == "b_O" else None
    bias: Tensor | None = getattr(attention, name, None)
    return bias


def has_latent_values(attention: Any) -> bool:
    """Return whether keys and values are made from a narrow latent vector with a norm, as in DeepSeek's attention."""
    return getattr(attention, "kv_b_proj", None) is not None


def has_latent_bias(attention: Any) -> bool:
    """Return whether there is a bias in the latent vector that values are made from."""
    return has_latent_values(attention) and attention.kv_a_proj_with_mqa.bias is not None


def _latent_values(attention: Any, n_heads: int) -> PerHead:
    """Return `W_V` of DeepSeek's attention: down to the latent vector, the scale of its norm, and up again.

    The norm's division is left out, as that of all norms.
    """
    up = attention.kv_b_proj.weight.float()  # of each head its keys, then its values
    d_value, d_latent = attention.o.weight.shape[1] // n_heads, up.shape[1]
    up = up.unflatten(0, (n_heads, -1))[:, -d_value:] * attention.kv_a_layernorm.weight
    weight: Tensor = (up @ attention.kv_a_proj_with_mqa.weight[:d_latent].float()).mT
    return weight
