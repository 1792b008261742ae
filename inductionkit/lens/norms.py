"""The linear parts of a norm: some norms subtract the mean, and most multiply by a learnt scale."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NORMS_THAT_CENTRE = {"LN", "LNPRE"}


def centres(model: Any) -> bool:
    """Return whether a model's norms subtract the mean, and so remove one direction of the residual stream."""
    return (model.cfg.normalization_type or "").upper() in _NORMS_THAT_CENTRE


def centred(rows: Float[Tensor, "... d_model"], model: Any) -> Float[Tensor, "... d_model"]:
    return rows - rows.mean(dim=-1, keepdim=True) if centres(model) else rows


def scaled_by(norm: Any, rows: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Return rows times the norm's learnt scale, if it has one."""
    scale = first_of(norm, "w", "weight")
    if scale is None:
        return rows
    return rows * (scale.float() + 1 if getattr(norm, "uses_weight_offset", False) else scale.float())


def centres_rows(norm: nn.Module, rows: Float[Tensor, "... d"], out: Float[Tensor, "... d"]) -> bool:
    """Return whether a norm subtracts the mean, from what it makes of `rows` with a constant added."""
    added = rows.detach().abs().mean()
    tolerance = max(1e-3, 4 * torch.finfo(out.dtype).eps) * out.detach().abs().max().item()
    return torch.allclose(norm(rows + added), out, atol=tolerance, rtol=0)


def division(
    norm: Any, rows: Float[Tensor, "... d_model"], out: Float[Tensor, "... d_model"], model: Any
) -> Float[Tensor, ...]:
    """Return what a model's norm divided `rows` by, from what came out.

    The definition, `sqrt(mean(x^2) + eps)`, needs an `eps` that each architecture names differently; the quotient of
    the two needs none.
    """
    scaled = scaled_by(norm, centred(rows.float(), model))
    bias = first_of(norm, "b", "bias")
    unbiased = out.float() if bias is None else out.float() - bias.float()
    found: Tensor = scaled.square().sum(-1) / (scaled * unbiased).sum(-1)
    return found


def first_of(module: Any, *names: str) -> Tensor | None:
    """Return the first of a module's attributes with these names that is a tensor."""
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, Tensor):
            return value
    return None
