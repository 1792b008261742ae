"""Where the phase change is, read from a history. NumPy and xarray alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from .history import validate


@dataclass(frozen=True)
class PhaseCriteria:
    """What counts as a phase change.

    `min_rise`: least rise of the best head's prefix matching. `onset` and `end`: shares of a rise at
    which its window starts and ends (the last fifth is left to slow sharpening). `min_icl_gain`:
    least improvement of the in-context-learning score inside the window, in nats. `min_bump`: least
    distance of the loss above its convex envelope, in nats.
    """

    min_rise: float = 0.2
    onset: float = 0.1
    end: float = 0.8
    min_icl_gain: float = 0.1
    min_bump: float = 0.03


@dataclass(frozen=True, repr=False)
class PhaseChange:
    """What `find_phase_change` found. Falsy where there is no phase change; `reasons` then say why.

    `start_tokens`, `end_tokens`, `start_step`, `end_step`: the window (None if prefix matching never
    rises). `bump_tokens`: where the loss leaves its convex envelope, with `bump_nats` the largest
    distance. `icl_before`, `icl_after`: the in-context-learning score at the window's two ends;
    `icl_gain_inside` and `icl_gain_outside` its improvement there and over the rest of the run, in
    nats. `heads`: the (layer, head) whose own prefix matching rises by `min_rise` inside the window.
    """

    found: bool
    reasons: tuple[str, ...]
    criteria: PhaseCriteria
    start_tokens: float | None = None
    end_tokens: float | None = None
    start_step: float | None = None
    end_step: float | None = None
    bump_tokens: tuple[float, float] | None = None
    bump_nats: float = 0.0
    icl_before: float = float("nan")
    icl_after: float = float("nan")
    icl_gain_inside: float = float("nan")
    icl_gain_outside: float = float("nan")
    heads: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.found

    def __repr__(self) -> str:
        if not self.found:
            return "No phase change: " + "; ".join(self.reasons)
        heads = ", ".join(f"{layer}.{head}" for layer, head in self.heads)
        return (
            f"Phase change from {self.start_tokens / 1e6:.2f}M to {self.end_tokens / 1e6:.2f}M tokens "
            f"(steps {self.start_step:,.0f} to {self.end_step:,.0f})\n"
            f"  in-context-learning score {self.icl_before:.2f} -> {self.icl_after:.2f} nats "
            f"(improves by {self.icl_gain_inside:.2f} inside the window, {self.icl_gain_outside:.2f} outside)\n"
            f"  loss up to {self.bump_nats:.2f} nats above its convex envelope, "
            f"{self.bump_tokens[0] / 1e6:.2f}M to {self.bump_tokens[1] / 1e6:.2f}M tokens\n"
            f"  heads that form: {heads}"
        )


def find_phase_change(history: xr.Dataset, criteria: PhaseCriteria = PhaseCriteria()) -> PhaseChange:
    """The window in which induction heads form, and whether loss and in-context learning move with it.

    The rule, against the log of the tokens seen and with linear interpolation between checkpoints:

    1. Take the largest `prefix_matching` over heads at each checkpoint. Its rise is its maximum less
       its least value before that. Below `min_rise` there is no window. Heads form from where it last
       passes `onset` of the rise before reaching half of it, to where it first reaches `end` of it.
    2. In-context learning is acquired over the stretch that the same rule gives for `-icl_score`, if
       its rise is at least `min_icl_gain`. The window covers heads forming and, where the two stretches
       overlap, in-context learning being acquired until its end.
    3. There is a phase change if, besides, `icl_score` improves by at least `min_icl_gain` inside
       the window, and the loss stands at least `min_bump` above its lower convex envelope somewhere
       in a stretch that overlaps the window (the bump: a loss curve of steady learning is convex).
       The beginning is left out, until the loss has made half of its whole fall: every loss curve
       starts flat in log tokens.

    Co-occurrence is no proof that the heads cause the learning: that takes ablations.

    Raises HistoryError if `prefix_matching`, `icl_score`, `loss` or `tokens_seen` is missing.
    """
    validate(history, needs=("prefix_matching", "icl_score", "loss"))
    validate(history.reset_coords(), needs=("tokens_seen",))
    history = history.isel(step=history["tokens_seen"].values > 0)
    if history.sizes["step"] < 3:
        return PhaseChange(False, (f"{history.sizes['step']} checkpoints after the first are too few",), criteria)
    log_tokens = np.log(history["tokens_seen"].values)
    icl, loss = history["icl_score"].values.astype(float), history["loss"].values.astype(float)
    per_head = history["prefix_matching"].values.astype(float)
    bump, bump_nats = _bump(log_tokens, loss)
    bump_tokens = None if bump is None else (float(np.exp(bump[0])), float(np.exp(bump[1])))

    best = np.nanmax(per_head, axis=(1, 2))
    window = rise_window(log_tokens, best, criteria.min_rise, criteria)
    if window is None:
        reason = f"no head's prefix matching rises by {criteria.min_rise} (highest {best.max():.3f})"
        return PhaseChange(False, (reason,), criteria, bump_tokens=bump_tokens, bump_nats=bump_nats)

    learning = rise_window(log_tokens, -icl, criteria.min_icl_gain, criteria)
    if learning is not None and learning[0] <= window[1]:
        window = window[0], max(window[1], learning[1])
    start, end = window
    before, after = np.interp(window, log_tokens, icl)
    gain_inside = before - after
    gain_outside = (icl[0] - before) + (after - icl[-1])
    reasons = []
    if gain_inside < criteria.min_icl_gain:
        reasons.append(
            f"the in-context-learning score improves by {gain_inside:.3f} nats inside the window, "
            f"less than {criteria.min_icl_gain}"
        )
    if bump is None or bump_nats < criteria.min_bump or bump[1] < start or bump[0] > end:
        reasons.append(
            f"the loss is convex in log tokens around the window (at most {bump_nats:.3f} nats above its "
            f"convex envelope)"
        )
    at_ends = np.array(
        [[np.interp(at, log_tokens, series) for at in window] for series in per_head.reshape(len(icl), -1).T]
    )
    formed = (at_ends[:, 1] - at_ends[:, 0]).reshape(per_head.shape[1:]) >= criteria.min_rise
    start_step, end_step = np.interp(window, log_tokens, history["step"].values)
    return PhaseChange(
        found=not reasons,
        reasons=tuple(reasons),
        criteria=criteria,
        start_tokens=float(np.exp(start)),
        end_tokens=float(np.exp(end)),
        start_step=float(start_step),
        end_step=float(end_step),
        bump_tokens=bump_tokens,
        bump_nats=bump_nats,
        icl_before=float(before),
        icl_after=float(after),
        icl_gain_inside=float(gain_inside),
        icl_gain_outside=float(gain_outside),
        heads=tuple((int(history["layer"][layer]), int(history["head"][head])) for layer, head in np.argwhere(formed)),
    )


def rise_window(
    log_tokens: np.ndarray, series: np.ndarray, min_rise: float, criteria: PhaseCriteria
) -> tuple[float, float] | None:
    """From where to where (log tokens) a series rises, by step 1 of `find_phase_change`; None below `min_rise`."""
    top = int(np.argmax(series))
    low = series[: top + 1].min()
    rise = series[top] - low
    if not rise >= min_rise:
        return None
    half = int(np.argmax(series >= low + 0.5 * rise))
    below = np.flatnonzero(series[:half] <= low + criteria.onset * rise)
    first = int(below[-1]) if len(below) else 0
    reached = half + int(np.argmax(series[half:] >= low + criteria.end * rise))
    start = _crossing(log_tokens, series, first, low + criteria.onset * rise)
    end = _crossing(log_tokens, series, reached - 1, low + criteria.end * rise) if reached else float(log_tokens[0])
    return start, end


def convex_envelope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The largest convex function that stays below the points (x, y), at each x (x increasing)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1 and _turns_down(x, y, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    return np.interp(x, x[hull], y[hull])


def _bump(log_tokens: np.ndarray, loss: np.ndarray) -> tuple[tuple[float, float] | None, float]:
    """The stretch around the largest distance of the loss above its convex envelope, and that distance."""
    past_beginning = slice(int(np.argmax(loss <= (loss[0] + loss.min()) / 2)), None)
    log_tokens, loss = log_tokens[past_beginning], loss[past_beginning]
    distance = loss - convex_envelope(log_tokens, loss)
    peak = int(np.argmax(distance))
    if distance[peak] <= 1e-9:
        return None, 0.0
    touching = np.flatnonzero(distance <= 1e-9)
    left, right = touching[touching < peak][-1], touching[touching > peak][0]
    return (float(log_tokens[left]), float(log_tokens[right])), float(distance[peak])


def _turns_down(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the straight line from a to c."""
    return (y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a])


def _crossing(x: np.ndarray, y: np.ndarray, i: int, level: float) -> float:
    """Where y passes `level` between points i and i + 1."""
    if i + 1 >= len(x) or y[i + 1] == y[i]:
        return float(x[i])
    return float(x[i] + (x[i + 1] - x[i]) * np.clip((level - y[i]) / (y[i + 1] - y[i]), 0, 1))
