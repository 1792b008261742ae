"""Attention scores, traced back to the writings of earlier heads in the residual stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .lens import Lens, Pattern
from .norms import centres_rows, division
from .outputs import by_head, per_query_head
from .running import Enough, detach_what_modules_keep, running
from .tape import without_weight_gradients

MASKED = -1e4  # scores below are masked: no score that a softmax sees lies so low, a mask adds more

Stream = Float[Tensor, "sequence position d_model"]
Scores = Float[Tensor, "sequence head query key"]


@dataclass(frozen=True)
class Reading:
    """The input of a layer's attention and its scores before the softmax, with the graph in between.

    There are values for each query head, or None where heads write more than pattern times values. `attend` runs the
    layer's attention again, on another residual stream.
    """

    stream: Stream
    queries: Tensor
    keys: Tensor
    values: Float[Tensor, "sequence position head d_head"] | None
    scores: Scores
    attend: Callable[[Stream], object]

    def gap(self, head: int, attended: Bool[Tensor, "sequence query key"], positions: slice) -> Float[Tensor, ""]:
        """By how much a head's scores of the `attended` keys exceed its mean score, summed over the `positions`.

        It does not saturate as attention does, and the softmax's normaliser cancels in it. Keys that the head cannot
        see, because of a window, do not count, nor do queries that see none of the attended.
        """
        with torch.enable_grad():
            # An attention sink is a column of its own, the last.
            scores = self.scores[:, head, positions, : attended.shape[-1]].float()
            visible = scores.detach() > MASKED  # by causality, and in a window
            aimed_at = attended & visible
            mean = scores.masked_fill(~visible, 0).sum(-1) / visible.sum(-1)
            aimed = scores.masked_fill(~aimed_at, 0).sum(-1) / aimed_at.sum(-1).clamp_min(1)
            return ((aimed - mean) * aimed_at.any(-1)).sum()

    def gap_gradients(self, gap: Float[Tensor, ""]) -> dict[str, Stream] | None:
        """The gradient of a gap with respect to what was read, by side: through the keys, K, and the queries, Q.

        None where the model does not show queries and keys on their way to the scores.
        """
        sides = (self.keys, self.queries)
        local = torch.autograd.grad(gap, sides, retain_graph=True, allow_unused=True)
        if any(each is None for each in local):
            return None
        return {
            side: torch.autograd.grad(tensor, self.stream, weights, retain_graph=True)[0].float()
            for side, tensor, weights in zip(("K", "Q"), sides, local)
        }

    def value_gradient(self, head: int, weights: Float[Tensor, "sequence position d_head"]) -> Stream | None:
        """The gradient of `sum(weights * values)` of a head with respect to what was read."""
        if self.values is None or not self.values.requires_grad:
            return None
        with torch.enable_grad():
            values = self.values[:, :, head]
        return torch.autograd.grad(values, self.stream, weights.to(values.dtype), retain_graph=True)[0].float()


class Readings:
    """One pass over `tokens`; `layers` read from the residual stream, each on its own.

    Before the attention of each such layer the stream is cut, so that gradients end there. Norms on the way to the
    scores divide by what they did: a score is then linear in what each earlier part wrote, for given queries or keys.
    `patterns` has the attention of all layers up to the last of `layers`, `of` what those show, but for layers whose
    attention does not read the stream through the norm before it.
    """

    def __init__(self, lens: Lens, tokens: Int[Tensor, "sequence position"], layers: Collection[int]):
        self.lens, self.tokens = lens, lens.check_tokens(tokens).to(lens.device)
        self.patterns: dict[int, Pattern] = {}
        self.of: dict[int, Reading] = {}
        self._z: dict[int, Tensor] = {}
        self._post: dict[int, tuple[Tensor, Tensor]] = {}  # what went into the norm after attention, and came out
        self._circuits = lens.circuits()
        if layers:
            self._record(set(layers))

    @property
    def layers_that_wrote(self) -> list[int]:
        """The layers of which `written` is known: those below the last that is read."""
        return sorted(self._z)

    @torch.no_grad()
    def written(
        self, layer: int, z: Float[Tensor, "sequence position head d_head"] | None = None
    ) -> Float[Tensor, "sequence position head d_model"]:
        """Return the part of the residual stream that each head of a layer wrote, or would write with an output `z`."""
        z = by_head(self._z[layer], self.lens.n_heads).float() if z is None else z
        written = torch.einsum("sphd,hdm->sphm", z, self._circuits.output(layer))
        if layer not in self._post:
            return written
        norm = self.lens.model.blocks[layer].ln1_post
        return written / division(norm, *self._post[layer], self.lens.model)[..., None, None]

    def _record(self, wanted: set[int]) -> None:
        model, last, n_heads = self.lens.model, max(wanted), self.lens.n_heads
        indirect = self.lens.indirect(wanted)
        handles: list[Any] = []
        hooks: list[tuple[str, Any]] = []
        kept: dict[tuple[str, int], Tensor] = {}
        calls: dict[int, tuple[Any, Any]] = {}

        def keep(tensor: Tensor, hook: Any, name: str, layer: int) -> Tensor:
            kept[name, layer] = tensor
            return tensor  # a bridge may show a copy, which is on the way only if it is given back

        def at_pattern(tensor: Tensor, hook: Any, layer: int) -> None:
            self.patterns[layer] = tensor.detach()
            names = [(name, layer) for name in ("stream", "q", "k")]
            if layer in wanted and layer in calls and all(name in kept for name in names):
                stream, queries, keys = (kept.pop(name) for name in names)
                values, again = kept.pop(("v", layer), None), partial(_attend, model.blocks[layer], calls[layer])
                self.of[layer] = Reading(stream, queries, keys, values, softmax.seen, again)
            if layer == last:
                raise Enough

        def keep_call(module: nn.Module, args: Any, kwargs: Any, layer: int) -> None:
            calls[layer] = args, kwargs

        def keep_values(tensor: Tensor, hook: Any, layer: int) -> Tensor:
            kept["v", layer] = per_query_head(tensor, hook, n_heads)
            return tensor

        def keep_z(tensor: Tensor, hook: Any, layer: int) -> None:
            self._z[layer] = tensor.detach()

        def keep_post(module: nn.Module, inputs: Any, output: Tensor, layer: int) -> None:
            self._post[layer] = inputs[0].detach(), output.detach()

        def cut(tensor: Tensor, layer: int) -> Tensor:
            kept["stream", layer] = tensor.detach().requires_grad_()
            return kept["stream", layer]

        for layer in range(last + 1):
            block = model.blocks[layer]
            if layer in self.lens.unscored:
                continue
            hooks.append((f"blocks.{layer}.attn.hook_pattern", partial(at_pattern, layer=layer)))
            if layer < last:
                hooks.append((f"blocks.{layer}.attn.hook_z", partial(keep_z, layer=layer)))
                if (post := getattr(block, "ln1_post", None)) is not None:
                    handles.append(post.register_forward_hook(partial(keep_post, layer=layer)))
            if layer in wanted:
                hooks += [(f"blocks.{layer}.attn.hook_{n}", partial(keep, name=n, layer=layer)) for n in ("q", "k")]
                if layer not in indirect:
                    hooks.append((f"blocks.{layer}.attn.hook_v", partial(keep_values, layer=layer)))
                handles += _reading_through(block, partial(cut, layer=layer))
                kept_call = partial(keep_call, layer=layer)
                handles.append(block.attn.register_forward_pre_hook(kept_call, with_kwargs=True))
        try:
            with (
                running(model), without_weight_gradients(model), torch.enable_grad(), contextlib.suppress(Enough),
                model.hooks(fwd_hooks=hooks), SoftmaxInput() as softmax,
            ):  # fmt: skip
                model(self.tokens, return_type="logits")
        finally:
            for handle in handles:
                handle.remove()
            detach_what_modules_keep(model)


class SoftmaxInput(TorchFunctionMode):
    """Remembers what the last softmax was given."""

    seen: Tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "softmax" and isinstance(args[0], Tensor):
            self.seen = args[0]
        return func(*args, **(kwargs or {}))


def _attend(block: Any, call: tuple[Any, Any], stream: Stream) -> object:
    """Run a block's attention as it was called, on another residual stream."""
    args, kwargs = call
    norm = getattr(block, "ln1", None)
    read = stream if norm is None else norm(stream)
    caches = {name: None for name, value in kwargs.items() if hasattr(value, "get_seq_length")}  # they would grow
    args = tuple(None if hasattr(value, "get_seq_length") else value for value in args)
    names = [name for name in ("hidden_states", "query_input", "key_input", "value_input") if name in kwargs]
    if names and not args:
        return block.attn(**{**kwargs, **caches, **dict.fromkeys(names, read)})
    return block.attn(read, *args[1:], **{**kwargs, **caches})


def before_attention(block: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
    """Register a `change` of the residual stream that a block's attention reads; None leaves it. Returns the handle."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        name = next((name for name in ("hidden_states", "query_input") if not args and name in kwargs), None)
        changed = change(kwargs[name] if name else args[0])
        if changed is None:
            return None
        return (args, {**kwargs, name: changed}) if name else ((changed, *args[1:]), kwargs)

    norm = getattr(block, "ln1", None)
    return (block.attn if norm is None else norm).register_forward_pre_hook(hook, with_kwargs=True)


def _reading_through(block: Any, cut: Callable[[Tensor], Tensor]) -> Iterator[Any]:
    """Cut the stream before a block's attention, and hold the divisions of the norms up to its scores."""
    held = _HeldDivision()
    yield before_attention(block, lambda stream: None if held.is_asking else cut(stream))
    for module, name in ((block, "ln1"), (block.attn, "q_norm"), (block.attn, "k_norm")):
        if (norm := getattr(module, name, None)) is not None:
            yield norm.register_forward_hook(held)


class _HeldDivision:
    """A forward hook: the norm's output is what it was, its gradient that of a norm whose division is a constant.

    A norm is `M(x) / s(x) + b`. It does not change as `x` grows, so the gradient along `x` itself is missing; it is put
    back. `b` is what the norm makes of 0, and what its `eps` leaves of the gradient along `x` shows in its output of
    `2 x`.
    """

    is_asking = False

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if self.is_asking:
            return None
        self.is_asking = True
        try:
            with torch.no_grad():
                rows = inputs[0].detach()
                bias = module(torch.zeros_like(rows))
                out, doubled = output.detach() - bias, module(2 * rows) - bias
                grows = (doubled * out).sum(-1, keepdim=True) / out.square().sum(-1, keepdim=True)  # 1 to 2
                direction = rows - rows.mean(-1, keepdim=True) if centres_rows(module, rows, output) else rows
        finally:
            self.is_asking = False
        eps = 4 * (grows.square() - 1) / (4 - grows.square())  # as a share of the mean square; infinite without a norm
        share = torch.where(grows < 2 - 1e-6, 1 / (1 + eps), torch.zeros_like(eps)).nan_to_num(0.0)
        along = (inputs[0] * direction).sum(-1, keepdim=True) / direction.square().sum(-1, keepdim=True).clamp_min(
            1e-30
        )
        held: Tensor = output + out * share * (along - along.detach())
        return held
