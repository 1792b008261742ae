"""Steps and tokens seen, read from the names of folders, revisions and files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import RunError

# Pythia `step1000`, stanford-crfm and the Trainer `checkpoint-1000`, OLMo `step1000-tokens4B` and the first of
# OLMo 2's stages; later stages start from step 0 again, so they are runs of their own.
DEFAULT_PATTERN = (
    r"(?:stage1-)?(?:step|checkpoint|global_step|iter)[-_]?(?P<step>\d+)(?:-tokens(?P<tokens>[\d.]+[KMBT]?))?"
)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True, order=True)
class NamedStep:
    """A step and the tokens seen by then (None: unknown), read from a name."""

    step: int
    tokens_seen: int | None
    name: str


def read_names(names: Iterable[str], pattern: str | None = None) -> list[NamedStep]:
    """Return the names of checkpoints, in order of steps; other names are left out.

    `pattern` is a regular expression that matches whole names, with a group `step`, a group `tokens`
    (digits, then perhaps K, M, B or T), or both. Without a step, tokens are used as the step.
    Raises RunError if two names have the same step, or the pattern is not a regular expression.

    >>> read_names(["main", "step1000-tokens4B"])
    [NamedStep(step=1000, tokens_seen=4000000000, name='step1000-tokens4B')]
    """
    expression = _compile(pattern or DEFAULT_PATTERN)
    found = [(name, match.groupdict()) for name in names if (match := expression.fullmatch(name))]
    named = sorted((_named_step(name, groups) for name, groups in found), key=lambda entry: (entry.step, entry.name))
    for one, other in itertools.pairwise(named):
        if one.step == other.step:
            raise RunError(
                f"{one.name} and {other.name} both are step {one.step}; pass a pattern= that matches one of them"
            )
    return named


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise RunError(f"pattern={pattern!r} is not a regular expression: {error}") from None
    if not {"step", "tokens"} & expression.groupindex.keys():
        raise RunError(rf"pattern={pattern!r} has no group (?P<step>\d+) or (?P<tokens>\d+) to read the step from")
    return expression


def _named_step(name: str, groups: dict[str, str | None]) -> NamedStep:
    step, tokens = groups.get("step"), groups.get("tokens")
    try:
        tokens_seen = None if tokens is None else _count(tokens)
        at = tokens_seen if step is None else int(step)
    except (ValueError, TypeError):
        at = tokens_seen = None
    if at is None:  # or the pattern matches without either of its groups
        raise RunError(f"{name}: step {step!r} and tokens {tokens!r} are not numbers; correct the pattern")
    return NamedStep(at, tokens_seen, name)


def _count(text: str) -> int:
    unit = _UNITS.get(text[-1:].upper())
    return int(text) if unit is None else round(float(text[:-1]) * unit)
