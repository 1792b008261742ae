"""How uncertain a window is: the same rule on resampled examples and heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from .criteria import PhaseCriteria
from .curves import Curves, best, smoothed, values
from .markers import Marker, Window, abrupt, find_rises, from_log, in_log
from .pivot import resampled_paths
from .rise import rises
from .window import window_of

COVERAGE = 0.9
MIN_EXAMPLES = 8  # fewer say too little about others of their kind


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Intervals of the window's ends and of the markers', on the history's clock, or `note`: why there are none."""

    start: Window | None = None
    end: Window | None = None
    found_share: float = float("nan")
    n_resamples: int = 0
    markers: dict[str, Marker] = dataclasses.field(default_factory=dict)
    note: str = ""


def uncertainty(
    history: xr.Dataset,
    seen: Curves,
    window: Window,
    markers: dict[str, Marker],
    criteria: PhaseCriteria,
    n_resamples: int,
    seed: int,
) -> Uncertainty:
    """The rule on `n_resamples` resamples (step 4 of the rule)."""
    note = _why_not(history) if n_resamples else "no interval: n_resamples is 0"
    if note:
        return Uncertainty(markers=markers, note=note)
    windows: list[Window] = []
    by_marker: dict[str, list[Window]] = {name: [] for name in markers}
    for curves in _resampled(history, seen, criteria, n_resamples, seed):
        found = find_rises(curves, criteria)
        again = window_of(curves, found, criteria)
        windows += [] if again is None else [again]
        for name, changes in found.items():
            by_marker[name] += [change[:2] for change in abrupt(changes, criteria)[:1]]
    start, end = _intervals(window, windows, n_resamples)
    with_intervals = {}
    for name, one in markers.items():
        ends = _intervals(in_log(one.window), by_marker[name], n_resamples) if one.window else (None, None)
        with_intervals[name] = dataclasses.replace(one, start_interval=ends[0], end_interval=ends[1])
    note = "" if start else "no interval: fewer than half of the resamples show a window"
    return Uncertainty(start, end, len(windows) / n_resamples, n_resamples, with_intervals, note)


def _why_not(history: xr.Dataset) -> str:
    if "example_icl_score" not in history or "example_loss" not in history:
        return "no interval: the history has no losses of single examples; scan the run again"
    if history.sizes["example"] < MIN_EXAMPLES:
        return f"no interval: {history.sizes['example']} examples are fewer than {MIN_EXAMPLES}"
    return ""


def _resampled(
    history: xr.Dataset, seen: Curves, criteria: PhaseCriteria, n_resamples: int, seed: int
) -> Iterator[Curves]:
    """The curves anew from as many examples and heads as there are, drawn with replacement.

    Held-out examples give the loss, the in-context-learning score and the per-token losses, these on the principal
    components of all of them. Of the heads only those that form are drawn: a draw without any would ask another
    question, whether heads form at all.
    """
    rng = np.random.default_rng(seed)
    n_examples = history.sizes["example"]
    counts = rng.multinomial(n_examples, np.full(n_examples, 1 / n_examples), n_resamples)
    loss = counts @ values(history, "example_loss").T / n_examples
    learning = smoothed(seen.log_elapsed, -counts @ values(history, "example_icl_score").T / n_examples)
    heads = values(history, "prefix_matching").reshape(history.sizes["step"], -1)
    forms = np.array([bool(rises(seen.log_elapsed, series, criteria.min_rise, criteria)) for series in heads.T])
    forming, others = heads[:, forms], best(heads[:, ~forms])
    drawn = rng.choice(max(1, forming.shape[1]), (n_resamples, forming.shape[1]))
    paths: Sequence[np.ndarray | None] | np.ndarray = [None] * n_resamples
    if seen.path is not None and np.isfinite(seen.path).any() and "sample_example" in history.coords:
        paths = resampled_paths(
            values(history, "token_loss"), seen.path, counts[:, history["sample_example"].values.astype(int)]
        )
    for i in range(n_resamples):
        yield dataclasses.replace(
            seen,
            loss=loss[i],
            learning=learning[i],
            prefix_matching=np.fmax(best(forming[:, drawn[i]]), others),
            path=paths[i],
        )


def _intervals(window: Window, draws: list[Window], n_resamples: int) -> tuple[Window | None, Window | None]:
    """Where start and end of a window (in logs) lie, on the history's clock, with `COVERAGE`: the symmetric bootstrap.

    Noise makes a rise look larger, once in the history and once more in each draw, so that the draws all lie on one
    side; how far they are off tells how far off the window may be, on either side. None with fewer than half of them.
    """
    if len(draws) < n_resamples / 2:
        return None, None
    off = np.quantile(abs(np.array(draws) - window), COVERAGE, axis=0)
    start, end = (from_log((at - by, at + by)) for at, by in zip(window, off))
    return start, end
