"""Losses with heads zeroed, without repeating the layers before them.

Nothing before an ablated head changes, so a pass with the head zeroed starts there: from the residual stream of one
clean pass, less what the head wrote into it. It is the model's own pass, with the model's masks and positions; only
the blocks up to there are replaced by their outputs in the clean pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..errors import ModelError
from .attention_weights import attention_weight
from .clean_pass import CleanPass, clean_pass
from .lens import Lens, Pattern
from .outputs import by_head

Zeroed = Bool[Tensor, "ablation layer head"]
Losses = Float[Tensor, "ablation sequence query"]
Found = tuple[slice, list[int], Losses]
StandIn = tuple[nn.Module, Callable[..., Any]]
Hook = Callable[[Tensor, Any], Tensor]

ABLATION_MAX_BYTES = 2**27  # more at once leaves the cache of a CPU and takes longer
TRIAL_SHAPE = (2, 8)  # sequences and tokens on which restarts are tried against whole passes


class HeadZeroing:
    """Losses of a model with heads zeroed: `hook_z` of a head is set to 0, the attention's output bias is kept.

    With `freeze_patterns` all attention patterns stay those of the clean pass. If a pass restarted in some layer fails,
    or does not give the losses of a whole pass with hooks, that layer gets whole passes, which are slower. This is
    tried on a few tokens at each call, since other weights may have been loaded.
    """

    def __init__(self, lens: Lens, freeze_patterns: bool, max_bytes: int = ABLATION_MAX_BYTES):
        self._lens, self._freeze, self._max_bytes = lens, freeze_patterns, max_bytes
        self._blocks = lens.model.blocks
        self._patterns_follow_hook = True
        for layer, block in enumerate(self._blocks):
            if layer not in lens.unscored and not hasattr(block.attn, "hook_z"):
                raise ModelError(f"layer {layer} of {lens.name} has no hook_z, which shows what its heads write")
        if freeze_patterns and lens.unscored:
            layer, why = next(iter(lens.unscored.items()))
            raise ModelError(f"patterns of {lens.name} cannot be frozen: layer {layer} has {why}; use kind='full'")

    @torch.no_grad()
    def losses(
        self, tokens: Int[Tensor, "sequence position"], zeroed: Zeroed, queries: slice | None = None
    ) -> Iterator[Found]:
        """Yield losses in parts: which sequences, which ablations, and their losses, of `Lens.token_losses`.

        An ablation without heads gives the clean loss. Raises ModelError if the tokens do not fit the model,
        or if patterns are to be frozen and cannot be.
        """
        lens = self._lens
        lens.check_tokens(tokens)
        tokens = tokens.to(lens.device)
        by_layer: dict[int, list[int]] = {}
        for ablation, layers in enumerate(zeroed.any(2)):
            first = int(layers.nonzero()[0]) if layers.any() else lens.n_layers
            by_layer.setdefault(first, []).append(ablation)
        restartable = self._restartable(tokens[: TRIAL_SHAPE[0], : TRIAL_SHAPE[1]], by_layer.keys() - {lens.n_layers})
        row_bytes, kept_bytes = self._bytes(tokens.shape[1])
        n_sequences = max(1, self._max_bytes // (row_bytes + kept_bytes))
        for start in range(0, len(tokens), n_sequences):
            clean = clean_pass(self._lens, tokens[start : start + n_sequences], self._freeze, queries)
            which = slice(start, start + len(clean.tokens))
            n_ablations = max(1, self._max_bytes // (row_bytes * len(clean.tokens)))
            for layer, ablations in by_layer.items():
                if layer == lens.n_layers:
                    yield which, ablations, clean.losses.expand(len(ablations), -1, -1)
                    continue
                run = partial(self._restarted, layer=layer) if layer in restartable else self._whole
                for at in range(0, len(ablations), n_ablations):
                    some = ablations[at : at + n_ablations]
                    yield which, some, run(clean, zeroed[some])

    def _bytes(self, length: int) -> tuple[int, int]:
        """Return the bytes of a sequence in a pass with its logits, and of the activations its clean pass keeps."""
        config, n_heads = self._lens.model.cfg, self._lens.n_heads
        kept = 2 * config.d_model + n_heads * config.d_head + self._freeze * n_heads * length
        logits = 2 * length * self._lens.d_vocab  # the model's, and one copy
        return self._lens.block_bytes(length) + 4 * logits, 4 * length * self._lens.n_layers * kept

    def _whole(self, clean: CleanPass, zeroed: Zeroed) -> Losses:
        stand_ins, hooks = [], []
        if self._freeze and not self._patterns_follow_hook:
            stand_ins = [self._frozen_attention(clean, zeroed, layer) for layer in clean.patterns]
        else:
            hooks += [self._zeroing(layer, zeroed) for layer in range(self._lens.n_layers) if zeroed[:, layer].any()]
            hooks += [self._freezing(layer, pattern) for layer, pattern in clean.patterns.items()]
        with _standing_in(stand_ins), self._lens.model.hooks(fwd_hooks=hooks):
            return self._rows(clean, len(zeroed))

    def _restarted(self, clean: CleanPass, zeroed: Zeroed, layer: int) -> Losses:
        """Run a pass that starts in `layer`, the first that has a zeroed head."""
        removed = self._written(clean, zeroed, layer)
        stand_ins, hooks, start = [], [], layer
        if self._adds_attention_last(layer):
            residual = clean.blocks[layer].tensor - removed
        else:
            start -= 1
            if layer:  # the first layer has no block before it to replace
                residual = clean.blocks[start].tensor.expand(removed.shape)
            attention = clean.attentions[layer]
            stand_ins.append((self._blocks[layer].attn, _returns(attention.like(_as_rows(attention.tensor - removed)))))
        stand_ins += [
            (self._blocks[below], _returns(clean.blocks[below].like(_as_rows(residual)))) for below in range(start + 1)
        ]
        for above in range(layer + 1, self._lens.n_layers):
            if self._freeze:
                stand_ins.append(self._frozen_attention(clean, zeroed, above))
            elif zeroed[:, above].any():
                hooks.append(self._zeroing(above, zeroed))
        with _standing_in(stand_ins), self._lens.model.hooks(fwd_hooks=hooks):
            return self._rows(clean, len(zeroed))

    def _rows(self, clean: CleanPass, n_ablations: int) -> Losses:
        rows = clean.tokens.repeat(n_ablations, 1)
        losses: Tensor = self._lens.token_losses(rows, clean.queries).unflatten(0, (n_ablations, len(clean.tokens)))
        return losses

    def _written(
        self, clean: CleanPass, zeroed: Zeroed, layer: int
    ) -> Float[Tensor, "ablation sequence position d_model"]:
        """Return what the zeroed heads of a layer wrote into the residual stream."""
        z, output = by_head(clean.z[layer], self._lens.n_heads), attention_weight(self._lens.model, layer, "W_O")
        sets = [heads.nonzero().flatten().to(z.device) for heads in zeroed[:, layer]]
        return torch.stack([z[:, :, heads].flatten(2) @ output[heads].flatten(0, 1) for heads in sets])

    def _adds_attention_last(self, layer: int) -> bool:
        """Return whether a block's output is its attention's output plus terms that do not depend on it."""
        block, config = self._blocks[layer], self._lens.model.cfg
        has_no_mlp = getattr(block, "mlp", None) is None or getattr(config, "attn_only", False)
        is_parallel = getattr(config, "parallel_attn_mlp", False)
        return (has_no_mlp or is_parallel) and getattr(block, "ln1_post", None) is None

    def _zeroing(self, layer: int, zeroed: Zeroed) -> tuple[str, Hook]:
        kept = ~zeroed[:, layer].to(self._lens.device)

        def zero(z: Float[Tensor, "row position ..."], hook: Any) -> Tensor:
            by_ablation: Tensor = by_head(z, self._lens.n_heads).unflatten(0, (len(kept), -1))
            return (by_ablation * kept[:, None, None, :, None]).view(z.shape)

        return f"blocks.{layer}.attn.hook_z", zero

    def _freezing(self, layer: int, pattern: Pattern) -> tuple[str, Hook]:
        def freeze(tensor: Float[Tensor, "row head query key"], hook: Any) -> Tensor:
            return pattern.repeat(len(tensor) // len(pattern), 1, 1, 1)

        return f"blocks.{layer}.attn.hook_pattern", freeze

    def _frozen_attention(self, clean: CleanPass, zeroed: Zeroed, layer: int) -> StandIn:
        """Replace an attention by one with a given pattern, which computes no queries, keys or scores."""
        attention, pattern = self._blocks[layer].attn, clean.patterns[layer]
        kept = ~zeroed[:, layer].to(pattern.device)

        def attend(*args: Any, **kwargs: Any) -> Any:
            read = kwargs.get("value_input", kwargs.get("hidden_states"))  # its names in the two classes
            values = torch.einsum("rkm,hmd->rkhd", args[0] if read is None else read, attention.W_V)
            if attention.b_V is not None:
                values = values + attention.b_V
            values = values.repeat_interleave(pattern.shape[1] // values.shape[2], dim=2)
            # One product per sequence and head, with the ablations side by side.
            beside = values.unflatten(0, (len(kept), -1)).permute(1, 3, 2, 0, 4)
            z = (pattern @ beside.flatten(3)).unflatten(3, (len(kept), -1)) * kept.T[:, None, :, None]
            written = z.permute(3, 0, 2, 1, 4).flatten(3).flatten(0, 1) @ attention.W_O.flatten(0, 1)
            return clean.attentions[layer].like(written if attention.b_O is None else written + attention.b_O)

        return attention, attend

    def _restartable(self, tokens: Int[Tensor, "sequence position"], layers: Iterable[int]) -> set[int]:
        """Return the layers where restarted passes give the losses of whole ones, on a few tokens."""
        self._lens.visit_attention(tokens, lambda *_: None)  # refuses attention to later positions
        clean = clean_pass(self._lens, tokens, self._freeze)
        if self._freeze:
            self._learn_how_to_freeze(clean)
        layers = sorted(layers)
        trials = torch.stack([self._trial(layer) for layer in layers])
        whole = self._whole(clean, trials)
        return {
            layer for layer, trial, losses in zip(layers, trials, whole) if self._restarts(clean, trial, losses, layer)
        }

    def _trial(self, layer: int) -> Bool[Tensor, "layer head"]:
        """Zero every other head of a layer, and the first of each layer above it."""
        trial = torch.zeros(self._lens.n_layers, self._lens.n_heads, dtype=torch.bool)
        trial[layer, ::2] = True
        trial[layer + 1 :, 0] = True
        trial[list(self._lens.unscored)] = False
        return trial

    def _restarts(
        self,
        clean: CleanPass,
        trial: Bool[Tensor, "layer head"],
        whole: Float[Tensor, "sequence position-1"],
        layer: int,
    ) -> bool:
        try:
            [restarted] = self._restarted(clean, trial[None], layer)
        except Exception:  # a foreign model may fail anywhere when its blocks are replaced
            return False
        precision = torch.finfo(clean.blocks[layer].tensor.dtype).eps
        effect = (whole - clean.losses).abs().max()
        return bool((restarted - whole).abs().max() <= precision**0.5 * effect + _noise(whole, precision))

    def _learn_how_to_freeze(self, clean: CleanPass) -> None:
        """Find out whether `hook_pattern` sets what a head attends to or only shows it; then attention is replaced."""

        def empty(pattern: Pattern, hook: Any) -> None:
            pattern.zero_()  # in place: TransformerLens warns of a returned pattern that has no effect

        hooks = [(f"blocks.{layer}.attn.hook_pattern", empty) for layer in clean.patterns]
        with self._lens.model.hooks(fwd_hooks=hooks):
            seen = clean_pass(self._lens, clean.tokens, self._freeze)
        self._patterns_follow_hook = not any(z.any() for z in seen.z.values())
        if self._patterns_follow_hook:
            return
        try:
            [again] = self._whole(clean, torch.zeros(1, self._lens.n_layers, self._lens.n_heads, dtype=torch.bool))
            difference = (again - clean.losses).abs().max()
        except Exception:  # as above
            difference = float("inf")
        if not difference <= _noise(clean.losses, torch.finfo(clean.patterns[0].dtype).eps):
            raise ModelError(
                f"patterns of {self._lens.name} cannot be frozen: its heads' outputs depend on more than their pattern "
                f"and values; use kind='full'"
            )


def _noise(losses: Tensor, precision: float) -> Tensor:
    """Return by how much the losses of two ways to compute the same may differ."""
    return 16 * precision * losses.abs().max()


def _as_rows(tensor: Float[Tensor, "ablation sequence position d_model"]) -> Float[Tensor, "row position d_model"]:
    return tensor.flatten(0, 1)


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


@contextlib.contextmanager
def _standing_in(stand_ins: Iterable[StandIn]) -> Iterator[None]:
    """Replace modules' `forward` for a time; not by `setattr`, which a bridge passes on to what it wraps."""
    before: list[tuple[dict[str, Any], Any]] = []
    try:
        for module, forward in stand_ins:
            before.append((vars(module), vars(module).get("forward")))
            vars(module)["forward"] = forward
        yield
    finally:
        for names, forward in reversed(before):
            names.pop("forward", None)
            if forward is not None:
                names["forward"] = forward
