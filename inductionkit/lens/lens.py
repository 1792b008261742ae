"""Token tensors through a model: attention patterns and values layer by layer, or losses by position."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from ..system.gguf_header import is_gguf
from ..system.head_names import named_head
from ..system.process_state import undisturbed
from .bos import bos_of
from .circuits import Circuits
from .loading import open_model
from .outputs import indirect_layers, per_query_head
from .readout import Ending, LogitForm, Readout, ending_of, logit_form
from .running import Enough, label_of, name_of, running, transformer_lens_version, unexplained
from .unwrapping import unwrapped

Pattern = Float[Tensor, "sequence head query key"]
Values = Float[Tensor, "sequence position head d_head"]
Visit = Callable[[int, Pattern, Values | None], None]

TOKEN_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
DEFAULT_MAX_BYTES = 2**28


class Lens:
    """Patterns, values, losses and weights of a TransformerLens model.

    `model` is a `TransformerBridge`, a `HookedTransformer`, a Hugging Face model, the folder of one, or a `.gguf` file,
    whose quantised weights are decoded to float32; wrappers that trainers put around models are seen through.
    Raises ModelError unless it is a decoder-only model with attention.
    """

    def __init__(self, model: Any):
        file = Path(model).name if is_gguf(model) else None
        model = unwrapped(model)
        if isinstance(model, str | Path) or not hasattr(model, "hooks"):
            model = open_model(model)
        self.model = model
        config = model.cfg
        self.name = name_of(model) if file is None else f"{name_of(model)} of {file}"
        self.label = label_of(model) if file is None else file
        self._refuse_what_is_no_decoder()
        self.n_layers: int = config.n_layers
        self.n_heads: int = config.n_heads
        self.n_ctx: int = config.n_ctx
        self.d_vocab: int = config.d_vocab
        self.device = next(model.parameters()).device
        self.unscored = {
            layer: "no attention pattern here"
            for layer, block in enumerate(model.blocks)
            if not hasattr(getattr(block, "attn", None), "hook_pattern")
        }
        if len(self.unscored) == self.n_layers:
            raise ModelError(
                f"TransformerLens {transformer_lens_version()} shows no attention patterns of {self.name}: it has no "
                f"attention, or one that is not taken apart; there are no heads to score"
            )
        self._known_to_be_causal = False
        self._indirect: dict[int, str | None] = {}  # of the layers that were looked at

    @property
    def bos(self) -> int | None:
        """The begin-of-sequence token that prompts start with, or None if the model has none; see `bos_of`."""
        return bos_of(self.model)

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def circuits(self) -> Circuits:
        """Return the circuits of the current weights; call it again when other weights have been loaded."""
        return Circuits(self.model)

    @property
    def has_direct_path(self) -> bool:
        """True if a head's output reaches the logits through one final norm, as its OV circuit says."""
        if self.model.cfg.normalization_type is None:
            return True
        final_norm = getattr(self.model, "ln_final", None)
        # A bridge may name a norm that the model it wraps does not have.
        has_one = final_norm is not None and getattr(final_norm, "original_component", final_norm) is not None
        return has_one and not hasattr(self.model, "prediction_head")

    @cached_property
    def logit_form(self) -> LogitForm | None:
        """How the model changes logits after the unembedding, by a factor or a soft cap; None for any other change."""
        return logit_form(self.model)

    def readout(self, ending: Ending, tokens: Int[Tensor, "sequence token"], circuits: Circuits) -> Readout:
        """How the logits of `tokens` are read at the queries of which `ending` has the residual stream.

        Raises ModelError if the logits are changed in a way that is not known.
        """
        if self.logit_form is None:
            raise ModelError(f"the logits of {self.name} are neither W_U's times a constant nor soft-capped")
        return Readout(circuits, self.logit_form, ending, tokens, self.model)

    def indirect(self, layers: Iterable[int]) -> dict[int, str]:
        """Return those of `layers` where a head writes more than pattern times values times `W_O`, with the reason."""
        wanted = set(layers) - self.unscored.keys()
        if new := sorted(wanted - self._indirect.keys()):
            self._indirect |= dict.fromkeys(new) | indirect_layers(self.model, new)
        return {layer: why for layer, why in self._indirect.items() if layer in wanted and why is not None}

    def check_finite(self) -> None:
        """Raise ModelError if a weight is NaN, infinite or not loaded, or if weights are on several devices.

        Scores of such a model would be NaN without a message.
        """
        parameters = dict(self.model.named_parameters())
        for name, parameter in parameters.items():
            if parameter.is_meta:
                raise ModelError(f"the model's {name} has no values (meta device); load the weights before scanning")
            if parameter.device != self.device:
                raise ModelError(
                    f"the model lies on several devices, its {name} on {parameter.device} and its first weights on "
                    f"{self.device}; move it to one before scanning"
                )
        # One pass instead of the two of isfinite().all(), and one wait for the device.
        sums = [parameter.detach().sum(dtype=torch.float32) for parameter in parameters.values()]
        if torch.stack(sums).isfinite().all():
            return
        for name, parameter in parameters.items():  # a sum may overflow where no weight is infinite
            if not parameter.isfinite().all():
                raise ModelError(f"the model's {name} holds NaN or infinite values; load an intact checkpoint")

    def batches(self, tokens: Int[Tensor, "sequence position"], max_bytes: int = DEFAULT_MAX_BYTES) -> list[Tensor]:
        """Split `tokens` into parts whose activations take at most about `max_bytes`, of at least one sequence each."""
        self.check_tokens(tokens)
        return list(tokens.split(max(1, max_bytes // self.block_bytes(tokens.shape[1]))))

    def block_bytes(self, length: int) -> int:
        """Return the bytes of one sequence's activations in one block: residual streams, hidden layers, patterns."""
        config = self.model.cfg
        n_bytes: int = 4 * length * (10 * config.d_model + 3 * (config.d_mlp or 0) + 4 * self.n_heads * length)
        return n_bytes

    @undisturbed()
    @torch.no_grad()
    def visit_attention(
        self,
        tokens: Int[Tensor, "sequence position"],
        visit: Visit,
        layers: Collection[int] | None = None,
        to_the_end: bool = False,
    ) -> Ending:
        """Run `tokens` once and call `visit(layer, pattern, values)` at each of `layers` (default: all with attention).

        There are values for each query head (with grouped queries, those of its group), or None in `indirect` layers.
        The pass stops in the last of the layers, as soon as its pattern is known: neither the layer's output nor the
        logits are computed, and activations are kept for one layer at a time. With `to_the_end` it goes on to the
        unembedding, and what that reads is returned.
        """
        self.check_tokens(tokens)
        wanted = sorted(set(range(self.n_layers) if layers is None else layers) - self.unscored.keys())
        if not wanted:
            return Ending()
        indirect = self.indirect(wanted)
        values: dict[int, Tensor] = {}

        def keep_values(tensor: Tensor, hook: Any, layer: int) -> None:
            values[layer] = per_query_head(tensor, hook, self.n_heads)

        def at_pattern(tensor: Tensor, hook: Any, layer: int) -> None:
            self._check_causal(tensor)
            with unexplained():
                visit(layer, tensor, values.pop(layer, None))
            if layer == wanted[-1] and not to_the_end:
                raise Enough

        hooks = [(f"blocks.{layer}.attn.hook_pattern", partial(at_pattern, layer=layer)) for layer in wanted]
        hooks += [
            (f"blocks.{layer}.attn.hook_v", partial(keep_values, layer=layer))
            for layer in wanted
            if layer not in indirect
        ]
        with (
            ending_of(self.model, stop=True) as ending, running(self.model), contextlib.suppress(Enough),
            self.model.hooks(fwd_hooks=hooks),
        ):  # fmt: skip
            self.model(tokens.to(self.device), return_type="logits")
        return ending

    @undisturbed()
    @torch.no_grad()
    def token_losses(
        self, tokens: Int[Tensor, "sequence position"], queries: slice | None = None
    ) -> Float[Tensor, "sequence query"]:
        """Loss in nats of each token given those before it; entry `p` belongs to token index `p + 1`.

        With `queries`, a slice with start and stop, only of the tokens that follow these positions; the others are not
        unembedded, which takes much of the time where the vocabulary is large.
        """
        self.check_tokens(tokens)
        tokens = tokens.to(self.device)
        counted = queries or slice(0, tokens.shape[1] - 1)
        with running(self.model), self._unembedding_only(queries):
            logits = self.model(tokens, return_type="logits")
        if logits.shape[1] == tokens.shape[1]:
            logits = logits[:, counted]
        # Sequence by sequence: a copy of all logits would take longer than it takes to reduce them.
        rows = zip(logits, tokens[:, counted.start + 1 : counted.stop + 1])
        return torch.stack([F.cross_entropy(row.float(), target, reduction="none") for row, target in rows])

    @contextlib.contextmanager
    def _unembedding_only(self, queries: slice | None) -> Iterator[None]:
        if queries is None:
            yield
            return
        handle = self.model.unembed.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, queries], *inputs[1:]))
        try:
            yield
        finally:
            handle.remove()

    def _refuse_what_is_no_decoder(self) -> None:
        config = self.model.cfg
        if not hasattr(self.model, "blocks"):
            raise ModelError(f"{self.name} has no stack of decoder blocks; only decoder-only models are scored")
        if getattr(config, "attention_dir", "causal") != "causal":
            raise ModelError(f"{self.name} attends in both directions; only decoder-only models are scored")

    def _check_causal(self, pattern: Pattern) -> None:
        if not self._known_to_be_causal and pattern.triu(1).any():
            raise ModelError(f"{self.name} attends to later positions; only decoder-only models are scored")
        self._known_to_be_causal = True

    def as_tokens(self, tokens: Any) -> Int[Tensor, "sequence position"]:
        """Return `tokens`, a batch or one sequence as a tensor, array or list, as a batch.

        Raises ModelError unless they are token ids that the model takes.
        """
        if isinstance(tokens, list | tuple):
            with contextlib.suppress(ValueError):  # rows of several lengths, refused below
                tokens = np.asarray(tokens)
        if isinstance(tokens, np.ndarray) and np.issubdtype(tokens.dtype, np.integer):
            tokens = torch.from_numpy(tokens.astype(np.int64))
        return self.check_tokens(tokens[None] if isinstance(tokens, Tensor) and tokens.ndim == 1 else tokens)

    def check_tokens(self, tokens: object) -> Int[Tensor, "sequence position"]:
        """Return `tokens`. Raises ModelError unless they are a batch of token ids that the model takes."""
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.dtype not in TOKEN_DTYPES or tokens.is_meta:
            seen = (
                f"{tokens.dtype} of shape {tuple(tokens.shape)} on {tokens.device}"
                if isinstance(tokens, Tensor)
                else type(tokens).__name__
            )
            raise ModelError(f"tokens must be a 2-D integer tensor (sequence, position); seen {seen}")
        self.check_length(tokens.shape[1])
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= self.d_vocab):
            raise ModelError(
                f"token ids {tokens.min().item()} to {tokens.max().item()} leave the vocabulary 0 to {self.d_vocab - 1}"
            )
        return tokens

    def check_head(self, named: object, heads: object) -> tuple[int, int]:
        """Return the (layer, head) that the user has `named`, in `heads`. Raises ModelError if it cannot be scored."""
        pair = named_head(named)
        if pair is None:
            raise ModelError(f"heads={heads!r}: give (layer, head) pairs of whole numbers, or labels such as '1.3'")
        layer, head = pair
        if not 0 <= layer < self.n_layers:
            raise ModelError(f"heads={heads!r} names layer {layer}; this model has layers 0..{self.n_layers - 1}")
        if not 0 <= head < self.n_heads:
            raise ModelError(f"heads={heads!r} names head {layer}.{head}; this model has heads 0..{self.n_heads - 1}")
        if layer in self.unscored:
            raise ModelError(f"heads={heads!r} names layer {layer}: {self.unscored[layer]}")
        return pair

    def check_length(self, n_tokens: int, how: str = "") -> None:
        """Raise ModelError if prompts are longer than the model's context; `how` says how to shorten them."""
        if n_tokens > self.n_ctx:
            raise ModelError(
                f"prompts of {n_tokens} tokens do not fit the model's context of {self.n_ctx}; shorten them{how}"
            )
