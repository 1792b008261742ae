"""Weights beside the parameters they are written into: nothing is written unless all names and shapes fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError

N_NAMED = 3  # weights that an error names of each kind


@torch.no_grad()
def write_weights(targets: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copy each of `weights` into the target of its name, in the target's dtype and on its device.

    Raises ModelError, with the targets unchanged, unless names and shapes are the same.
    """
    check_fit(shapes(weights), shapes(targets))
    for name, target in targets.items():
        target.copy_(weights[name])


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_fit(given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise ModelError unless the given names and shapes are the expected ones."""
    faults = {
        "missing": [f"{name} {expected[name]}" for name in sorted(expected.keys() - given.keys())],
        "not in the model": [f"{name} {given[name]}" for name in sorted(given.keys() - expected.keys())],
        "of another shape": [
            f"{name} {given[name]}, expected {expected[name]}"
            for name in sorted(expected.keys() & given.keys())
            if given[name] != expected[name]
        ],
    }
    found = [f"{kind}: {_some(names)}" for kind, names in faults.items() if names]
    if found:
        raise ModelError(
            f"the weights do not fit the model; {'; '.join(found)}. Check that the checkpoint is one of this model"
        )


def _some(names: list[str]) -> str:
    more = len(names) - N_NAMED
    return ", ".join(names[:N_NAMED]) + (f" and {more} more" if more > 0 else "")
