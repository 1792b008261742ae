"""Passes in which one layer's attention reads a residual stream that something was taken from, and nothing else."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .lens import Lens
from .outputs import by_head, per_query_head
from .readings import Reading, SoftmaxInput, Stream, before_attention
from .running import Enough, running


@torch.no_grad()
def reading_without(
    lens: Lens, tokens: Int[Tensor, "sequence position"], layer: int, removed: Stream, clean: Reading, side: str
) -> Reading:
    """What a layer's attention reads, and its scores, with `removed` taken from what its keys read (side K), or its
    queries (Q); the others stay those of a `clean` reading. With side V both do, and the values change."""
    seen: dict[str, Tensor] = {}

    def hold(tensor: Tensor, hook: Any, held: Tensor) -> Tensor:
        return held.detach()

    def keep(tensor: Tensor, hook: Any) -> None:
        seen["values"] = per_query_head(tensor, hook, lens.n_heads)

    def stop(tensor: Tensor, hook: Any) -> None:
        raise Enough

    attention = f"blocks.{layer}.attn"
    hooks: list[tuple[str, Any]] = [(f"{attention}.hook_pattern", stop)]
    if side != "K":
        hooks.append((f"{attention}.hook_k", partial(hold, held=clean.keys)))
    if side != "Q":
        hooks.append((f"{attention}.hook_q", partial(hold, held=clean.queries)))
    if clean.values is not None:
        hooks.append((f"{attention}.hook_v", keep))
    handle = before_attention(lens.model.blocks[layer], lambda stream: stream - removed.to(stream.dtype))
    try:
        with (
            running(lens.model), contextlib.suppress(Enough), lens.model.hooks(fwd_hooks=hooks),
            SoftmaxInput() as softmax,
        ):  # fmt: skip
            lens.model(tokens, return_type="logits")
    finally:
        handle.remove()
    return Reading(clean.stream - removed, clean.queries, clean.keys, seen.get("values"), softmax.seen)


@torch.no_grad()
def logits_with(
    lens: Lens,
    tokens: Int[Tensor, "sequence position"],
    layer: int,
    head: int,
    added: Float[Tensor, "sequence position d_head"] | None,
) -> Float[Tensor, "sequence position vocabulary"]:
    """The logits of a pass in which something is added to a head's output `z`."""

    def add(z: Tensor, hook: Any, change: Tensor) -> Tensor:
        changed = by_head(z, lens.n_heads).clone()
        changed[:, :, head] += change.to(z.dtype)
        return changed.view(z.shape)

    hooks = [] if added is None else [(f"blocks.{layer}.attn.hook_z", partial(add, change=added))]
    with running(lens.model), lens.model.hooks(fwd_hooks=hooks):
        logits: Tensor = lens.model(tokens, return_type="logits")
    return logits
