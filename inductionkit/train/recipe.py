"""What a training run is made of, as data: model, corpus, optimisers, length, checkpoints.

A recipe is a TOML file whose tables are the classes below; every key has a default but
`model.n_layers`. `base = "NAME"` takes over another recipe and changes what the file says. A file
with `[runs.NAME]` tables is a table of recipes: each run changes what it says of the rest of the file.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RecipeError
from ..system.real_numbers import real_number, real_numbers
from ..system.whole_numbers import whole_number, whole_numbers
from .model import ModelConfig

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class CorpusSpec:
    """Where the text comes from.

    `python`: the standard library's source and that of `packages`; `packages`: the files of `packages` that match
    `patterns`; `folder` and `hugging_face`: those that `path` names. `n_held_out` tokens of it are not trained on;
    `seed` sets the order of the documents, and so which ones these are.
    """

    source: str = "python"
    packages: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ("*.py",)
    path: str = ""
    n_held_out: int = 1_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number(self.n_held_out, "corpus.n_held_out", 1, RecipeError)
        whole_number(self.seed, "corpus.seed", 0, RecipeError)


@dataclass(frozen=True)
class OptimiserSpec:
    """Muon on the attention matrices (none at `muon_lr=0`), AdamW on all other parameters.

    The learning rates rise linearly over `warmup_steps` and fall to zero over the last `decay_fraction`
    of the run, along a line or half a cosine (`decay`). `muon_momentum` is Muon's; `adamw_lr` and `adamw_betas` are
    AdamW's; `weight_decay` is that of both. Gradients longer than `max_gradient_norm` are shortened to it.
    """

    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    adamw_lr: float = 3e-3
    adamw_betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    warmup_steps: int = 200
    decay_fraction: float = 0.2
    decay: str = "linear"

    def __post_init__(self) -> None:
        if self.decay not in ("linear", "cosine"):
            raise RecipeError(f"optimiser.decay={self.decay!r} must be linear or cosine")
        for name in ("muon_lr", "adamw_lr", "weight_decay"):
            real_number(getattr(self, name), f"optimiser.{name}", "[0, inf)", RecipeError)
        real_number(self.muon_momentum, "optimiser.muon_momentum", "[0, 1)", RecipeError)
        if real_numbers(self.adamw_betas, "optimiser.adamw_betas", "[0, 1)", RecipeError).shape != (2,):
            raise RecipeError(f"optimiser.adamw_betas={self.adamw_betas!r} must be two numbers")
        real_number(self.max_gradient_norm, "optimiser.max_gradient_norm", "(0, inf]", RecipeError)
        whole_number(self.warmup_steps, "optimiser.warmup_steps", 0, RecipeError)
        real_number(self.decay_fraction, "optimiser.decay_fraction", "[0, 1]", RecipeError)


@dataclass(frozen=True)
class CheckpointSpec:
    """`n_log` checkpoints evenly in log tokens from `first` on, and `n_dense` evenly within `dense` (tokens)."""

    first: int = 50_000
    n_log: int = 24
    dense: tuple[int, int] = (0, 0)
    n_dense: int = 0

    def __post_init__(self) -> None:
        for name, least in (("first", 1), ("n_log", 0), ("n_dense", 0)):
            whole_number(getattr(self, name), f"checkpoints.{name}", least, RecipeError)
        if whole_numbers(self.dense, "checkpoints.dense", 0, RecipeError).shape != (2,):
            raise RecipeError(f"checkpoints.dense={self.dense!r} must be two numbers of tokens, from and to")

    def steps(self, n_steps: int, tokens_per_step: int) -> list[int]:
        """Optimiser steps after which a checkpoint is saved; 0 (before training) and the last, `n_steps`, among them.

        Tokens become steps by `tokens_per_step`.
        """
        tokens = [*np.geomspace(min(self.first, n_steps * tokens_per_step), n_steps * tokens_per_step, self.n_log)]
        tokens += [*np.linspace(*self.dense, self.n_dense)]
        steps = {min(n_steps, max(1, round(n / tokens_per_step))) for n in tokens}
        return sorted(steps | {0, n_steps})


@dataclass(frozen=True)
class Recipe:
    """One training run by `name`: `model`, `corpus`, `optimiser` and `checkpoints`, each as its class says.

    `n_tokens` counts predicted tokens, `batch_size` the contexts of a step; `seed` sets weights and the order of the
    data.
    """

    name: str
    model: ModelConfig
    corpus: CorpusSpec = field(default_factory=CorpusSpec)
    optimiser: OptimiserSpec = field(default_factory=OptimiserSpec)
    checkpoints: CheckpointSpec = field(default_factory=CheckpointSpec)
    n_tokens: int = 25_000_000
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n_tokens", 1), ("batch_size", 1), ("seed", 0)):
            whole_number(getattr(self, name), name, least, RecipeError)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step sees, batch size times context."""
        return self.batch_size * self.model.n_ctx

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return max(1, self.n_tokens // self.tokens_per_step)

    def as_dict(self) -> dict[str, Any]:
        """The recipe as nested dictionaries, as a TOML file would hold it."""
        return dataclasses.asdict(self)


def builtin_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """One recipe: `name_or_path` is the name of a built-in one or the path of a TOML file.

    Raises RecipeError if there is none, it is not valid, or it is a table of several.
    """
    recipes = load_recipes(name_or_path)
    if len(recipes) != 1:
        names = ", ".join(recipe.name for recipe in recipes)
        raise RecipeError(f"{name_or_path} is a table of {len(recipes)} recipes ({names}): use load_recipes")
    return recipes[0]


def load_recipes(name_or_path: str | Path) -> list[Recipe]:
    """All recipes of a table, in its order, or the only one that a plain recipe file holds.

    `name_or_path` is as in `load_recipe`. Raises RecipeError if there is none, or it is not valid.
    """
    name, table = _read(str(name_or_path))
    runs = table.pop("runs", {name: {}})
    if not isinstance(runs, dict) or not runs or not all(isinstance(run, dict) for run in runs.values()):
        raise RecipeError(f"recipe {name_or_path}: runs must be tables [runs.NAME], one or more")
    return [_build(Recipe, {**_merged(table, run), "name": run_name}, "recipe") for run_name, run in runs.items()]


def _folder() -> Traversable:
    return files("inductionkit.train") / "recipes"


def _read(name_or_path: str) -> tuple[str, dict[str, Any]]:
    if name_or_path in builtin_recipes():
        name, text = name_or_path, (_folder() / f"{name_or_path}.toml").read_text(encoding="utf-8")
    elif Path(name_or_path).is_file():
        name, text = Path(name_or_path).stem, Path(name_or_path).read_text(encoding="utf-8")
    else:
        raise RecipeError(
            f"there is no recipe {name_or_path!r}: neither a file nor one of {', '.join(builtin_recipes())}"
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name_or_path} is not valid TOML: {error}") from None
    if (base := table.pop("base", None)) is not None:
        if base not in builtin_recipes():
            raise RecipeError(f"base = {base!r} is not one of {', '.join(builtin_recipes())}")
        table = _merged(_read(base)[1], table)
    return name, table


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return under | {
        key: _merged(under[key], value) if isinstance(value, dict) and key in under else value
        for key, value in over.items()
    }


def _build(cls: type, table: dict[str, Any], where: str) -> Any:
    """A dataclass from a table of the same shape, refusing unknown keys and values of another type."""
    kinds = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(table) - set(kinds)):
        raise RecipeError(f"{where} has no {', '.join(unknown)}; it has {', '.join(kinds)}")
    nested = {"model": ModelConfig, "corpus": CorpusSpec, "optimiser": OptimiserSpec, "checkpoints": CheckpointSpec}
    values = {}
    for key, value in table.items():
        if key in nested and cls is Recipe:
            value = _build(nested[key], value, f"{where}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        default = kinds[key].default
        if isinstance(default, (int, float, str)) and not isinstance(value, (type(default), int)):
            raise RecipeError(f"{where}.{key} = {value!r} must be of type {type(default).__name__}")
        values[key] = value
    try:
        return cls(**values)
    except TypeError as error:
        raise RecipeError(f"{where} is incomplete: {error}") from None
