"""How a run's model is built, and how a checkpoint's weights get into it: one class per kind of source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol


class Architecture(Protocol):
    """What the models of a run are, apart from their weights.

    `shape` is known without building the model. `description` differs between architectures that may compute different
    numbers from the same weights, and is the same in every process. `build` returns a model with arbitrary weights.
    `load` swaps weights in place, and raises ModelError, with the model unchanged, if they do not fit.
    """

    @property
    def shape(self) -> Mapping[str, Any]: ...

    @property
    def description(self) -> str: ...

    def build(self) -> Any: ...

    def load(self, model: Any, weights: Mapping[str, Any]) -> None: ...


def weights_limit(architecture: Architecture, max_bytes: int | None) -> int:
    """Return how many bytes a checkpoint may take: `max_bytes`, or twice the model in float32 and 64 MiB.

    Twice, because weights may be in float64, or tied ones written twice.
    """
    return 2 * architecture.shape["float32_bytes"] + 2**26 if max_bytes is None else max_bytes


def fingerprint(content: object) -> str:
    """Return the SHA-256 of what JSON can hold, the same for any order of its entries."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ProjectArchitecture:
    """The project's own models, by the shape in a run's manifest."""

    manifest: Mapping[str, Any]

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        told = self.manifest
        per_layer = 4 * told["n_heads"] * told["d_head"] + 2 * (told["d_mlp"] or 0)
        n_weights = told["d_model"] * (2 * told["d_vocab"] + told["n_ctx"] + told["n_layers"] * per_layer)
        return {**told, "float32_bytes": 4 * n_weights}  # the matrices; biases and norms are small beside them

    @property
    def description(self) -> str:
        return fingerprint({"model of a manifest": self.manifest})

    def build(self) -> Any:
        from ..lens import build_model

        return build_model(self.manifest)

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens import load_weights

        load_weights(model, weights)

    def __str__(self) -> str:
        layers, heads = self.manifest["n_layers"], self.manifest["n_heads"]
        kind = "attention-only" if self.manifest["d_mlp"] is None else "with MLPs"
        return f"{layers} layer{'s' * (layers > 1)} x {heads} heads, {kind}"


@dataclass(frozen=True)
class GivenArchitecture:
    """A model that the user has built already; it is copied, so that the user's own stays as it is."""

    model: Any = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.from_config import shape_of_model

        return shape_of_model(self.build())

    @cached_property
    def description(self) -> str:
        from ..lens.describing import describe_model
        from ..lens.unwrapping import unwrapped

        return fingerprint({"model in memory": describe_model(unwrapped(self.model))})

    def build(self) -> Any:
        from ..lens.swapping import standing_copy

        return standing_copy(self.model)

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def __str__(self) -> str:
        return type(self.model).__name__
