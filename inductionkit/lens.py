"""The one door to TransformerLens: token tensors in, attention patterns, OV terms and losses out.

Serves `TransformerBridge` (4.x) and `HookedTransformer` (2.x, 3.x) through what both share: hook
names (`blocks.{l}.attn.hook_pattern`, `hook_v`) and weights (`W_V`, `W_O`, `W_U`). The model leaves
as it came: hooks gone, mode and gradients as they were, weights untouched, also after an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .errors import ModelError

Values = Float[Tensor, "sequence position head d_head"]
Visit = Callable[[int, Float[Tensor, "sequence head query key"], Values], None]

_NORMS_THAT_CENTRE = {"LN", "LNPRE"}


class Lens:
    """A TransformerLens model, seen as what the scores need of it.

    Raises ModelError for anything that is not a decoder-only model of TransformerLens.
    """

    def __init__(self, model: Any):
        config = getattr(model, "cfg", None)
        if config is None or not hasattr(model, "hooks") or not hasattr(model, "blocks"):
            raise ModelError(
                f"{type(model).__name__} is not a TransformerLens model; load it as a TransformerBridge "
                f"(TransformerLens 4) or HookedTransformer (2, 3)"
            )
        if getattr(config, "attention_dir", "causal") != "causal":
            raise ModelError(f"{type(model).__name__} attends in both directions; only decoder-only models are scored")
        self.model = model
        self.n_layers: int = config.n_layers
        self.n_heads: int = config.n_heads
        self.n_ctx: int = config.n_ctx
        self.d_vocab: int = config.d_vocab
        self.device = next(model.parameters()).device

    @property
    def bos(self) -> int | None:
        """The begin-of-sequence token that prompts start with: the tokenizer's, or 0 where there is no tokenizer."""
        tokenizer = getattr(self.model, "tokenizer", None)
        return 0 if tokenizer is None else tokenizer.bos_token_id

    def check_finite(self) -> None:
        """Raise ModelError if a weight is NaN or infinite: every score would be NaN without a word."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise ModelError(f"the model's {name} holds NaN or infinite values; load an intact checkpoint")

    @torch.no_grad()
    def visit_attention(self, tokens: Int[Tensor, "sequence position"], visit: Visit) -> None:
        """Run `tokens` once and call `visit(layer, pattern, values)` at each layer.

        The pass stops after the last layer's attention: neither its output nor the logits are formed, and
        nothing is kept beyond the layer at hand.
        """
        self._check_tokens(tokens)
        values: dict[int, Tensor] = {}

        def keep_values(tensor: Tensor, hook: Any) -> None:
            values[_layer_of(hook.name)] = tensor

        def at_pattern(tensor: Tensor, hook: Any) -> None:
            layer = _layer_of(hook.name)
            visit(layer, tensor, self._per_query_head(values.pop(layer)))
            if layer == self.n_layers - 1:
                raise _Enough

        hooks = [(f"blocks.{layer}.attn.hook_v", keep_values) for layer in range(self.n_layers)]
        hooks += [(f"blocks.{layer}.attn.hook_pattern", at_pattern) for layer in range(self.n_layers)]
        with self._evaluating(), contextlib.suppress(_Enough), self.model.hooks(fwd_hooks=hooks):
            self.model(tokens.to(self.device), return_type=None)

    @torch.no_grad()
    def ov_lift(
        self, layer: int, values: Values, targets: Int[Tensor, "sequence target"]
    ) -> Float[Tensor, "sequence head position target"]:
        """What each source alone adds to the targets' logits along the direct path, less the vocabulary mean.

        `v_j W_O W_U` with the final norm's scale (and a LayerNorm's centring) folded into `W_U`. Biases
        are left out of `v_j`: they write the same whatever is attended to, and folding moves them into
        the output bias, so that raw and folded weights give the same lift.
        """
        attention = self.model.blocks[layer].attn
        written = torch.einsum("sphd,hdm->sphm", (values - self._value_bias(layer)).float(), attention.W_O.float())
        unembedding = self._folded_unembedding(targets)
        mean = self._folded_mean_unembedding()
        return torch.einsum("sphm,stm->shpt", written, unembedding - mean)

    @torch.no_grad()
    def token_losses(self, tokens: Int[Tensor, "sequence position"]) -> Float[Tensor, "sequence position-1"]:
        """Loss in nats of each token given those before it; entry `p` belongs to token index `p + 1`."""
        self._check_tokens(tokens)
        tokens = tokens.to(self.device)
        with self._evaluating():
            logits = self.model(tokens, return_type="logits")
        # The last position predicts nothing that is known; leaving it in spares a copy of all logits.
        targets = torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        return losses.unflatten(0, tuple(tokens.shape))[:, :-1]

    def _per_query_head(self, values: Tensor) -> Values:
        """Values for each query head: with grouped queries, those of its group."""
        return values.repeat_interleave(self.n_heads // values.shape[2], dim=2)

    def _value_bias(self, layer: int) -> Float[Tensor, "head d_head"]:
        """The part of every value vector that no token changes: `b_V`, and the input norm's bias through `W_V`."""
        block = self.model.blocks[layer]
        weights, bias = self._per_head(block.attn.W_V), self._per_head(block.attn.b_V)
        norm_bias = _first_of(block.ln1, "b", "bias")
        return bias if norm_bias is None else bias + torch.einsum("m,hmd->hd", norm_bias, weights)

    def _per_head(self, parameter: Tensor) -> Tensor:
        return parameter.repeat_interleave(self.n_heads // parameter.shape[0], dim=0)

    def _folded_unembedding(self, targets: Int[Tensor, "sequence target"]) -> Float[Tensor, "sequence target d_model"]:
        return self._fold_final_norm(self.model.unembed.W_U.T[targets.to(self.device)].float())

    def _folded_mean_unembedding(self) -> Float[Tensor, " d_model"]:
        return self._fold_final_norm(self.model.unembed.W_U.float().mean(dim=1))

    def _fold_final_norm(self, rows: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        weight = _first_of(self.model.ln_final, "w", "weight")
        rows = rows if weight is None else rows * weight.float()
        centres = (self.model.cfg.normalization_type or "").upper() in _NORMS_THAT_CENTRE
        return rows - rows.mean(dim=-1, keepdim=True) if centres else rows

    def _check_tokens(self, tokens: Tensor) -> None:
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point():
            seen = (
                f"{tokens.dtype} of shape {tuple(tokens.shape)}"
                if isinstance(tokens, Tensor)
                else type(tokens).__name__
            )
            raise ModelError(f"tokens must be a 2-D integer tensor (sequence, position); seen {seen}")
        if tokens.shape[1] > self.n_ctx:
            raise ModelError(
                f"prompts of {tokens.shape[1]} tokens do not fit the model's context of {self.n_ctx}; shorten them"
            )
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= self.d_vocab):
            raise ModelError(
                f"token ids {tokens.min().item()} to {tokens.max().item()} leave the vocabulary 0 to {self.d_vocab - 1}"
            )

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode for the time of a pass, each submodule's own mode restored after it."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


class _Enough(Exception):
    """Raised from a hook once the last layer asked for has been seen."""


def build_model(config: Mapping[str, Any], normalization: str | None = "LN") -> Any:
    """A `TransformerBridge` of the shape that a run's manifest tells, with weights yet to be loaded."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge_config = TransformerBridgeConfig(
        **{key: config[key] for key in ("n_layers", "d_model", "n_heads", "d_head", "n_ctx", "d_vocab", "eps")},
        d_mlp=config["d_mlp"] or 4 * config["d_model"],
        attn_only=config["d_mlp"] is None,
        act_fn="gelu",
        normalization_type=normalization,
        architecture="TransformerLensNative",
    )
    with torch.random.fork_rng(devices=[]):  # it draws weights that nobody will see
        return TransformerBridge.boot_native(bridge_config).eval()


@torch.no_grad()
def load_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Put a checkpoint's arrays into a standing model built by `build_model`, in its own dtype.

    Raises ModelError, with the model unchanged, if a name or shape does not fit.
    """
    state = {name: torch.as_tensor(array).float() for name, array in weights.items()}
    state.setdefault("unembed.bias", torch.zeros(model.cfg.d_vocab))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    seen = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if seen != expected:
        wrong = sorted(name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name))
        first = wrong[0]
        raise ModelError(
            f"the checkpoint does not fit the manifest's model in {len(wrong)} weights, first {first}: "
            f"seen {seen.get(first, 'none')}, expected {expected.get(first, 'none')}"
        )
    model.load_state_dict(state)


def _layer_of(hook_name: str) -> int:
    return int(hook_name.split(".")[1])


def _first_of(module: Any, *names: str) -> Tensor | None:
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, Tensor):
            return value
    return None
