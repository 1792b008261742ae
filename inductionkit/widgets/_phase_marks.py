"""The phase window as the charts draw it: the window, the intervals of its ends, and the loss bump's chord."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..phase import PhaseChange, PhaseCriteria

Pair = tuple[float, float]


@runtime_checkable
class HasWindow(Protocol):
    """What has a window in tokens, such as what `find_phase_change` returns."""

    @property
    def start_tokens(self) -> float | None: ...

    @property
    def end_tokens(self) -> float | None: ...


WindowLike = HasWindow | Sequence[float] | None


def window_tokens(window: WindowLike) -> Pair | None:
    """(start, end) of a window in tokens: None, a pair, or whatever has `start_tokens` and `end_tokens`."""
    if window is None:
        return None
    pair: Any = (window.start_tokens, window.end_tokens) if isinstance(window, HasWindow) else window
    try:
        start, end = pair
        if start is None and end is None:
            return None
        start, end = float(start), float(end)
    except (TypeError, ValueError):
        raise HistoryError(
            f"window={window!r} is no window; give (start_tokens, end_tokens) or what find_phase_change returns"
        ) from None
    if not (0 <= start < end < np.inf):
        raise HistoryError(f"window=({start:g}, {end:g}) must hold finite tokens with 0 <= start < end")
    return start, end


def as_phase(window: WindowLike) -> PhaseChange | None:
    """A window as the figures take it; a pair of tokens is a phase change of which nothing more is known."""
    if isinstance(window, PhaseChange):
        return window
    tokens = window_tokens(window)
    if tokens is None:
        return None
    return PhaseChange(True, (), PhaseCriteria(), start_tokens=tokens[0], end_tokens=tokens[1])


def window_header(history: xr.Dataset, window: WindowLike) -> dict[str, object]:
    """`window` in tokens; `intervals` of its start and end; `bump`: the ends of its chord (tokens, loss), and nats."""
    tokens, phase = window_tokens(window), as_phase(window)
    header: dict[str, object] = {"window": list(tokens) if tokens else None, "intervals": None, "bump": None}
    if phase is None:
        return header
    if phase.start_interval and phase.end_interval:
        header["intervals"] = [list(phase.start_interval), list(phase.end_interval)]
    measured = "loss" in history and "tokens_seen" in history.coords
    if measured and phase.bump_tokens and phase.bump_nats >= phase.criteria.min_bump:
        at, loss = history["tokens_seen"].values.astype(float), history["loss"].values.astype(float)
        known = (at > 0) & np.isfinite(loss)
        ends = np.interp(np.log(phase.bump_tokens), np.log(at[known]), loss[known])
        header["bump"] = {"ends": [list(end) for end in zip(phase.bump_tokens, ends.tolist())], "nats": phase.bump_nats}
    return header
