"""From where to where a series rises: the one rule by which every marker gets its window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .criteria import PhaseCriteria

Series = Float[np.ndarray, " step"]

# A plateau: half of the window or more, over which the series gains a tenth of its rise or less. A steady climb
# gains 0.35 of it over half of its window, the flank of a logistic one 0.3.
PLATEAU_LENGTH, PLATEAU_GAIN = 0.5, 0.1
GRID = np.linspace(0, 1, 201)


class Rise(NamedTuple):
    """A rise of a series: its window in the log of elapsed training, and by how much it rises from foot to top.

    `seen_ratio`: how many times over elapsed training grows between the first and the last checkpoint inside the
    window; 1 where the checkpoints are too sparse to see the rise under way.
    """

    start: float
    end: float
    size: float
    seen_ratio: float

    @classmethod
    def seen(cls, log_elapsed: Series, start: float, end: float, size: float) -> Rise:
        inside = log_elapsed[(log_elapsed >= start) & (log_elapsed <= end)]
        return cls(start, end, size, float(np.exp(np.ptp(inside))) if len(inside) else 1.0)


def rises(
    log_elapsed: Series, series: Series, min_rise: float, criteria: PhaseCriteria = PhaseCriteria()
) -> list[Rise]:
    """Every rise of a series by at least `min_rise`, the largest first; missing values are left out.

    The series rises from its least value before the maximum to the maximum, in the window that `rise_window` gives.
    Where half of that window passes with next to no gain the rise is split, before the plateau and after it. What
    lies before the foot and after the top is searched in the same way: heads that form, fade and form again rise twice.

    >>> two = rises(np.arange(7.0), np.array([0, 0, 1, 1, 1, 3, 3.0]), min_rise=0.5)
    >>> [(round(rise.start, 1), round(rise.end, 1), rise.size) for rise in two]
    [(4.1, 4.8, 2.0), (1.1, 1.8, 1.0)]
    """
    known = np.isfinite(series)
    pieces = [(log_elapsed[known], series[known])]
    found: list[Rise] = []
    while pieces:
        x, y = pieces.pop()
        if not len(y):
            continue
        top = int(np.argmax(y))
        foot = top - int(np.argmin(y[top::-1]))
        pieces.append((x[top + 1 :], y[top + 1 :]))
        if not y[top] - y[foot] >= min_rise:
            continue
        pieces.append((x[:foot], y[:foot]))
        x, y = x[foot : top + 1], y[foot : top + 1]
        start, end = rise_window(x, y, criteria)
        middle = _plateau(x, y, start, end)
        if middle is not None and max(y[middle] - y[0], y[-1] - y[middle]) >= min_rise:
            pieces += [(x[: middle + 1], y[: middle + 1]), (x[middle:], y[middle:])]
        else:
            found.append(Rise.seen(x, start, end, float(y[-1] - y[0])))
    return sorted(found, key=lambda rise: -rise.size)


def rise_window(log_elapsed: Series, series: Series, criteria: PhaseCriteria = PhaseCriteria()) -> tuple[float, float]:
    """From where to where (log of elapsed training) a series rises from its first, least value to its last, highest.

    `series` holds a value at each of `log_elapsed`; `onset` and `end` are those of `criteria`. From where it last
    passes `onset` of the rise before it reaches half of it, to where it first reaches `end` of it; linear
    interpolation between checkpoints.
    """
    low, rise = series[0], series[-1] - series[0]
    half = int(np.argmax(series >= low + 0.5 * rise))
    below = np.flatnonzero(series[:half] <= low + criteria.onset * rise)
    first = int(below[-1]) if len(below) else 0
    reached = half + int(np.argmax(series[half:] >= low + criteria.end * rise))
    start = _crossing(log_elapsed, series, first, low + criteria.onset * rise)
    return start, _crossing(log_elapsed, series, max(reached - 1, 0), low + criteria.end * rise)


def _plateau(x: Series, y: Series, start: float, end: float) -> int | None:
    """The checkpoint in the middle of the flattest half of the window, if that half is a plateau."""
    grid = start + (end - start) * GRID
    so_far = np.interp(grid, x, np.maximum.accumulate(y))
    half = round(PLATEAU_LENGTH * (len(GRID) - 1))
    gain = so_far[half:] - so_far[:-half]
    flattest = int(np.argmin(gain))
    if gain[flattest] > PLATEAU_GAIN * (y[-1] - y[0]):
        return None
    middle = int(np.argmin(abs(x - grid[flattest + half // 2])))
    return middle if 0 < middle < len(x) - 1 else None


def _crossing(x: Series, y: Series, i: int, level: float) -> float:
    """Where y passes `level` between points i and i + 1."""
    if i + 1 >= len(x) or y[i + 1] == y[i]:
        return float(x[i])
    return float(x[i] + (x[i + 1] - x[i]) * np.clip((level - y[i]) / (y[i + 1] - y[i]), 0, 1))
