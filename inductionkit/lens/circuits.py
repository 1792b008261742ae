"""The weights of a model's circuits in one canonical form, for raw and processed weights alike.

Norm scales are folded into the weights that read from the norm. If the norm is a LayerNorm, the direction it removes
is projected out of what is written and what is read. The unembedding is centred over the vocabulary, which leaves the
softmax unchanged. Raw weights and those that TransformerLens folded and centred (`fold_ln`, `center_writing_weights`,
`center_unembed`) then give the same numbers. Everything is float32, read layer by layer; the model's own weights stay
as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from .attention_weights import attention_bias, attention_weight, has_latent_values, stream_factor
from .norms import centred, centres, first_of, scaled_by
from .running import Enough, name_of, running

Reading = Float[Tensor, "head d_model d_head"]
Writing = Float[Tensor, "head d_head d_model"]

N_TOKENS_AT_ONCE = 8192
_POSITIONS = ("pos_embed", "embed_positions")  # modules of position embeddings


def exact(tensor: Tensor) -> Tensor:
    """A tensor in double precision on a CPU; rounded in the end, sums do not depend on how many threads share them."""
    return tensor.double() if tensor.device.type == "cpu" else tensor


class Circuits:
    """Query, key, value and output weights per query head, embedding and unembedding, in canonical form."""

    def __init__(self, model: Any):
        self._model = model
        self._n_heads: int = model.cfg.n_heads
        self.d_vocab: int = model.cfg.d_vocab
        # A LayerNorm removes one direction of the residual stream.
        self.n_dimensions: int = model.cfg.d_model - centres(model)

    def query(self, layer: int) -> Reading:
        return self._reading(layer, "W_Q")

    def key(self, layer: int) -> Reading:
        return self._reading(layer, "W_K")

    def value(self, layer: int) -> Reading:
        return self._reading(layer, "W_V")

    def output(self, layer: int) -> Writing:
        """Return `W_O`, with the scale of a norm after it (Gemma 2) or a constant factor (Granite)."""
        weights = attention_weight(self._model, layer, "W_O").float() * stream_factor(self._model, "W_O")
        return self._centred(scaled_by(getattr(self._model.blocks[layer], "ln1_post", None), weights))

    def value_bias(self, layer: int) -> Float[Tensor, "head d_head"]:
        """Return the part of value vectors that all tokens share: `b_V`, and the input norm's bias through `W_V`."""
        block = self._model.blocks[layer]
        weights = self._weights(layer, "W_V")
        bias = attention_bias(block.attn, "b_V")
        total = torch.zeros_like(weights[:, 0]) if bias is None else self._per_query_head(bias.float())
        norm_bias = first_of(getattr(block, "ln1", None), "b", "bias")
        return total if norm_bias is None else total + torch.einsum("m,hmd->hd", norm_bias.float(), weights)

    def normalises_queries(self, layer: int) -> bool:
        """Return whether queries and keys pass norms of their own; then weights alone do not say which keys match."""
        attention = self._model.blocks[layer].attn
        norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm", "qk_norm"))
        return has_latent_values(attention) or any(norm is not None for norm in norms)

    def ov_lift(
        self,
        layer: int,
        values: Float[Tensor, "sequence position head d_head"],
        targets: Float[Tensor, "sequence target d_model"],
    ) -> Float[Tensor, "sequence head position target"]:
        """Return what each source adds to the targets' logits along the direct path, less the vocabulary mean, in nats.

        This is `v_j W_O W_U`, with `targets` the rows of `W_U` (see `unembedding`). `v_j` is without biases, which
        write the same for any attended token. The final norm's division, soft-capping and factors on the logits are
        left out too; `Readout` has them.
        """
        n_sequences, n_targets, _ = targets.shape
        # From the right: the products of targets and W_O are small, what each source writes is not.
        seen = self.output(layer) @ targets.flatten(0, 1).T
        seen = seen.unflatten(2, (n_sequences, n_targets)).permute(2, 0, 1, 3)
        lifts: Tensor = (values.float() - self.value_bias(layer)).transpose(1, 2) @ seen
        return lifts

    def written(
        self, layer: int, values: Float[Tensor, "sequence position head d_head"]
    ) -> Float[Tensor, "sequence head position d_model"]:
        """Return what each source alone writes into the residual stream, without biases: `v_j W_O`."""
        rows: Tensor = (values.float() - self.value_bias(layer)).transpose(1, 2) @ self.output(layer)
        return rows

    def unembedding(self, tokens: Int[Tensor, " *batch"]) -> Float[Tensor, "*batch d_model"]:
        """Return rows of the unembedding, the final norm folded in, less the mean over the vocabulary."""
        return self._after_final_norm(self._rows(tokens) - self._mean_unembedding)

    def uncentred_unembedding(self, tokens: Int[Tensor, " *batch"]) -> Float[Tensor, "*batch d_model"]:
        """Return rows of the unembedding with the final norm folded in, the mean over the vocabulary left in."""
        return self._after_final_norm(self._rows(tokens))

    def weighted_unembedding(self, weights: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch d_model"]:
        """Return weighted sums of all rows of `uncentred_unembedding`."""
        return self._after_final_norm(weights @ self._model.unembed.W_U.T.float())

    def raw_logits(self, normalised: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Return what `W_U` makes of the normalised residual stream."""
        bias = getattr(self._model.unembed, "b_U", None)
        raw: Tensor = normalised.float() @ self._model.unembed.W_U.float()
        return raw if bias is None else raw + bias.float()

    def _rows(self, tokens: Tensor) -> Tensor:
        rows: Tensor = self._model.unembed.W_U.T[tokens.to(self._model.unembed.W_U.device)].float()
        return rows

    def _after_final_norm(self, rows: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return self._centred(scaled_by(getattr(self._model, "ln_final", None), rows))

    def embedding(self, tokens: Int[Tensor, " token"], effective: bool = False) -> Float[Tensor, "token d_model"]:
        """Return token embeddings as they enter the residual stream, without positions.

        `effective` adds the first MLP's output for them: the effective embedding. Raises ModelError if the first block
        has no attention or no MLP.
        """
        block = self._model.blocks[0]
        is_complete = all(getattr(block, part, None) is not None for part in ("attn", "mlp"))
        if effective and (not is_complete or getattr(self._model.cfg, "attn_only", False)):
            raise ModelError(
                f"effective_embedding needs an MLP in the first block, beside attention; that of "
                f"{name_of(self._model)} does not have both"
            )
        seen: list[Tensor] = []

        def at_end(tensor: Tensor, hook: Any) -> None:
            seen.append(tensor[:, 0])
            raise Enough

        def nothing(tensor: Tensor, hook: Any) -> Tensor:
            return torch.zeros_like(tensor)

        hooks: list[tuple[str, Any]] = [(f"blocks.0.hook_resid_{'post' if effective else 'pre'}", at_end)]
        if effective:
            hooks += [(f"blocks.0.{'attn.o.hook_out' if hasattr(block.attn, 'o') else 'hook_attn_out'}", nothing)]
        with running(self._model), contextlib.suppress(Enough), self._without_positions(), self._model.hooks(hooks):
            self._model(tokens[:, None], return_type=None)
        return self._centred(seen[0].float())

    def gram(self, effective: bool = False) -> Float[Tensor, "d_model d_model"]:
        """Return `W_U W_E`, summed over the vocabulary in parts; heads use the two matrices only in this product."""
        parts = self._vocabulary()
        return _sum(exact(self.unembedding(part)).T @ exact(self.embedding(part, effective)) for part in parts)

    def embedding_gram(self) -> Float[Tensor, "d_model d_model"]:
        """Return `W_E^T W_E`."""
        return _sum(exact(embedded).T @ exact(embedded) for embedded in map(self.embedding, self._vocabulary()))

    @cached_property
    def _mean_unembedding(self) -> Float[Tensor, " d_model"]:
        mean: Tensor = self._model.unembed.W_U.mean(dim=1, dtype=torch.float32)
        return mean

    def _vocabulary(self) -> Iterator[Tensor]:
        device = self._model.unembed.W_U.device
        return iter(torch.arange(self.d_vocab, device=device).split(N_TOKENS_AT_ONCE))

    @contextlib.contextmanager
    def _without_positions(self) -> Iterator[None]:
        """Add nothing for positions to token embeddings, for a time."""
        roots = [self._model, getattr(self._model, "original_model", None)]
        named = [each for root in roots if root is not None for each in root.named_modules()]
        handles = [
            module.register_forward_hook(lambda module, args, returned: torch.zeros_like(returned))
            for module in {module for name, module in named if name.split(".")[-1] in _POSITIONS}
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _reading(self, layer: int, name: str) -> Reading:
        weights = self._weights(layer, name).mT
        return self._centred(scaled_by(getattr(self._model.blocks[layer], "ln1", None), weights)).mT

    def _centred(self, rows: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return centred(rows, self._model)

    def _weights(self, layer: int, name: str) -> Reading:
        """Return the weights of each query head for what the norm before them gives."""
        weights = attention_weight(self._model, layer, name).float() * stream_factor(self._model, name)
        return self._per_query_head(weights)

    def _per_query_head(self, parameter: Tensor) -> Tensor:
        """Repeat keys and values for each query head, which shares them with its group."""
        return parameter.repeat_interleave(self._n_heads // parameter.shape[0], dim=0)


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total += part
    return total
