"""Passes through models, and what the libraries below raise in them."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InductionKitError, ModelError

_NAMELESS = ("", "native", "custom")  # what TransformerLens calls a model that was built from a configuration
_LONGEST_REASON = 200  # characters of another library's message


class Enough(Exception):
    """Raised from a hook to end a pass whose remaining part is not needed."""


class _Ours(Exception):
    """Carries an exception of this package or of the user's through the libraries below."""

    def __init__(self, error: Exception):
        self.error = error


def name_of(model: Any) -> str:
    """Return the name of a TransformerLens model's architecture, or of the model where that is unknown."""
    name: str = getattr(model.cfg, "architecture", None) or model.cfg.model_name or type(model).__name__
    return name


def label_of(model: Any) -> str:
    """Return a TransformerLens model's own name, of its folder, on the hub or in its run; else its architecture's."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    known: str = (model.cfg.model_name if config is None else getattr(config, "_name_or_path", "")) or ""
    if known in _NAMELESS:
        return name_of(model)
    return Path(known).name if Path(known).is_absolute() else known


def name_model(model: Any, name: str) -> None:
    """Give a model that was built here the name that `label_of` reads."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        model.cfg.model_name = name
    else:
        config._name_or_path = name


@contextlib.contextmanager
def running(model: Any) -> Iterator[None]:
    """Put a TransformerLens model in evaluation mode for a pass, then what was training back to training.

    Raises ModelError, with the name of the architecture, for whatever a library below raises.
    """
    # A bridge does not register all of the modules it wraps.
    roots = [root for root in (model, getattr(model, "original_model", None)) if root is not None]
    what = f"{name_of(model)} cannot be run by TransformerLens {transformer_lens_version()}"
    with evaluating(roots), explaining(what):
        yield


@contextlib.contextmanager
def evaluating(roots: Iterable[nn.Module]) -> Iterator[None]:
    """Put models in evaluation mode, then the modules that were training back to training."""
    training = {module for root in roots for module in root.modules() if module.training}
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Raise ModelError for any exception of another library: `what` failed, and the first sentence of the reason.

    What is raised in a hook, within `unexplained`, leaves as it is.
    """
    try:
        yield
    except (InductionKitError, Enough, MemoryError, torch.OutOfMemoryError):
        raise
    except _Ours as ours:
        raise ours.error from ours.error.__cause__
    except Exception as error:  # a foreign model may make the libraries fail anywhere
        first_sentence = str(error).strip().split("\n")[0].split(". ")[0][:_LONGEST_REASON]
        raise ModelError(f"{what}: {type(error).__name__}: {first_sentence}") from error


@contextlib.contextmanager
def unexplained() -> Iterator[None]:
    """Let exceptions of a hook's own code pass through `explaining`."""
    try:
        yield
    except Exception as error:
        raise _Ours(error) from error


def transformer_lens_version() -> str:
    return importlib.metadata.version("transformer-lens")


def detach_what_modules_keep(model: Any) -> None:
    """Cut what a bridge remembers, such as its last pattern, from the graph: it would keep the graph alive."""
    roots = [root for root in (model, getattr(model, "original_model", None)) if root is not None]
    for module in {module for root in roots for module in root.modules()}:
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()
