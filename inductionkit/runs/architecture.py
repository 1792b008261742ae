"""How a run's model is built, and how a checkpoint's weights get into it: one class per kind of source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol


class Architecture(Protocol):
    """`shape` is told without building the model; `build` gives one with any weights; `load` swaps weights in place.

    `load` raises ModelError, with the model unchanged, if the weights do not fit.
    """

    @property
    def shape(self) -> Mapping[str, Any]: ...

    def build(self) -> Any: ...

    def load(self, model: Any, weights: Mapping[str, Any]) -> None: ...


def weights_limit(architecture: Architecture, max_bytes: int | None) -> int:
    """Bytes that a checkpoint may take: `max_bytes`, or twice the model in float32 and some for what is beside it.

    Twice, because weights may be in float64, or tied ones written twice.
    """
    return 2 * architecture.shape["float32_bytes"] + 2**26 if max_bytes is None else max_bytes


@dataclass(frozen=True)
class ProjectArchitecture:
    """The project's own models, by the shape that a run's manifest tells."""

    manifest: Mapping[str, Any]

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        told = self.manifest
        per_layer = 4 * told["n_heads"] * told["d_head"] + 2 * (told["d_mlp"] or 0)
        n_weights = told["d_model"] * (2 * told["d_vocab"] + told["n_ctx"] + told["n_layers"] * per_layer)
        return {**told, "float32_bytes": 4 * n_weights}  # biases and norms are of no weight beside the matrices

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
class HuggingFaceArchitecture:
    """A Hugging Face model, by the `config.json` in `folder()`, with the tokenizer there if there is one."""

    kind: str
    folder: Callable[[], Path] = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.swapping import shape_of

        return shape_of(self.folder())

    def build(self) -> Any:
        from ..lens.swapping import standing_bridge

        return standing_bridge(self.folder())

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def __str__(self) -> str:
        return self.kind


def fingerprint(config: Mapping[str, Any]) -> str:
    """A `config.json` in short, whatever the order of its entries."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def kind_of(config: Mapping[str, Any]) -> str:
    """The model class that a `config.json` names."""
    architectures = config.get("architectures")
    return str(architectures[0] if isinstance(architectures, list) and architectures else config.get("model_type"))


@dataclass(frozen=True)
class GivenArchitecture:
    """A model that the user has built already; it is copied, so that the user's own stays as it is."""

    model: Any = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.swapping import shape_of_model

        return shape_of_model(self.build())

    def build(self) -> Any:
        from ..lens.swapping import standing_copy

        return standing_copy(self.model)

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def __str__(self) -> str:
        return type(self.model).__name__
