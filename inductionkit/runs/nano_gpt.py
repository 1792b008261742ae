"""GPT-2 as nanoGPT trains it, opened as the GPT-2 of Hugging Face: what its files say of the model, and its weights."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .architecture import fingerprint
from .converting import OWN_ARCHITECTURE

EXACT_GELU, TANH_GELU = "gelu", "gelu_new"
END_OF_TEXT = 50256  # of GPT-2's vocabulary; it precedes each document
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_MODEL_ARGS = {*_SIZES, "bias", "dropout"}
_NORMS = ("ln_1", "ln_2")
_LINEAR = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")  # Hugging Face has their matrices transposed
_UNEMBEDDING, _EMBEDDING, _POSITIONS = "lm_head.weight", "transformer.wte.weight", "transformer.wpe.weight"


@dataclass(frozen=True)
class GPT2Architecture:
    """GPT-2, by the contents of the `config.json` that Hugging Face would write for it."""

    config: Mapping[str, Any] = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.from_config import shape_of

        with self._folder() as folder:
            return shape_of(folder)

    @property
    def description(self) -> str:
        return fingerprint({"Hugging Face model": self.config})

    def build(self) -> Any:
        from ..lens.from_config import standing_bridge

        with self._folder() as folder:
            return standing_bridge(folder)

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def refuse_other(self, config: Mapping[str, Any] | None, name: object) -> None:
        """Raise RunError if the checkpoint `name` has another `config` than this one, or none."""
        if config is None:
            raise RunError(f"{name} has no model_args, as the run's other files have; leave it out")
        for entry, value in self.config.items():
            if config[entry] != value:
                raise RunError(
                    f"{name} is a checkpoint of another model: it has {entry}={config[entry]!r}, the run {value!r}; "
                    f"leave it out, or open it as a run of its own"
                )

    def __str__(self) -> str:
        return "GPT-2"

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(self.config), encoding="utf-8")
            yield folder


def gpt2_config(sizes: Mapping[str, int], activation: str) -> dict[str, Any]:
    """Return the contents of a `config.json` for GPT-2 of these `sizes`, by nanoGPT's names for them."""
    end_of_text = END_OF_TEXT if sizes["vocab_size"] > END_OF_TEXT else None
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **{name: sizes[name] for name in _SIZES if name != "block_size"},
        "n_positions": sizes["block_size"],
        "activation_function": activation,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


def nano_gpt_config(model_args: Mapping[str, Any], weights: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint by its `model_args` and the shapes of its `weights`.

    Raises RunError if they are not of nanoGPT's GPT-2: its descendants add what GPT-2 does not have.
    """
    if unknown := sorted(model_args.keys() - _MODEL_ARGS):
        raise _not_gpt2(path, f"its model_args have {', '.join(f'{name}={model_args[name]!r}' for name in unknown)}")
    sizes: dict[str, Any] = {name: model_args.get(name) for name in _SIZES}
    if not all(isinstance(size, int) and size > 0 for size in sizes.values()) or sizes["n_embd"] % sizes["n_head"]:
        raise RunError(f"{path} has model_args of no GPT-2: {sizes}; copy it again")
    names = {name for name in weights if not name.endswith(".attn.bias") and name != _UNEMBEDDING}  # masks, and a copy
    expected = _names(min(sizes["n_layer"], len(names)), model_args.get("bias", True))
    if names != expected:
        raise _not_gpt2(path, f"it lacks {_some(expected - names)} and has {_some(names - expected)}")
    for name, rows in ((_EMBEDDING, sizes["vocab_size"]), (_POSITIONS, sizes["block_size"])):
        if tuple(weights[name].shape) != (rows, sizes["n_embd"]):
            raise _not_gpt2(path, f"its {name} is {tuple(weights[name].shape)}, by its model_args {sizes}")
    return gpt2_config(sizes, EXACT_GELU)


def as_hugging_face(weights: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return nanoGPT's weights as Hugging Face's GPT-2 has them: matrices transposed, biases that are left out zero.

    Raises RunError if the unembedding is not the embedding.
    """
    unembedding = weights.get(_UNEMBEDDING)
    if unembedding is not None and not _same(unembedding, weights[_EMBEDDING]):
        raise _not_gpt2(path, f"its {_UNEMBEDDING} is not its {_EMBEDDING}")
    converted: dict[str, Any] = {}
    for name, weight in weights.items():
        part, _, kind = name.rpartition(".")
        if name == _UNEMBEDDING or name.endswith(".attn.bias"):
            continue
        converted[name] = weight.T if kind == "weight" and part.endswith(_LINEAR) else weight
        if kind == "weight" and name not in (_EMBEDDING, _POSITIONS):
            converted.setdefault(f"{part}.bias", np.zeros(len(weight), np.float32))
    return converted


def _same(one: Any, other: Any) -> bool:
    """Return whether two arrays hold the same numbers; NaN, as of a training that diverged, is the same as NaN."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _names(n_layers: int, has_biases: bool) -> set[str]:
    """Return the names of nanoGPT's parameters."""
    parts = [f"transformer.h.{layer}.{part}" for layer in range(n_layers) for part in (*_NORMS, *_LINEAR)]
    parts.append("transformer.ln_f")
    kinds = ("weight", "bias") if has_biases else ("weight",)
    return {_EMBEDDING, _POSITIONS, *(f"{part}.{kind}" for part in parts for kind in kinds)}


def _some(names: set[str]) -> str:
    more = len(names) - 2
    return ", ".join(sorted(names)[:2]) + (f" and {more} more" if more > 0 else "") if names else "nothing else"


def _not_gpt2(path: Path, seen: str) -> RunError:
    return RunError(f"{path} is not nanoGPT's GPT-2: {seen}. How to open other models: {OWN_ARCHITECTURE}")
