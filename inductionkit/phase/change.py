"""What was found about a phase change: the window, its markers, and how sure one can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .clock import Clock
from .co_occurrence import CoOccurrence
from .criteria import PhaseCriteria
from .markers import Marker, Window
from .verdict import verdict


@dataclass(frozen=True, repr=False)
class PhaseChange:
    """What `find_phase_change` found. Falsy unless there is a phase change; `reasons` then say why.

    `found`: whether there is one, None where too little is known to say. `criteria`: the thresholds it was judged by.
    `clock`: "tokens" or "steps", the unit of elapsed training in which every window below is counted.

    `start`, `end`, together `window`: the window, and `start_step`, `end_step` the same in steps (None if prefix
    matching never rises; also set if the rest of the rule rejects the window, and `found` is False).
    `start_interval`, `end_interval`: where its ends lie with 90 % of `n_resamples` resamples of examples
    and heads, of which `found_share` show a window; None without, and `notes` say why. `other_windows`: smaller rises
    of the best head's prefix matching. `markers`: bump, in-context learning, prefix matching and pivot of
    the per-token losses, each with its own window; `co_occurrence`: how far these overlap, against chance.

    `bump_window`: where the loss leaves its convex envelope, with `bump_nats` the largest distance. `icl_before`,
    `icl_after`: the in-context-learning score at the checkpoints next to the window, before and after it;
    `icl_gain_inside` and `icl_gain_outside` its improvement between them and over the rest of the run, in nats.
    `heads`: the (layer, head) whose own prefix matching rises by `min_rise` inside the window; `head_windows`: from
    when to when every head rises that does so by as much anywhere. `notes`: what else a reader should know.
    """

    found: bool | None
    reasons: tuple[str, ...]
    criteria: PhaseCriteria
    clock: Clock
    start: float | None = None
    end: float | None = None
    start_step: float | None = None
    end_step: float | None = None
    start_interval: Window | None = None
    end_interval: Window | None = None
    n_resamples: int = 0
    found_share: float = float("nan")
    other_windows: tuple[Window, ...] = ()
    markers: Mapping[str, Marker] = field(default_factory=dict)
    co_occurrence: CoOccurrence | None = None
    bump_window: Window | None = None
    bump_nats: float = 0.0
    icl_before: float = float("nan")
    icl_after: float = float("nan")
    icl_gain_inside: float = float("nan")
    icl_gain_outside: float = float("nan")
    heads: tuple[tuple[int, int], ...] = ()
    head_windows: Mapping[tuple[int, int], Window] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.found)

    @property
    def window(self) -> Window | None:
        """From `start` to `end`, None without a window."""
        return None if self.start is None or self.end is None else (self.start, self.end)

    @property
    def verdict(self) -> str:
        """The verdict in one sentence with its figures, as widgets, figures and reports show it."""
        return verdict(self)

    def __repr__(self) -> str:
        if not self.found or not self.window:
            verdict = "Phase change unknown" if self.found is None else "No phase change"
            return "\n  ".join([f"{verdict}: {'; '.join(self.reasons)}", *self.notes])
        steps = f"steps {self.start_step:,.0f} to {self.end_step:,.0f}"
        known = self.clock == "tokens"
        window = f"{self._between(self.window)} tokens ({steps})" if known else f"{steps} (tokens unknown)"
        lines = [f"Phase change from {window}"]
        if self.start_interval and self.end_interval:
            start, end = map(self._between, (self.start_interval, self.end_interval))
            lines.append(
                f"90 % intervals: start {start}, end {end} {self.clock} "
                f"({self.n_resamples} resamples of examples and heads)"
            )
        if self.markers["icl_score"].measured:
            lines.append(
                f"in-context-learning score {self.icl_before:.2f} -> {self.icl_after:.2f} nats "
                f"(improves by {self.icl_gain_inside:.2f} inside the window, {self.icl_gain_outside:.2f} outside)"
            )
        if self.bump_window:
            where = f"{self._between(self.bump_window)} {self.clock}"
            lines.append(f"loss up to {self.bump_nats:.2f} nats above its convex envelope, {where}")
        lines.append("heads that form: " + ", ".join(f"{layer}.{head}" for layer, head in self.heads))
        seen = [f"{name} {self._between(marker.window)}" for name, marker in self.markers.items() if marker.window]
        lines.append("markers: " + ", ".join(seen))
        if self.co_occurrence and not self.co_occurrence.reason:
            lines.append(
                f"the markers' windows overlap by {self.co_occurrence.overlap:.2f}; "
                f"p = {self.co_occurrence.p_value:.2g} against shuffled histories"
            )
        if self.other_windows:
            where = ", ".join(map(self._between, self.other_windows))
            lines.append(f"prefix matching also rises at {where} {self.clock}")
        return "\n  ".join([*lines, *self.notes])

    def _between(self, window: Window) -> str:
        """A window in words, without its unit: tokens in millions, or steps."""
        if self.clock == "tokens":
            return f"{window[0] / 1e6:,.2f}M to {window[1] / 1e6:,.2f}M"
        return f"{window[0]:,.0f} to {window[1]:,.0f}"
