"""Runs that the user lists: steps, and functions that give the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RunError
from .architecture import GivenArchitecture
from .logs import read_log
from .run import Checkpoint, Run

Loader = Callable[[], Mapping[str, Any]]


def open_list(
    pairs: Iterable[tuple[int, Loader]],
    model: Any = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
) -> Run:
    """Open a list of (step, loader). A loader gives a state dict, under the names that `model` is saved with.

    `model` stands for all checkpoints; it is copied, and its own weights never change.
    """
    if model is None:
        raise RunError("a list of (step, loader) needs model=, a model of that shape for the weights to be loaded into")
    try:
        loaders = [(int(step), loader) for step, loader in pairs]
    except (TypeError, ValueError):
        raise RunError(f"a run is a folder, 'hf:…', 'tl:…' or a list of (step, loader); seen {pairs!r}") from None
    steps = [step for step, _ in loaders]
    if not steps or len(set(steps)) < len(steps):
        raise RunError(f"a list of (step, loader) needs different steps, and at least one; seen {steps}")
    architecture = GivenArchitecture(model)
    return Run(
        name=type(model).__name__,
        checkpoints=[
            Checkpoint(
                step,
                None if tokens_per_step is None else step * tokens_per_step,
                partial(_load, step, loader),
                architecture,
                f"step {step}",
            )
            for step, loader in sorted(loaders, key=lambda pair: pair[0])
        ],
        architecture=architecture,
        fingerprints={},
        log=list if log is None else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
    )


def _load(step: int, loader: Loader) -> Mapping[str, Any]:
    weights = loader()
    if not isinstance(weights, Mapping):
        raise RunError(f"the loader of step {step} gave a {type(weights).__name__}, not weights by name (a state dict)")
    return weights
