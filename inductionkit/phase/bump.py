"""The bump: where the loss, against the log of elapsed training, is not convex."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .criteria import PhaseCriteria
from .rise import Rise, Series, rise_window

TOUCHING = 1e-9  # nats; the envelope passes through some of the points up to rounding


class Bump(NamedTuple):
    """A stretch (log of elapsed training) over which the loss lies above its convex envelope, and by how much at most.

    `fall`: the window in which the loss comes back down to the envelope.
    """

    left: float
    right: float
    nats: float
    fall: Rise


def bumps(
    log_elapsed: Series, loss: Series, criteria: PhaseCriteria = PhaseCriteria(), untrained_loss: float | None = None
) -> list[Bump]:
    """Every stretch in which the loss leaves its lower convex envelope, the highest first; missing values left out.

    The beginning is left out (`past_beginning`). Training that improves ever more slowly in the log of elapsed
    training has a convex loss and no bump.

    >>> [bump] = bumps(np.arange(6.0), np.array([9, 4, 3, 2.5, 1, 0.75]))
    >>> bump.left, bump.right, round(bump.nats, 3)
    (2.0, 4.0, 0.5)
    """
    known = np.flatnonzero(np.isfinite(loss))
    known = known[past_beginning(loss[known], untrained_loss) :]
    x, y = log_elapsed[known], loss[known]
    above = y - convex_envelope(x, y)
    touching = np.flatnonzero(above <= TOUCHING)
    found = []
    for left, right in pairwise(touching):
        if right - left < 2:
            continue
        peak = left + int(np.argmax(above[left:right]))
        falling = slice(peak, right + 1)
        window = rise_window(x[falling], -above[falling], criteria)
        nats = float(above[peak])
        found.append(Bump(float(x[left]), float(x[right]), nats, Rise.seen(x, *window, nats)))
    return sorted(found, key=lambda bump: -bump.nats)


def past_beginning(loss: Series, untrained_loss: float | None = None) -> int:
    """The first checkpoint by which the loss has made half of its whole fall: every curve starts flat on a log axis.

    The fall is from `untrained_loss`, where that was measured: the first checkpoint after may lie well down already.
    """
    if not len(loss):
        return 0
    highest = loss[0] if untrained_loss is None else untrained_loss
    return int(np.argmax(loss <= (highest + loss.min()) / 2))


def convex_envelope(x: Series, y: Series) -> Series:
    """The largest convex function that stays below the points (x, y), at each x (x increasing)."""
    points = list(zip(x.tolist(), y.tolist()))  # plain numbers: a loop over NumPy's takes five times as long
    hull: list[int] = []
    for i, point in enumerate(points):
        while len(hull) > 1 and _turns_down(points[hull[-2]], points[hull[-1]], point):
            hull.pop()
        hull.append(i)
    return np.interp(x, x[hull], y[hull]) if hull else y


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the straight line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
