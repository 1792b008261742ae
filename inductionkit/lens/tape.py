"""A pass that gradients go back through: from the logits, or from a head's attention scores, to every head's output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from .lens import Lens, Pattern, Values
from .outputs import by_head, per_query_head
from .readout import Ending, ending_of, summed_lift
from .running import Enough, detach_what_modules_keep, explaining, name_of, running

Z = Float[Tensor, "sequence position head d_head"]
Gradients = dict[int, Z]


def taped_batches(
    lens: Lens, tokens: Int[Tensor, "sequence position"], max_bytes: int
) -> list[Int[Tensor, "sequence position"]]:
    """Split `tokens` for passes that keep the activations of all layers: about four times `max_bytes`, for small
    batches take longer."""
    n_sequences = max(1, 4 * max_bytes // (lens.block_bytes(tokens.shape[1]) * lens.n_layers))
    return list(tokens.to(lens.device).split(n_sequences))


class Tape:
    """The activations of one pass over `tokens`, by layer, and gradients with respect to the heads' outputs `z`.

    `patterns` and `values` are those of `Lens.visit_attention`; layers that are `indirect` have no values.
    """

    def __init__(self, lens: Lens, tokens: Int[Tensor, "sequence position"]):
        self.lens, self.tokens = lens, lens.check_tokens(tokens).to(lens.device)
        self.patterns: dict[int, Pattern] = {}
        self.values: dict[int, Values] = {}
        self._z: dict[int, Tensor] = {}
        self._end = Ending()
        self._logits: Tensor | None = None
        self._record()

    @property
    def layers(self) -> list[int]:
        """The layers whose heads' outputs were recorded."""
        return sorted(self._z)

    def lift(self, positions: slice, targets: Int[Tensor, "sequence query"]) -> Float[Tensor, ""]:
        """The logits of one target for each position, less the mean logit, summed."""
        with torch.enable_grad():
            if self._logits is not None:
                return summed_lift(self._logits[:, positions], targets)
            assert self._end.normalised is not None and self.lens.logit_form is not None
            unembedding = self.lens.model.unembed.W_U
            rows = unembedding.T[targets].float() - unembedding.mean(1, dtype=torch.float32)
            summed: Tensor = (self._end.normalised[:, positions].float() * rows).sum()
            return summed * self.lens.logit_form.factor

    def loss(self, queries: slice) -> Float[Tensor, ""]:
        """The loss of the tokens that follow the queries, a slice with start and stop, summed, in nats."""
        targets = self.tokens[:, queries.start + 1 : queries.stop + 1]
        with torch.enable_grad():
            if self._logits is not None:
                logits = self._logits[:, queries]
            else:
                assert self._end.normalised is not None and self.lens.logit_form is not None
                logits = self.lens.model.unembed(self._end.normalised[:, queries]) * self.lens.logit_form.factor
            return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")

    def unbiased_values(self, layer: int) -> Values:
        """The values of a layer's heads without what all tokens share, which is the same for raw and folded weights."""
        return self.values[layer].detach().float() - self.lens.circuits().value_bias(layer)

    def outputs(self, layer: int) -> Z:
        """The outputs `z` of a layer's heads."""
        return by_head(self._z[layer].detach(), self.lens.n_heads).float()

    def direct_gradients(
        self, layers: Iterable[int], positions: slice, targets: Int[Tensor, "sequence query"]
    ) -> Gradients:
        """The gradient of `lift` with respect to `z` at the positions, along the direct path alone, by layer.

        The final norm's scale counts as a constant: `W_O (U[t] - mean U) / sigma`.
        """
        circuits = self.lens.circuits()
        rows = self.lens.readout(self._end.at(positions), targets, circuits).gradient()
        return {layer: torch.einsum("sqm,hdm->sqhd", rows, circuits.output(layer)) for layer in layers}

    def gradients(self, output: Float[Tensor, ""]) -> Gradients:
        """The gradient of an output with respect to `z`, without the layers on which it does not depend."""
        with explaining(f"no gradient can be had of {name_of(self.lens.model)}"):
            found = torch.autograd.grad(output, [*self._z.values()], allow_unused=True)
        return {
            layer: by_head(each, self.lens.n_heads).float() for layer, each in zip(self._z, found) if each is not None
        }

    def _record(self) -> None:
        lens, model = self.lens, self.lens.model
        scored = [layer for layer in range(lens.n_layers) if layer not in lens.unscored]
        indirect = lens.indirect(scored)

        def keep_pattern(tensor: Tensor, hook: Any, layer: int) -> None:
            self.patterns[layer] = tensor

        def keep_values(tensor: Tensor, hook: Any, layer: int) -> None:
            self.values[layer] = per_query_head(tensor, hook, lens.n_heads)

        def keep_z(z: Tensor, hook: Any, layer: int) -> Tensor:
            # Nothing before the first needs a gradient. Returned even unchanged: a bridge shows a reshaped copy, which
            # is on the way to the logits only if it is given back.
            self._z[layer] = z.detach().requires_grad_() if layer == scored[0] else z
            return self._z[layer]

        hooks: list[tuple[str, Any]] = []
        for layer in scored:
            attention = model.blocks[layer].attn
            if not hasattr(attention, "hook_z"):
                raise ModelError(f"layer {layer} of {lens.name} has no hook_z, which shows what its heads write")
            hooks.append((f"blocks.{layer}.attn.hook_z", partial(keep_z, layer=layer)))
            hooks.append((f"blocks.{layer}.attn.hook_pattern", partial(keep_pattern, layer=layer)))
            if layer not in indirect:
                hooks.append((f"blocks.{layer}.attn.hook_v", partial(keep_values, layer=layer)))
        is_linear = lens.logit_form is not None and lens.logit_form.cap is None
        try:
            with (
                ending_of(model, stop=is_linear) as self._end, running(model), without_weight_gradients(model),
                torch.enable_grad(), contextlib.suppress(Enough), model.hooks(fwd_hooks=hooks),
            ):  # fmt: skip
                self._logits = model(self.tokens, return_type="logits")
        finally:
            detach_what_modules_keep(model)


@contextlib.contextmanager
def without_weight_gradients(model: Any) -> Iterator[None]:
    """Leave a model's weights out of graphs for a time."""
    roots = [root for root in (model, getattr(model, "original_model", None)) if root is not None]
    learnt = {parameter for root in roots for parameter in root.parameters() if parameter.requires_grad}
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
