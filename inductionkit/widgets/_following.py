"""An explorer that keeps up with a store which another process fills."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import xarray as xr

from ..errors import HistoryError
from ..history import history_steps, open_history


class Observable(Protocol):
    """A source that tells of each longer history, such as a `TrainingWatch`."""

    def observe(self, observer: Callable[[xr.Dataset], None]) -> None: ...


class Follower(Protocol):
    """A widget that shows a history, such as a `PhaseExplorer`."""

    history: xr.Dataset
    comm: object


def follow_store(explorer: Follower, store: str | Path, seconds: float) -> None:
    """Show what a store holds, now and again and again in a thread; it ends when the explorer is gone or closed."""
    explorer.history = open_history(store)
    thread = threading.Thread(target=_keep_up, args=(weakref.ref(explorer), store, seconds), daemon=True)
    thread.start()


def _keep_up(reference: weakref.ref[Follower], store: str | Path, seconds: float) -> None:
    pause = threading.Event()
    while not pause.wait(seconds):
        explorer = reference()
        if explorer is None or explorer.comm is None:
            return
        try:
            if history_steps(store) != explorer.history["step"].values.tolist():
                explorer.history = open_history(store)
        except HistoryError:  # caught in the middle of a write: the next look will do
            continue
        del explorer
