"""The rule: from a history to a phase change, or to the reasons why there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr

from .bump import past_beginning
from .change import PhaseChange
from .co_occurrence import CoOccurrence, compare_windows
from .criteria import PhaseCriteria
from .curves import Curves, read_curves, untrained_loss, usable
from .markers import Marker, find_rises, in_log, marker, to_tokens
from .resampling import uncertainty
from .window import at, bump_around, head_windows, heads_in, icl_around, window_of

REQUIRED = ("bump", "icl_score", "prefix_matching")  # markers that the verdict rests on, where they were measured


def find_phase_change(
    history: xr.Dataset, criteria: PhaseCriteria = PhaseCriteria(), *, n_resamples: int = 200, seed: int = 0
) -> PhaseChange:
    """The window in which induction heads form, and whether loss and in-context learning move with it.

    `criteria` hold every threshold named below. The rule, against the log of the tokens seen and with linear
    interpolation between checkpoints. A *rise* of a series goes from its least value before the maximum to the
    maximum; its window, from where it last passes `onset` of the rise before reaching half of it, to where it first
    reaches `end` of it. Where half of a window is a plateau there are two rises; before the foot and after the top of
    a rise there may be others.

    1. Markers, each looked for on its own and each with a window of its own, that of its largest change. One under way
       while the tokens seen grow more than `max_ratio` times, as far as checkpoints show, is gradual, and left out.

       - *Prefix matching*: a rise of the best head's by `min_rise`.
       - *In-context learning*: a rise of `-icl_score`, averaged over the checkpoints near each (by a Gaussian of 0.1 in
         log tokens), by `min_icl_gain`.
       - *Bump*: where the loss stands `min_bump` or more above its lower convex envelope (a loss curve of steady
         learning is convex), the window in which it comes back down to it. The beginning is left out, until the loss
         has made half of its whole fall: every loss curve starts flat in log tokens.
       - *Pivot of the per-token losses*: where their path on its first two principal components leaves the line
         it moved along, by `min_pivot` of its extent or more.

    2. The window is that of prefix matching. It ends with in-context learning instead, if that is under way when heads
       have formed and a checkpoint after that shows it still short of its end.
    3. There is a phase change if `icl_score` improves by at least `min_icl_gain` from the last checkpoint before the
       window to the first after it at which it was measured, and the loss leaves its envelope by `min_bump` in a
       stretch that overlaps the window. The pivot is reported and not asked for. What was measured (not NaN) at fewer
       than 3 checkpoints is not asked for either, and `notes` say so; without prefix matching there is no window.
    4. The ends of the window, and of each marker's, get an interval from `n_resamples` resamples (drawn with `seed`) of
       the held-out examples and of the heads that form: 90 % of these end within it, on either side. It covers the
       choice of examples and of heads, not that of the training seed.
    5. `co_occurrence` compares the markers' windows with those of shuffled histories. It is never significant if one
       of prefix matching, in-context learning and bump was measured and has no window.

    Co-occurrence is no proof that the heads cause the learning: that takes ablations.

    Raises HistoryError if `prefix_matching`, `icl_score`, `loss` or `tokens_seen` is missing from the history, or
    `tokens_seen` does not increase.

    >>> from inductionkit.testing import synthetic_history
    >>> phase = find_phase_change(synthetic_history(window=(8e6, 2e7)))
    >>> bool(phase), round(phase.start_tokens / 1e6), round(phase.end_tokens / 1e6), phase.heads
    (True, 8, 17, ((1, 0), (1, 1)))
    """
    before = untrained_loss(history)
    history = usable(history)
    if history.sizes["step"] < 3:
        reason = f"{history.sizes['step']} checkpoints after the first, with known tokens_seen, are too few"
        return PhaseChange(False, (reason,), criteria)
    seen = read_curves(history, before)
    found = find_rises(seen, criteria)
    markers = {name: marker(name, changes, criteria) for name, changes in found.items()}
    window = window_of(seen, found, criteria)
    about = PhaseChange(
        found=False,
        reasons=(),
        criteria=criteria,
        markers=markers,
        co_occurrence=_co_occurrence(seen, markers, seed),
        head_windows=head_windows(history, criteria),
        **bump_around(seen, window, criteria),
    )
    if window is None:
        return dataclasses.replace(about, reasons=(_why_no_window(seen, markers["prefix_matching"]),))
    start, end = to_tokens(window)
    resampled = uncertainty(history, seen, window, markers, criteria, n_resamples, seed)
    unmeasured = [name for name in ("icl_score", "bump") if not markers[name].measured]
    judged = f"{' and '.join(unmeasured)} not measured: judged without" if unmeasured else ""
    phase = dataclasses.replace(
        about,
        start_tokens=start,
        end_tokens=end,
        start_step=at(seen.log_tokens, seen.step, window[0]),
        end_step=at(seen.log_tokens, seen.step, window[1]),
        start_interval=resampled.start,
        end_interval=resampled.end,
        n_resamples=resampled.n_resamples,
        found_share=resampled.found_share,
        other_windows=markers["prefix_matching"].others,
        markers=resampled.markers,
        heads=heads_in(history, window, criteria),
        notes=tuple(note for note in (judged, resampled.note) if note),
        **icl_around(seen, window),
    )
    reasons = _against(phase, start, end)
    return dataclasses.replace(phase, found=not reasons, reasons=reasons)


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
    left, right = phase.bump_tokens or (np.inf, -np.inf)
    overlaps = left <= end and right >= start and phase.bump_nats >= criteria.min_bump
    if phase.markers["bump"].measured and not overlaps:
        reasons.append(
            f"the loss is convex in log tokens around the window (at most {phase.bump_nats:.3f} nats above its convex "
            f"envelope)"
        )
    return tuple(reasons)


def _co_occurrence(seen: Curves, markers: dict[str, Marker], seed: int) -> CoOccurrence:
    windows = {name: one.window and in_log(one.window) for name, one in markers.items() if one.measured}
    known = np.flatnonzero(np.isfinite(seen.loss))
    first = known[past_beginning(seen.loss[known], seen.untrained_loss)] if len(known) else 0
    return compare_windows(windows, (float(seen.log_tokens[first]), float(seen.log_tokens[-1])), seed, REQUIRED)
