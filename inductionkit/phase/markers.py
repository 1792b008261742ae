"""The four markers of a phase change, each with a window of its own or the reason why it has none."""

from __future__ import annotations

import dataclasses

import numpy as np

from .bump import bumps
from .criteria import PhaseCriteria
from .curves import Curves
from .pivot import pivots
from .rise import Rise, rises

Window = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Marker:
    """One sign of a phase change, by `name`, looked for on its own.

    `window`: from when to when it happens, on the history's clock; None where it does not, or was not measured
    (`measured`), for the `reason` given. `size`: by how much, in `units`. `others`: windows of smaller changes of the
    same kind. `start_interval`, `end_interval`: of the window's two ends by resampling, None where there is none.
    """

    name: str
    units: str
    window: Window | None = None
    size: float = float("nan")
    others: tuple[Window, ...] = ()
    reason: str = ""
    measured: bool = True
    start_interval: Window | None = None
    end_interval: Window | None = None


UNITS = {"bump": "nats", "icl_score": "nats", "prefix_matching": "1", "token_loss_pivot": "1"}


def find_rises(curves: Curves, criteria: PhaseCriteria) -> dict[str, list[Rise] | None]:
    """Every change of each marker, gradual ones too, the largest first; None for a marker that was not measured."""
    x = curves.log_elapsed
    found: dict[str, list[Rise] | None] = dict.fromkeys(UNITS)
    if enough(curves.loss):
        found_bumps = bumps(x, curves.loss, criteria, curves.untrained_loss)
        found["bump"] = [bump.fall for bump in found_bumps if bump.nats >= criteria.min_bump]
    if enough(curves.learning):
        found["icl_score"] = rises(x, curves.learning, criteria.min_icl_gain, criteria)
    if enough(curves.prefix_matching):
        found["prefix_matching"] = rises(x, curves.prefix_matching, criteria.min_rise, criteria)
    if curves.path is not None and enough(curves.path[:, 0]):
        found["token_loss_pivot"] = pivots(x, curves.path, criteria)
    return found


def from_log(window: Window) -> Window:
    """A window in the log of elapsed training as one in elapsed training."""
    return float(np.exp(window[0])), float(np.exp(window[1]))


def in_log(window: Window) -> Window:
    """A window in elapsed training as one in its log."""
    return float(np.log(window[0])), float(np.log(window[1]))


def enough(series: np.ndarray) -> bool:
    return int(np.isfinite(series).sum()) >= 3


def abrupt(found: list[Rise] | None, criteria: PhaseCriteria) -> list[Rise]:
    """The changes among those found that are no gradual growth, as far as the checkpoints can tell."""
    return [rise for rise in found or () if rise.seen_ratio <= criteria.max_ratio]


def marker(name: str, found: list[Rise] | None, criteria: PhaseCriteria) -> Marker:
    """The marker of that name: its largest abrupt change, with the smaller ones beside it."""
    units = UNITS[name]
    if found is None:
        return Marker(name, units, measured=False, reason="measured at fewer than 3 checkpoints after the first")
    kept = abrupt(found, criteria)
    if kept:
        first, *others = (from_log(rise[:2]) for rise in kept)
        return Marker(name, units, first, kept[0].size, tuple(others))
    return Marker(name, units, reason=_why_none(name, found, criteria))


def _why_none(name: str, found: list[Rise], criteria: PhaseCriteria) -> str:
    if found:
        return (
            f"{_CHANGES[name]} by {found[0].size:.2f}, but while elapsed training grows "
            f"{found[0].seen_ratio:.0f} times: gradual growth"
        )
    return {
        "bump": f"the loss is convex (nowhere {criteria.min_bump} nats above its convex envelope)",
        "icl_score": f"the in-context-learning score nowhere improves by {criteria.min_icl_gain} nats",
        "prefix_matching": f"no head's prefix matching rises by {criteria.min_rise}",
        "token_loss_pivot": f"per-token losses go on along their line (off by less than {criteria.min_pivot})",
    }[name]


_CHANGES = {
    "bump": "the loss comes back to its convex envelope",
    "icl_score": "the in-context-learning score improves",
    "prefix_matching": "the best head's prefix matching rises",
    "token_loss_pivot": "the per-token losses leave their line",
}
