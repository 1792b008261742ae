"""What is measured on a model at one moment of its training: the interface of all measurements."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..lens import Lens, reinitialised
from ..lens.running import detach_what_modules_keep

Advance = Callable[[float], object]  # is told how many parts of a measurement are done

MEANING = 5  # raised whenever a release measures other things, or the same in another way


def silently(n_parts: float) -> None:
    """An `Advance` that shows nothing."""


class Measurement(ABC):
    """Something that is measured on a model, fixed beforehand and the same at every checkpoint.

    Instances are frozen dataclasses that hold all that they need (tokens, settings) and can be sent to a worker.
    """

    has_nulls = False  # whether its values are scores of heads that a model without structure has too

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything that changes a number, as attributes of the result; arrays by their `fingerprint`."""

    @abstractmethod
    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        """Measure a model as it is now: labelled data without a `step`. Raises ModelError if it cannot be measured."""

    def n_parts(self, lens: Lens) -> float | None:
        """How many parts `advance` is told of in all, None where that is not known before."""
        return None

    def constants(self, tokenizer_json: str | None) -> xr.Dataset:
        """Variables that no checkpoint changes, such as the strings of tokens."""
        return xr.Dataset()

    def nulls(self, lens: Lens, seeds: Sequence[int], advance: Advance = silently) -> xr.Dataset:
        """The same on copies of the model whose matrices are drawn at random: `<score>_null` (null, layer, head)."""
        drawn = [self.measure(Lens(reinitialised(lens.model, seed)), advance) for seed in seeds]
        detach_what_modules_keep(lens.model)  # a copy's passes leave things in the model that it was copied from
        if not drawn:
            return xr.Dataset()
        nulls = xr.concat(drawn, "null", combine_attrs="override", coords="minimal", compat="override", join="override")
        for name, array in nulls.data_vars.items():
            array.attrs["long_name"] = f"{name} on models whose matrices are drawn at random"
        return nulls.rename({name: f"{name}_null" for name in nulls.data_vars}).assign_coords(null=list(seeds))


def measure_all(measurements: Sequence[Measurement], lens: Lens, advance: Advance = silently) -> xr.Dataset:
    """All that the measurements find on a model, in one data set."""
    return xr.merge(
        [each.measure(lens, advance) for each in measurements], combine_attrs="no_conflicts", compat="no_conflicts"
    )


def settings_of(measurements: Sequence[Measurement], contents: str) -> dict[str, Any]:
    """The settings of several measurements as attributes of their result."""
    found: dict[str, Any] = {"contents": contents, "meaning": MEANING}
    for each in measurements:
        found |= each.settings()
    # As they will be read back from a store, where there are no NumPy numbers.
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}


def identity(settings: Mapping[str, Any]) -> str:
    """The SHA-256 of settings: two results may stand side by side if and only if theirs are equal."""
    return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()


def fingerprint(array: np.ndarray) -> str:
    """An array in short: its SHA-256, with its type and shape."""
    content = np.ascontiguousarray(array)
    return hashlib.sha256(f"{content.dtype.str}{content.shape}".encode() + content.tobytes()).hexdigest()[:32]
