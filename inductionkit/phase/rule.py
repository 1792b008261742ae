"""The rule: from a history to a phase change, or to the reasons why there is none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..history import PER_HEAD, validate
from ..system.whole_numbers import whole_number
from .bump import past_beginning
from .change import PhaseChange
from .clock import clock_of
from .co_occurrence import CoOccurrence, compare_windows
from .criteria import PhaseCriteria
from .curves import Curves, after_untrained, read_curves, untrained_loss
from .markers import Marker, find_rises, from_log, in_log, marker
from .resampling import uncertainty
from .window import bump_around, head_windows, heads_in, icl_around, window_of

REQUIRED = ("bump", "icl_score", "prefix_matching")  # markers that the verdict rests on, where they were measured


def find_phase_change(
    history: xr.Dataset, criteria: PhaseCriteria = PhaseCriteria(), *, n_resamples: int = 200, seed: int = 0
) -> PhaseChange:
    """The window in which induction heads form, and whether loss and in-context learning move with it.

    `criteria` hold every threshold named below. The rule works on the log of elapsed training, in tokens if
    `tokens_seen` is known at every checkpoint and otherwise in optimiser steps (the result's `clock`), with linear
    interpolation between checkpoints. A *rise* of a series goes from its least value before the maximum to the
    maximum; its window, from where it last passes `onset` of the rise before reaching half of it, to where it first
    reaches `end` of it. Where half of a window is a plateau there are two rises; before the foot and after the top of
    a rise there may be others.

    1. Markers, each looked for on its own and each with a window of its own, that of its largest change. One under way
       while elapsed training grows more than `max_ratio` times, as far as checkpoints show, is gradual, and left out.

       - *Prefix matching*: a rise of the best head's by `min_rise`.
       - *In-context learning*: a rise of `-icl_score`, averaged over the checkpoints near each (by a Gaussian of 0.1
         in that log), by `min_icl_gain`.
       - *Bump*: where the loss stands `min_bump` or more above its lower convex envelope (a loss curve of steady
         learning is convex), the window in which it comes back down to it. The beginning is left out, until the loss
         has made half of its whole fall: every loss curve starts flat on a log axis.
       - *Pivot of the per-token losses*: where their path on its first two principal components leaves the line
         it moved along, by `min_pivot` of its extent or more.

    2. The window is that of prefix matching. It ends with in-context learning instead, if that is under way when heads
       have formed and a checkpoint after that shows it still short of its end.
    3. There is a phase change if `icl_score` improves by at least `min_icl_gain` from the last checkpoint before the
       window to the first after it at which it was measured, and the loss leaves its envelope by `min_bump` in a
       stretch that overlaps the window. The pivot is reported and not asked for. What was measured (not NaN) at fewer
       than 3 checkpoints is not asked for either, and `notes` say so. Without prefix matching, or with fewer than 3
       checkpoints after the untrained one, it is unknown whether there is a phase change: `found` is None.
    4. The ends of the window, and of each marker's, get an interval from `n_resamples` resamples (drawn with `seed`) of
       the held-out examples and of the heads that form: 90 % of these end within it, on either side. It covers the
       choice of examples and of heads, not that of the training seed.
    5. `co_occurrence` compares the markers' windows with those of shuffled histories. It is never significant if one
       of prefix matching, in-context learning and bump was measured and has no window.

    Co-occurrence is no proof that the heads cause the learning: that takes ablations.

    Raises HistoryError if `prefix_matching`, `icl_score` or `loss` is missing from the history or has other dims, or
    `tokens_seen` is known and does not increase, or if `n_resamples` or `seed` is no whole number of at least 0.

    >>> from inductionkit.testing import synthetic_history
    >>> phase = find_phase_change(synthetic_history(window=(8e6, 2e7)))
    >>> bool(phase), round(phase.start / 1e6), round(phase.end / 1e6), phase.heads
    (True, 8, 17, ((1, 0), (1, 1)))
    """
    n_resamples = whole_number(n_resamples, "n_resamples", 0, HistoryError)
    seed = whole_number(seed, "seed", 0, HistoryError)
    validate(history, needs=("prefix_matching", "icl_score", "loss"))
    if (dims := history["prefix_matching"].dims) != PER_HEAD:
        raise HistoryError(f"prefix_matching has dims {dims}, expected {PER_HEAD}; transpose it")
    clock, same, before = clock_of(history), _identical_weights(history), untrained_loss(history)
    history = after_untrained(history)
    if history.sizes["step"] < 3:
        reason = f"{history.sizes['step']} checkpoints after the untrained one are too few; at least 3 are needed"
        return PhaseChange(None, (reason,), criteria, clock, notes=same)
    seen = read_curves(history, clock, before)
    found = find_rises(seen, criteria)
    markers = {name: marker(name, changes, criteria) for name, changes in found.items()}
    window = window_of(seen, found, criteria)
    about = PhaseChange(
        found=False,
        reasons=(),
        criteria=criteria,
        clock=clock,
        markers=markers,
        co_occurrence=_co_occurrence(seen, markers, seed),
        head_windows=head_windows(history, seen.log_elapsed, criteria),
        notes=same,
        **bump_around(seen, window, criteria),
    )
    if window is None:
        forming = markers["prefix_matching"]
        found_none = False if forming.measured else None  # nothing can be said of heads that were not measured
        return dataclasses.replace(about, found=found_none, reasons=(_why_no_window(seen, forming),))
    start, end = from_log(window)
    resampled = uncertainty(history, seen, window, markers, criteria, n_resamples, seed)
    unmeasured = [name for name in ("icl_score", "bump") if not markers[name].measured]
    judged = f"{' and '.join(unmeasured)} not measured: judged without" if unmeasured else ""
    phase = dataclasses.replace(
        about,
        start=start,
        end=end,
        start_step=float(np.interp(start, np.exp(seen.log_elapsed), seen.step)),
        end_step=float(np.interp(end, np.exp(seen.log_elapsed), seen.step)),
        start_interval=resampled.start,
        end_interval=resampled.end,
        n_resamples=resampled.n_resamples,
        found_share=resampled.found_share,
        other_windows=markers["prefix_matching"].others,
        markers=resampled.markers,
        heads=heads_in(history, seen.log_elapsed, window, criteria),
        notes=(*same, *(note for note in (judged, resampled.note) if note)),
        **icl_around(seen, window),
    )
    reasons = _against(phase, start, end)
    return dataclasses.replace(phase, found=not reasons, reasons=reasons)


def _identical_weights(history: xr.Dataset) -> tuple[str, ...]:
    """A note for each group of checkpoints whose weights the scan found to be identical."""
    groups: list[list[int]] = json.loads(history.attrs.get("identical_weights", "[]"))
    return tuple(
        f"steps {', '.join(map(str, steps))} have identical weights: one checkpoint may be stored under several steps"
        for steps in groups
    )


def _why_no_window(seen: Curves, forming: Marker) -> str:
    if not forming.measured:
        return f"prefix matching {forming.reason}"
    return f"{forming.reason} (highest {np.nanmax(seen.prefix_matching):.3f})"


def _against(phase: PhaseChange, start: float, end: float) -> tuple[str, ...]:
    """What speaks against a phase change in the window (step 3 of the rule)."""
    criteria, reasons = phase.criteria, []
    if phase.markers["icl_score"].measured and not phase.icl_gain_inside >= criteria.min_icl_gain:
        reasons.append(
            f"the in-context-learning score improves by {phase.icl_gain_inside:.3f} nats inside the window, "
            f"less than {criteria.min_icl_gain}"
        )
    left, right = phase.bump_window or (np.inf, -np.inf)
    overlaps = left <= end and right >= start and phase.bump_nats >= criteria.min_bump
    if phase.markers["bump"].measured and not overlaps:
        reasons.append(
            f"the loss is convex in log {phase.clock} around the window "
            f"(at most {phase.bump_nats:.3f} nats above its convex envelope)"
        )
    return tuple(reasons)


def _co_occurrence(seen: Curves, markers: dict[str, Marker], seed: int) -> CoOccurrence:
    windows = {name: one.window and in_log(one.window) for name, one in markers.items() if one.measured}
    known = np.flatnonzero(np.isfinite(seen.loss))
    first = known[past_beginning(seen.loss[known], seen.untrained_loss)] if len(known) else 0
    return compare_windows(windows, (float(seen.log_elapsed[first]), float(seen.log_elapsed[-1])), seed, REQUIRED)
