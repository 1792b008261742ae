"""Passes in which one layer's attention reads a residual stream that something was taken from, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from .lens import Lens
from .outputs import by_head, per_query_head
from .readings import MASKED, Reading, Readings, SoftmaxInput, Stream, before_attention
from .running import Enough, running


class WithoutEdge:
    """The layers of `readings` again, reading a stream that a part was taken from.

    The attention of the one layer is run again, as it was called. Where this does not give the scores of the whole pass
    with nothing taken away, that layer gets whole passes, which are slower.
    """

    def __init__(self, readings: Readings):
        self._readings, self._lens = readings, readings.lens
        self._whole: dict[int, bool] = {}

    @torch.no_grad()
    def reading(self, layer: int, removed: Stream, side: str) -> Reading:
        """The values and scores of a layer with `removed` taken from what its keys read (side K), or its queries
        (Q), while the others stay. With side V both stay, and the values change."""
        if layer not in self._whole:
            self._whole[layer] = not self._can_run_alone(layer)
        run = self._by_a_whole_pass if self._whole[layer] else self._alone
        return run(layer, removed, side)

    def _can_run_alone(self, layer: int) -> bool:
        clean = self._readings.of[layer]
        try:
            again = self._alone(layer, torch.zeros_like(clean.stream), "")
        except ModelError:
            return False
        if again.scores.shape != clean.scores.shape:
            return False
        seen = clean.scores > MASKED
        before, after = clean.scores[seen].float(), again.scores[seen].float()
        eps = torch.finfo(clean.scores.dtype).eps
        return torch.allclose(after, before, rtol=0, atol=16 * eps * before.abs().max().item())

    def _alone(self, layer: int, removed: Stream, side: str) -> Reading:
        stream = self._readings.of[layer].stream.detach() - removed.to(self._readings.of[layer].stream.dtype)
        with self._seeing(layer, side) as found:
            self._readings.of[layer].attend(stream)
        return found[0]

    def _by_a_whole_pass(self, layer: int, removed: Stream, side: str) -> Reading:
        handle = before_attention(self._lens.model.blocks[layer], lambda stream: stream - removed.to(stream.dtype))
        try:
            with self._seeing(layer, side) as found:
                self._lens.model(self._readings.tokens, return_type="logits")
        finally:
            handle.remove()
        return found[0]

    @contextlib.contextmanager
    def _seeing(self, layer: int, side: str) -> Iterator[list[Reading]]:
        """Hold what the side does not change, end the pass at the pattern, and note what is read until then."""
        clean, n_heads = self._readings.of[layer], self._lens.n_heads
        values: list[Tensor] = []
        found: list[Reading] = []

        def hold(tensor: Tensor, hook: Any, held: Tensor) -> Tensor:
            return held.detach()

        def keep(tensor: Tensor, hook: Any) -> None:
            values.append(per_query_head(tensor, hook, n_heads))

        def stop(tensor: Tensor, hook: Any) -> None:
            raise Enough

        attention = f"blocks.{layer}.attn"
        hooks: list[tuple[str, Any]] = [(f"{attention}.hook_pattern", stop)]
        if side in ("Q", "V"):
            hooks.append((f"{attention}.hook_k", partial(hold, held=clean.keys)))
        if side in ("K", "V"):
            hooks.append((f"{attention}.hook_q", partial(hold, held=clean.queries)))
        if clean.values is not None:
            hooks.append((f"{attention}.hook_v", keep))
        with (
            running(self._lens.model), contextlib.suppress(Enough), self._lens.model.hooks(fwd_hooks=hooks),
            SoftmaxInput() as softmax,
        ):  # fmt: skip
            yield found
        found.append(replace(clean, values=values[-1] if values else None, scores=softmax.seen))


@torch.no_grad()
def logits_with(
    lens: Lens,
    tokens: Int[Tensor, "sequence position"],
    layer: int = 0,
    head: int = 0,
    added: Float[Tensor, "sequence position d_head"] | None = None,
) -> Float[Tensor, "sequence position vocabulary"]:
    """The logits of a pass in which something is `added` to a head's output `z`."""

    def add(z: Tensor, hook: Any, change: Tensor) -> Tensor:
        changed = by_head(z, lens.n_heads).clone()
        changed[:, :, head] += change.to(z.dtype)
        return changed.view(z.shape)

    hooks = [] if added is None else [(f"blocks.{layer}.attn.hook_z", partial(add, change=added))]
    with running(lens.model), lens.model.hooks(fwd_hooks=hooks):
        logits: Tensor = lens.model(tokens, return_type="logits")
    return logits
