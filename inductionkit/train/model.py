"""The transformers that are trained here: pre-norm, causal, attention-only or with MLPs.

Parameters carry the names and layouts of TransformerLens' native bridge, so a checkpoint loads
into a `TransformerBridge` as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import RecipeError
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number
from .smeared_keys import SmearedKeys


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a transformer: `n_layers` of `n_heads` heads of width `d_head`, on a residual stream of `d_model`.

    It reads `n_ctx` tokens at most, of a vocabulary of `d_vocab`; `eps` is that of its norms. `d_mlp=None` makes it
    attention-only. With `smeared_keys` each key is mixed with the one before it, by a share that each head learns
    (O22).
    """

    n_layers: int
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 32
    d_mlp: int | None = None
    n_ctx: int = 512
    d_vocab: int = 2048
    eps: float = 1e-5
    smeared_keys: bool = False

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "d_head", "n_ctx", "d_vocab"):
            whole_number(getattr(self, name), f"model.{name}", 1, RecipeError)
        if self.d_mlp is not None:
            whole_number(self.d_mlp, "model.d_mlp", 1, RecipeError)
        real_number(self.eps, "model.eps", "[0, inf)", RecipeError)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.n_heads * config.d_head
        self.q, self.k, self.v = (nn.Linear(config.d_model, width) for _ in range(3))
        if config.smeared_keys:
            self.k = SmearedKeys(config.d_model, config.n_heads, config.d_head)
        self.o = nn.Linear(width, config.d_model)
        self.n_heads, self.d_head = config.n_heads, config.d_head

    def forward(self, x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
        q, k, v = (
            project(x).unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        written: Tensor = self.o(z.transpose(1, 2).flatten(-2))
        return written


class MLP(nn.Module):
    def __init__(self, d_model: int, d_mlp: int):
        super().__init__()
        self.add_module("in", nn.Linear(d_model, d_mlp))
        self.out = nn.Linear(d_mlp, d_model)

    def forward(self, x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
        written: Tensor = self.out(F.gelu(self.get_submodule("in")(x)))
        return written


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ln1 = nn.LayerNorm(config.d_model, config.eps)
        self.attn = Attention(config)
        if config.d_mlp is not None:
            self.ln2 = nn.LayerNorm(config.d_model, config.eps)
            self.mlp = MLP(config.d_model, config.d_mlp)

    def forward(self, x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x)) if hasattr(self, "mlp") else x


class Transformer(nn.Module):
    """Tokens (batch, position) to logits (batch, position, d_vocab). `config` is its shape, `seed` sets its weights."""

    def __init__(self, config: ModelConfig, seed: int):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.d_vocab, config.d_model)
        self.pos_embed = nn.Embedding(config.n_ctx, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = nn.LayerNorm(config.d_model, config.eps)
        self.unembed = nn.Linear(config.d_model, config.d_vocab, bias=False)
        self._initialise(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """Weights N(0, 0.8 / sqrt(d_model)), matrices that write to the residual stream half of that, biases zero.

        Positions are learned but start as sinusoids of the same size: neighbouring positions are alike
        from the first step on, so that a context of 512 needs no more training than a short one before
        heads can tell the previous token.
        """
        scale = 0.8 / self.config.d_model**0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 2:
                writes = name.endswith(("attn.o.weight", "mlp.out.weight"))
                parameter.normal_(0.0, scale / 2 if writes else scale, generator=generator)
        self.pos_embed.weight.copy_(scale * 2**0.5 * _sinusoids(self.config.n_ctx, self.config.d_model))

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position d_vocab"]:
        """The logits of what follows each of the `tokens`."""
        x = self.embed(tokens) + self.pos_embed.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.unembed(self.ln_final(x))
        return logits


def _sinusoids(n_ctx: int, d_model: int) -> Float[Tensor, "position d_model"]:
    """Sines and cosines of geometrically spaced frequencies (Vaswani et al. 2017), root mean square 1/sqrt(2)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(n_ctx)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model]


def next_token_loss(model: Transformer, rows: Int[Tensor, "batch position+1"]) -> Float[Tensor, "batch position"]:
    """Loss in nats of each token given those before it; entry `p` belongs to token index `p + 1`."""
    logits = model(rows[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    by_row: Tensor = losses.unflatten(0, (rows.shape[0], -1))
    return by_row
