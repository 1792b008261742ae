"""Weights beside the parameters they are written into: nothing is written unless all names and shapes fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    missing, others = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    faults = {
        "missing": [f"{name} {expected[name]}" for name in missing],
        "not in the model": [f"{name} {given[name]}" for name in others],
        "of another shape": [
            f"{name} {given[name]}, expected {expected[name]}"
            for name in sorted(expected.keys() & given.keys())
            if given[name] != expected[name]
        ],
    }
    found = [f"{kind}: {_some(names)}" for kind, names in faults.items() if names]
    if found:
        remedy = "Check that the checkpoint is one of this model"
        if prefix := _prefix(others, expected):
            remedy = f"The checkpoint's names begin with {prefix!r}, the model's do not: remove it from the names"
        elif prefix := _prefix(missing, given):
            remedy = f"The model's names begin with {prefix!r}, the checkpoint's do not: add it to the names"
        raise ModelError(f"the weights do not fit the model; {'; '.join(found)}. {remedy}")


def _prefix(longer: list[str], shorter: Collection[str]) -> str | None:
    """Return what all `longer` names begin with, if without it they are among the `shorter` ones."""
    parts = longer[0].split(".") if longer else []
    for n in range(1, len(parts)):
        prefix = ".".join(parts[:n]) + "."
        if all(name.startswith(prefix) and name.removeprefix(prefix) in shorter for name in longer):
            return prefix
    return None


def _some(names: list[str]) -> str:
    more = len(names) - N_NAMED
    return ", ".join(names[:N_NAMED]) + (f" and {more} more" if more > 0 else "")
