"""Weights that were saved with the name of an attribute in front: `model.` of a LightningModule, for example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..system.wrapper_names import without_prefix
from .architecture import Architecture


@dataclass(frozen=True)
class PrefixedArchitecture:
    """The `plain` architecture, into which weights are loaded without the prefix that all of them have."""

    plain: Architecture

    @property
    def shape(self) -> Mapping[str, Any]:
        return self.plain.shape

    @property
    def description(self) -> str:
        return self.plain.description

    def build(self) -> Any:
        return self.plain.build()

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.parameter_names import parameter_names

        self.plain.load(model, without_prefix(weights, parameter_names(model)))

    def __str__(self) -> str:
        return str(self.plain)
