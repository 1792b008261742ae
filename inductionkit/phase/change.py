"""What was found about a phase change: the window, its markers, and how sure one can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .co_occurrence import CoOccurrence
from .criteria import PhaseCriteria
from .markers import Marker, Window


@dataclass(frozen=True, repr=False)
class PhaseChange:
    """What `find_phase_change` found. Falsy where there is no phase change; `reasons` then say why.

    `criteria`: the thresholds it was found with.

    `start_tokens`, `end_tokens`, `start_step`, `end_step`: the window (None if prefix matching never rises).
    `start_interval`, `end_interval`: where its ends lie, in tokens, with 90 % of `n_resamples` resamples of examples
    and heads, of which `found_share` show a window; None without, and `notes` say why. `other_windows`: smaller rises
    of the best head's prefix matching, in tokens. `markers`: bump, in-context learning, prefix matching and pivot of
    the per-token losses, each with its own window; `co_occurrence`: how far these overlap, against chance.

    `bump_tokens`: where the loss leaves its convex envelope, with `bump_nats` the largest distance. `icl_before`,
    `icl_after`: the in-context-learning score at the checkpoints next to the window, before and after it;
    `icl_gain_inside` and `icl_gain_outside` its improvement between them and over the rest of the run, in nats.
    `heads`: the (layer, head) whose own prefix matching rises by `min_rise` inside the window; `head_windows`: from
    when to when, in tokens, of every head that rises by as much anywhere.
    """

    found: bool
    reasons: tuple[str, ...]
    criteria: PhaseCriteria
    start_tokens: float | None = None
    end_tokens: float | None = None
    start_step: float | None = None
    end_step: float | None = None
    start_interval: Window | None = None
    end_interval: Window | None = None
    n_resamples: int = 0
    found_share: float = float("nan")
    other_windows: tuple[Window, ...] = ()
    markers: Mapping[str, Marker] = field(default_factory=dict)
    co_occurrence: CoOccurrence | None = None
    bump_tokens: Window | None = None
    bump_nats: float = 0.0
    icl_before: float = float("nan")
    icl_after: float = float("nan")
    icl_gain_inside: float = float("nan")
    icl_gain_outside: float = float("nan")
    heads: tuple[tuple[int, int], ...] = ()
    head_windows: Mapping[tuple[int, int], Window] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.found

    @property
    def window_tokens(self) -> Window | None:
        """From `start_tokens` to `end_tokens`, None without a window."""
        return None if self.start_tokens is None or self.end_tokens is None else (self.start_tokens, self.end_tokens)

    def __repr__(self) -> str:
        if not self.found or not self.window_tokens:
            return "No phase change: " + "; ".join(self.reasons)
        steps = f"steps {self.start_step:,.0f} to {self.end_step:,.0f}"
        lines = [f"Phase change from {_between(self.window_tokens)} tokens ({steps})"]
        if self.start_interval and self.end_interval:
            lines.append(
                f"90 % intervals: start {_between(self.start_interval)}, end {_between(self.end_interval)} tokens "
                f"({self.n_resamples} resamples of examples and heads)"
            )
        if self.markers["icl_score"].measured:
            lines.append(
                f"in-context-learning score {self.icl_before:.2f} -> {self.icl_after:.2f} nats "
                f"(improves by {self.icl_gain_inside:.2f} inside the window, {self.icl_gain_outside:.2f} outside)"
            )
        if self.bump_tokens:
            lines.append(
                f"loss up to {self.bump_nats:.2f} nats above its convex envelope, {_between(self.bump_tokens)} tokens"
            )
        lines.append("heads that form: " + ", ".join(f"{layer}.{head}" for layer, head in self.heads))
        seen = [f"{name} {_between(marker.window)}" for name, marker in self.markers.items() if marker.window]
        lines.append("markers: " + ", ".join(seen))
        if self.co_occurrence and not self.co_occurrence.reason:
            lines.append(
                f"the markers' windows overlap by {self.co_occurrence.overlap:.2f}; "
                f"p = {self.co_occurrence.p_value:.2g} against shuffled histories"
            )
        if self.other_windows:
            lines.append("prefix matching also rises at " + ", ".join(map(_between, self.other_windows)) + " tokens")
        return "\n  ".join([*lines, *self.notes])


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:,.2f}M"


def _between(window: Window) -> str:
    return f"{_millions(window[0])} to {_millions(window[1])}"
