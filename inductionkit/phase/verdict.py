"""The verdict on a run in one sentence, the same in widgets, figures, reports and the demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .clock import Clock

if TYPE_CHECKING:
    from .change import PhaseChange

NOT_LOOKED_FOR = "No phase change was looked for in this model."
MAX_NAMED = 6  # heads that a sentence names before it counts them
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1, ""))


def verdict(phase: PhaseChange | None) -> str:
    """Return the sentence that states what was found, with its figures; `phase` is None if nobody looked.

    A window that was given and not found is called so: it has no markers.
    """
    if phase is None:
        return NOT_LOOKED_FOR
    when = _between(phase.window, phase.clock) if phase.window else ""
    reasons = "; ".join(phase.reasons)
    if phase.found is None:
        return f"Whether this model went through a phase change is unknown: {reasons}."
    if not phase.found or not when:
        return f"{f'Heads formed {when}, but no' if when else 'No'} phase change was found in this model: {reasons}."
    if not phase.markers:
        return f"The window {when} was marked by hand; no phase change was looked for in this model."
    moved = [f"{_heads(phase.heads)} formed"] if phase.heads else []
    if phase.markers["icl_score"].measured:
        scores = " to ".join(map(_signed, (phase.icl_before, phase.icl_after)))
        moved.append(f"its in-context-learning score improved from {scores} nats")
    learned = f"B{when[1:]} this model learned to copy from its context"
    return f"{learned}; {', and '.join(moved)}." if moved else f"{learned}."


def _heads(heads: Sequence[tuple[int, int]]) -> str:
    """Heads counted, and named where they are few: `two heads, 1.0 and 1.3,`."""
    n_heads = _WORDS[len(heads)] if len(heads) < len(_WORDS) else f"{len(heads):,}"
    if len(heads) == 1:
        return f"one head, {heads[0][0]}.{heads[0][1]},"
    if len(heads) > MAX_NAMED:
        return f"{n_heads} heads"
    *names, last = (f"{layer}.{head}" for layer, head in heads)
    return f"{n_heads} heads, {', '.join(names)} and {last},"


def _between(window: tuple[float, float], clock: Clock) -> str:
    """A window in words: `between 5.0M and 8.1M tokens`, with as many digits as tell its ends apart."""
    if clock == "steps":
        return f"between steps {window[0]:,.0f} and {window[1]:,.0f}"
    start, end = next(
        ends
        for digits in range(2, 18)
        if len(set(ends := [_short(one, digits) for one in window])) == 2 or digits == 17
    )
    return f"between {start} and {end} tokens"


def _short(value: float, digits: int) -> str:
    """A number of tokens with so many significant digits, in thousands, millions and so on: 4,980,000 as 5.0M."""
    rounded = float(f"{value:.{digits - 1}e}")
    scale, letter = next(((scale, letter) for scale, letter in _SCALES if rounded >= scale), _SCALES[-1])
    whole = len(f"{rounded / scale:.0f}")
    return f"{rounded / scale:.{max(digits - whole, 0)}f}{letter}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
