"""The one window of a phase change, and what happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import xarray as xr

from .bump import bumps
from .criteria import PhaseCriteria
from .curves import Curves, values
from .markers import Window, abrupt, from_log
from .rise import Rise, Series, rises


class BumpAround(TypedDict, total=False):
    """What `PhaseChange` says of the bump; nothing where there is none."""

    bump_window: Window
    bump_nats: float


class IclAround(TypedDict, total=False):
    """What `PhaseChange` says of the in-context-learning score; nothing where it was not measured."""

    icl_before: float
    icl_after: float
    icl_gain_inside: float
    icl_gain_outside: float


def window_of(seen: Curves, found: dict[str, list[Rise] | None], criteria: PhaseCriteria) -> Window | None:
    """The window, in logs: heads forming, and in-context learning that goes on after (step 2 of the rule)."""
    forming = abrupt(found["prefix_matching"], criteria)
    if not forming:
        return None
    start, end, *_ = forming[0]
    for learning in abrupt(found["icl_score"], criteria):
        if learning.start <= end < learning.end and _measured_between(seen, seen.icl_score, end, learning.end):
            return start, learning.end
    return start, end


def bump_around(seen: Curves, window: Window | None, criteria: PhaseCriteria) -> BumpAround:
    """The highest bump whose stretch overlaps the window, or else the highest anywhere."""
    everywhere = bumps(seen.log_elapsed, seen.loss, criteria, seen.untrained_loss)
    around = [bump for bump in everywhere if window and bump.left <= window[1] and bump.right >= window[0]]
    for bump in (around or everywhere)[:1]:
        return {"bump_window": from_log((bump.left, bump.right)), "bump_nats": bump.nats}
    return {}


def icl_around(seen: Curves, window: Window) -> IclAround:
    """The in-context-learning score just before and after the window, its gain between them and over the rest."""
    known = np.isfinite(seen.icl_score)
    if not known.any():
        return {}
    x, icl = seen.log_elapsed[known], seen.icl_score[known]
    before = icl[max(int(np.searchsorted(x, window[0], side="right")) - 1, 0)]
    after = icl[min(int(np.searchsorted(x, window[1])), len(x) - 1)]
    return {
        "icl_before": float(before),
        "icl_after": float(after),
        "icl_gain_inside": float(before - after),
        "icl_gain_outside": float(icl[0] - before + after - icl[-1]),
    }


def heads_in(
    history: xr.Dataset, log_elapsed: Series, window: Window, criteria: PhaseCriteria
) -> tuple[tuple[int, int], ...]:
    """The (layer, head) whose own prefix matching is higher by `min_rise` at the window's end than at its start."""
    return tuple(
        head
        for head, series in _heads(history)
        if np.isfinite(series).any()
        and at(log_elapsed, series, window[1]) - at(log_elapsed, series, window[0]) >= criteria.min_rise
    )


def head_windows(history: xr.Dataset, log_elapsed: Series, criteria: PhaseCriteria) -> dict[tuple[int, int], Window]:
    """From when to when, on the history's clock, each head's own prefix matching rises; only heads that rise."""
    found = {
        head: abrupt(rises(log_elapsed, series, criteria.min_rise, criteria), criteria)
        for head, series in _heads(history)
    }
    return {head: from_log(changes[0][:2]) for head, changes in found.items() if changes}


def at(log_elapsed: Series, series: Series, when: float) -> float:
    """A series between the checkpoints at which it was measured."""
    known = np.isfinite(series)
    return float(np.interp(when, log_elapsed[known], series[known]))


def _heads(history: xr.Dataset) -> Iterator[tuple[tuple[int, int], Series]]:
    per_head = values(history, "prefix_matching")
    for i, layer in enumerate(history["layer"].values):
        for j, head in enumerate(history["head"].values):
            yield (int(layer), int(head)), per_head[:, i, j]


def _measured_between(seen: Curves, series: Series, start: float, end: float) -> bool:
    return bool(np.isfinite(series[(seen.log_elapsed > start) & (seen.log_elapsed < end)]).any())
