"""The clock of a history: the unit in which it counts how much training has elapsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError

Clock = Literal["tokens", "steps"]
COUNTED_IN: dict[Clock, tuple[str, str]] = {"tokens": ("tokens_seen", "log_tokens_seen"), "steps": ("step", "log_step")}
AXIS_TITLES: dict[Clock, str] = {"tokens": "training tokens seen", "steps": "optimiser steps"}


def clock_of(*histories: xr.Dataset) -> Clock:
    """Return "tokens" if `tokens_seen` is known at every checkpoint of the histories, otherwise "steps".

    The phase rule works on the logarithm of elapsed training, so steps serve as well as tokens where all batches have
    the same size.
    """
    known = (
        "tokens_seen" in history.coords and np.isfinite(history["tokens_seen"].values.astype(float)).all()
        for history in histories
    )
    return "tokens" if all(known) else "steps"


def elapsed(history: xr.Dataset, clock: Clock | None = None) -> Float[np.ndarray, " step"]:
    """Return how much training each checkpoint has seen, in `clock` or the history's own.

    Raises HistoryError if it does not increase from checkpoint to checkpoint.
    """
    clock = clock or clock_of(history)
    name, _ = COUNTED_IN[clock]
    seen = history[name].values.astype(float)
    if (np.diff(seen) <= 0).any():
        raise HistoryError(
            f"{name} must increase with the checkpoints; got {seen.tolist()}. Correct it"
            + (" or drop it to count training in steps" if clock == "tokens" else "")
        )
    return seen


def logged_at(history: xr.Dataset) -> Float[np.ndarray, " log"] | None:
    """Return how much training each logged loss has seen, in the history's clock; None if the log does not say."""
    _, name = COUNTED_IN[clock_of(history)]
    if name not in history.coords or not np.isfinite(history[name].values.astype(float)).any():
        return None
    return history[name].values.astype(float)


def on_one_clock(histories: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return the histories with the same clock: all without `tokens_seen` if any of them does not know its tokens."""
    if clock_of(*histories.values()) == "tokens":
        return dict(histories)
    return {name: history.drop_vars("tokens_seen", errors="ignore") for name, history in histories.items()}
