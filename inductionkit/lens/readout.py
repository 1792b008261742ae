"""How logits are read from the residual stream: the final norm's scale, and what happens to logits after `W_U`."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .norms import centred, first_of, scaled_by
from .running import running

N_TRIAL_TOKENS = 4


@torch.no_grad()
def logit_factor(model: Any) -> float | None:
    """Return the constant by which a model multiplies its logits after the unembedding, or None for any other change.

    Cohere and Granite have a constant, Gemma 2 caps its logits. It is found by a pass over a few tokens.
    """
    raw: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        raw.append(output.detach().clone())

    device = next(model.parameters()).device
    handle = model.unembed.register_forward_hook(keep)
    try:
        with running(model):
            tokens = torch.arange(min(N_TRIAL_TOKENS, model.cfg.n_ctx, model.cfg.d_vocab), device=device)[None]
            logits = model(tokens, return_type="logits")
    finally:
        handle.remove()
    before, after = raw[-1].double(), logits.double()
    factor = (before * after).sum() / before.square().sum()
    tolerance = 8 * torch.finfo(logits.dtype).eps * after.abs().max()
    if not factor.isfinite():  # all logits are zero
        return 1.0
    return round(factor.item(), 6) if (after - factor * before).abs().max() <= tolerance else None


def final_scale(
    residual: Float[Tensor, "... d_model"],
    normalised: Float[Tensor, "... d_model"],
    model: Any,
) -> Float[Tensor, ...]:
    """Return what a model's last norm divided the residual stream by, from what went in and what came out.

    The definition, `sqrt(mean(x^2) + eps)`, needs an `eps` that each architecture names differently; the quotient of
    the two needs none.
    """
    norm = model.ln_final
    scaled = scaled_by(norm, centred(residual.float(), model))
    bias = first_of(norm, "b", "bias")
    out = normalised.float() if bias is None else normalised.float() - bias.float()
    found: Tensor = scaled.square().sum(-1) / (scaled * out).sum(-1)
    return found
