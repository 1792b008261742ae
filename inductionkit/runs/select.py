"""Which checkpoints of a run: all, a list, a range, a number, or a number spaced evenly in the log of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ..errors import RunError
from .names import NamedStep
from .run import Checkpoint

Wanted = int | str | slice | range | Iterable[int] | None
Entry = TypeVar("Entry", NamedStep, Checkpoint)


def choose_from(entries: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    """Return the entries, ascending in their steps, whose steps `choose` gives."""
    chosen = set(choose([entry.step for entry in entries], wanted))
    return [entry for entry in entries if entry.step in chosen]


def choose(steps: Sequence[int], wanted: Wanted = None) -> list[int]:
    """Return the steps among `steps` (ascending) that are `wanted`, ascending.

    None gives all. A number `n` gives at most n, spread evenly over the list; `"log:n"` at most n, spread
    evenly over the logarithm of the step; both keep the first and the last. A slice gives the steps
    from its start to its stop, both included as in xarray's labels, or every k-th of them. A range
    gives those of its steps that exist; any other iterable lists steps, which must all exist.

    Raises RunError if a listed step is missing, nothing is left, or `wanted` is none of these.

    >>> choose([0, 10, 20, 30, 40], slice(10, 30))
    [10, 20, 30]
    >>> choose([0, 10, 20, 30, 40], 3)
    [0, 20, 40]
    >>> choose([0, 1, 2, 4, 8, 16, 32, 64], "log:4")
    [0, 4, 16, 64]
    """
    match wanted:
        case None:
            chosen = list(steps)
        case int() if not isinstance(wanted, bool):
            chosen = _spread(steps, list(range(len(steps))), wanted)
        case str():
            chosen = _spread(steps, [math.log1p(step) for step in steps], _number_in(wanted))
        case slice(start=first, stop=last, step=every):
            chosen = [step for step in steps if (first is None or step >= first) and (last is None or step <= last)]
            chosen = chosen[::every]
        case range():
            chosen = [step for step in steps if step in wanted]
        case Iterable():
            listed = list(wanted)
            if missing := [step for step in listed if step not in steps]:
                raise RunError(f"there are no checkpoints of steps {missing}; there are steps {list(steps)}")
            chosen = sorted(set(listed))
        case _:
            raise RunError(f"checkpoints={wanted!r}: give a number, 'log:n', a slice, a range or a list of steps")
    if not chosen:
        raise RunError(f"checkpoints={wanted!r} leaves no checkpoint; there are steps {list(steps)}")
    return chosen


def _number_in(wanted: str) -> int:
    kind, _, number = wanted.partition(":")
    if kind != "log" or not number.isdecimal():
        raise RunError(f"checkpoints={wanted!r}: the only text it takes is 'log:n', for example 'log:20'")
    return int(number)


def _spread(steps: Sequence[int], places: Sequence[float], n: int) -> list[int]:
    """Return at most `n` steps, the nearest to `n` points spread evenly over `places`."""
    if n < 1:
        raise RunError(f"{n} checkpoints were asked for; ask for at least 1")
    if n == 1:
        return [steps[-1]]
    first, last = places[0], places[-1]
    points = [first + (last - first) * i / (n - 1) for i in range(n)]
    return [steps[i] for i in sorted({_nearest(places, point) for point in points})]


def _nearest(places: Sequence[float], point: float) -> int:
    return min(range(len(places)), key=lambda i: abs(places[i] - point))
