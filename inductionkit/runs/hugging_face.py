"""Hugging Face models by their `config.json`, and which of a run's checkpoints are of another model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ModelError, RunError
from .architecture import fingerprint
from .safe_read import read_json

_WRITER = "_name_or_path|transformers_version"
# Entries that may change in the course of a training and leave the model what it is.
_FOR_USE = f"{_WRITER}|architectures|(torch_)?dtype|.*dropout|.*_pdrop|.*_token_id|initializer_range|use_cache"


@dataclass(frozen=True)
class HuggingFaceArchitecture:
    """A Hugging Face model, by the contents of a `config.json` in `folder()`, with the tokenizer there if any."""

    config: Mapping[str, Any] = field(repr=False)
    folder: Callable[[], Path] = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.from_config import shape_of

        return shape_of(self.folder())

    @property
    def description(self) -> str:
        return fingerprint({"Hugging Face model": _without(_WRITER, self.config)})

    def build(self) -> Any:
        from ..lens.from_config import standing_bridge

        return standing_bridge(self.folder())

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def refuse_other(self, folder: Path, root: Path, name: object) -> None:
        """Raise RunError if the `config.json` in a checkpoint's folder is of another model.

        One that is missing or damaged says nothing: the weights may fit nevertheless.
        """
        try:
            own = read_config(folder, root)
        except RunError:
            return
        if different := _differences(own, self.config):
            entry, (seen, expected) = min(different.items())
            raise RunError(
                f"{name} is a checkpoint of another model: its config.json has {entry}={seen!r}, that of the run "
                f"{expected!r}; leave it out, or open it as a run of its own"
            )

    def __str__(self) -> str:
        """The model class that the `config.json` names."""
        classes = self.config.get("architectures")
        return str(classes[0] if isinstance(classes, list) and classes else self.config.get("model_type"))


def read_config(folder: Path, root: Path) -> dict[str, Any]:
    """Return the contents of a `config.json`. Raises RunError if it cannot be read or names no model."""
    config = read_json(folder / "config.json", root)
    if not {"architectures", "model_type"} & config.keys():
        raise RunError(f"{folder / 'config.json'} names no model: it has neither architectures nor model_type")
    return config


def model_fingerprint(config: Mapping[str, Any]) -> str:
    """Return a fingerprint that the configurations of one model share over the course of a training."""
    return fingerprint(_without(_FOR_USE, config))


def _differences(own: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entries in which two configurations are of different models, with both values."""
    if different := _unequal(own, expected):
        from ..lens.from_config import with_defaults

        # Another version of transformers may have written the same under other names, or left defaults out.
        with contextlib.suppress(ModelError):
            return _unequal(with_defaults(own), with_defaults(expected))
    return different


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    one, other = _without(_FOR_USE, one), _without(_FOR_USE, other)
    return {
        name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    }


def _without(names: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not re.fullmatch(names, name)}
