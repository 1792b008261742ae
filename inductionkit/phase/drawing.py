"""The part of a phase change that widgets and figures draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..errors import HistoryError
from .change import PhaseChange
from .clock import clock_of, elapsed
from .criteria import PhaseCriteria
from .markers import Window
from .verdict import verdict

PhaseLike = PhaseChange | Sequence[float] | None


def phase_to_draw(history: xr.Dataset, phase: PhaseLike) -> PhaseChange | None:
    """Return the phase change to draw over `history`; None if `phase` is None or was not found.

    A pair (start, end), in the history's clock, becomes a phase change of which only the window is known. Raises
    HistoryError if `phase` is neither, or has another clock than the history.
    """
    if phase is None or (isinstance(phase, PhaseChange) and not phase):
        return None
    clock = clock_of(history)
    if isinstance(phase, PhaseChange):
        if phase.clock != clock:
            raise HistoryError(
                f"phase is counted in {phase.clock}, but this history in {clock}; "
                f"pass what find_phase_change returns for this history"
            )
        return phase
    try:
        start, end = map(float, phase)
    except (TypeError, ValueError):
        raise HistoryError(
            f"phase={phase!r} is not a phase change; pass what find_phase_change returns, or (start, end) in {clock}"
        ) from None
    if not 0 <= start < end < np.inf:
        raise HistoryError(f"phase=({start:g}, {end:g}) must be finite {clock} with 0 <= start < end")
    return PhaseChange(True, (), PhaseCriteria(), clock, start, end)


def verdict_on(history: xr.Dataset, phase: PhaseLike) -> str:
    """Return the sentence that states what `phase` found in `history`, whether or not it is drawn.

    Raises HistoryError as `phase_to_draw` does.
    """
    return verdict(phase if isinstance(phase, PhaseChange) else phase_to_draw(history, phase))


def bump_chord(history: xr.Dataset, phase: PhaseChange | None) -> tuple[Window, tuple[float, float]] | None:
    """Return where the convex envelope spans the bump: both ends in elapsed training, and the losses there, in nats."""
    if phase is None or phase.bump_window is None or phase.bump_nats < phase.criteria.min_bump:
        return None
    seen, loss = elapsed(history), history["loss"].values.astype(float)
    known = (seen > 0) & np.isfinite(loss)
    left, right = np.interp(np.log(phase.bump_window), np.log(seen[known]), loss[known]).tolist()
    return phase.bump_window, (left, right)
