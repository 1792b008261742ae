"""A pass without ablation, and its activations for passes that start in its middle."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from .lens import Lens, Pattern


class Output:
    """What a module returned: a tensor, or a tuple that starts with one."""

    def __init__(self, returned: Any):
        self._n_others = len(returned) - 1 if isinstance(returned, tuple) else None
        self.tensor: Tensor = returned if self._n_others is None else returned[0]

    def like(self, tensor: Tensor) -> Any:
        """Return another tensor in the same form; other outputs become None."""
        return tensor if self._n_others is None else (tensor, *[None] * self._n_others)


@dataclass
class CleanPass:
    """The activations of a pass without ablation, by layer."""

    tokens: Int[Tensor, "sequence position"]
    queries: slice | None = None  # whose losses are wanted, see `Lens.token_losses`
    blocks: dict[int, Output] = field(default_factory=dict)
    attentions: dict[int, Output] = field(default_factory=dict)
    z: dict[int, Float[Tensor, "sequence position head d_head"]] = field(default_factory=dict)
    patterns: dict[int, Pattern] = field(default_factory=dict)
    losses: Float[Tensor, "sequence query"] = field(init=False)


def clean_pass(
    lens: Lens, tokens: Int[Tensor, "sequence position"], with_patterns: bool, queries: slice | None = None
) -> CleanPass:
    """Run a whole pass and keep what blocks and attentions return, `hook_z`, and on request the patterns."""
    clean = CleanPass(tokens, queries)

    def keep(tensor: Tensor, hook: Any, by_layer: dict[int, Tensor], layer: int) -> None:
        by_layer[layer] = tensor

    def keep_output(module: nn.Module, args: Any, returned: Any, by_layer: dict[int, Output], layer: int) -> None:
        by_layer[layer] = Output(returned)

    hooks, handles = [], []
    try:
        for layer, block in enumerate(lens.model.blocks):
            at_output = partial(keep_output, by_layer=clean.blocks, layer=layer)
            handles.append(block.register_forward_hook(at_output))
            if layer in lens.unscored:
                continue
            at_output = partial(keep_output, by_layer=clean.attentions, layer=layer)
            handles.append(block.attn.register_forward_hook(at_output))
            hooks.append((f"blocks.{layer}.attn.hook_z", partial(keep, by_layer=clean.z, layer=layer)))
            if with_patterns:
                at_pattern = partial(keep, by_layer=clean.patterns, layer=layer)
                hooks.append((f"blocks.{layer}.attn.hook_pattern", at_pattern))
        with lens.model.hooks(fwd_hooks=hooks):
            clean.losses = lens.token_losses(tokens, queries)
    finally:
        for handle in handles:
            handle.remove()
    return clean
