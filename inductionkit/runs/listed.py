"""Runs that the user lists: steps, and functions that return the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..system.process_state import private_random_numbers
from ..system.wrapper_names import without_wrapper_names
from .architecture import GivenArchitecture
from .logs import read_log
from .run import Checkpoint, Run
from .select import Wanted, choose_from

Loader = Callable[[], Mapping[str, Any]]


def open_list(
    pairs: Iterable[tuple[int, Loader]],
    model: Any = None,
    checkpoints: Wanted = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
) -> Run:
    """Open a list of (step, loader). A loader returns a state dict, with the names that `model` is saved with.

    Weights are loaded into a copy of `model`; its own never change. One loader runs at a time, and torch's global
    random numbers are restored after it, so a loader may seed them.
    """
    if model is None:
        raise RunError("a list of (step, loader) needs model=, a model of the shape that the weights are loaded into")
    try:
        loaders = [(int(step), loader) for step, loader in pairs]
    except (TypeError, ValueError):
        raise RunError(f"a run is a folder, 'hf:…', 'tl:…' or a list of (step, loader); got {pairs!r}") from None
    steps = [step for step, _ in loaders]
    if not steps or len(set(steps)) < len(steps):
        raise RunError(f"a list of (step, loader) needs at least one step, and each step once; got {steps}")
    architecture = GivenArchitecture(model)
    return Run(
        name=type(model).__name__,
        checkpoints=choose_from(
            [
                Checkpoint(
                    step,
                    None if tokens_per_step is None else step * tokens_per_step,
                    partial(_load, step, loader),
                    architecture,
                    f"step {step}",
                )
                for step, loader in sorted(loaders, key=lambda pair: pair[0])
            ],
            checkpoints,
        ),
        architecture=architecture,
        fingerprints={},
        log=list if log is None else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
    )


@private_random_numbers()
def _load(step: int, loader: Loader) -> Mapping[str, Any]:
    weights = loader()
    if not isinstance(weights, Mapping):
        raise RunError(f"the loader of step {step} returned a {type(weights).__name__}, not a state dict")
    return without_wrapper_names(weights)
