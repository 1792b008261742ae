"""Where PhaseExplorer opens, and what its first lines say: the verdict, and a token at which copying is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..history import PATTERN_SCALE
from ..phase.clock import elapsed
from ..phase.drawing import PhaseLike, phase_to_draw
from ._pattern_series import has_patterns
from ._phase_data import heads_by_strength, text_names, text_tokens

MIN_GAIN = 0.05  # of probability times attention, for a text to be preferred to a repeated prompt
PROMPT = 0.8  # a text whose second half repeats as large a share of it is a prompt, not prose


@dataclass(frozen=True)
class Opening:
    """The checkpoint and the text to open with, and what there is to see.

    `index`: the checkpoint in the middle of the window, the last one without a window; `first`, `last`: those next to
    the window on either side. `text`: the text; `queries`: the token from which each text is read. `targets`: for each
    token of each text, the place that induction points to.
    """

    index: int
    first: int
    last: int
    text: int
    queries: tuple[int, ...]
    targets: tuple[tuple[int | None, ...], ...]


def opening(history: xr.Dataset, phase: PhaseLike) -> Opening:
    """Return what to open an explorer of `history` with."""
    found = phase_to_draw(history, phase)
    first, index, last = _checkpoints(history, found.window if found else None)
    texts = [text_tokens(history, text) for text in range(len(text_names(history)))]
    targets = [induction_targets(tokens) for tokens in texts]
    head = next(iter(heads_by_strength(history)), None)
    best = [
        _best_query(tokens, points, _gain(history, text, points, head, (first, index, last)))
        for text, (tokens, points) in enumerate(zip(texts, targets))
    ]
    ranks = [(gain >= MIN_GAIN and not is_prompt, gain) for _, gain, is_prompt in best]
    text = ranks.index(max(ranks)) if ranks else 0
    return Opening(index, first, last, text, tuple(query for query, *_ in best), tuple(map(tuple, targets)))


def hero_header(opens: Opening, shown: bool) -> dict[str, object]:
    """What the front end needs of an opening; `hero` is None unless the hero strip is shown."""
    return {
        "queries": list(opens.queries),
        "targets": [list(points) for points in opens.targets],
        "hero": {"index": opens.index, "first": opens.first, "last": opens.last} if shown else None,
    }


def induction_targets(tokens: Sequence[str]) -> list[int | None]:
    """For each token, the place after an earlier copy of it, None if it is the first of its kind.

    Of several copies the one counts before which most tokens are the same too, and of these the latest. A copy
    right before the token is left out: it would point to the token itself.

    >>> induction_targets(["a", "b", "c", "b", "a", "b"])
    [None, None, None, 2, 1, 2]
    """
    kinds = {token: kind for kind, token in enumerate(dict.fromkeys(tokens))}
    codes = np.array([kinds[token] if token else -1 for token in tokens], dtype=int)
    same = np.zeros(len(codes) + 1, int)  # at k + 1: how many tokens up to k are those up to the query
    targets: list[int | None] = []
    for query, code in enumerate(codes):
        same[1 : query + 1] = np.where((codes[:query] == code) & (code >= 0), same[:query] + 1, 0)
        candidates = same[1:query]
        longest = int(candidates.max(initial=0))
        targets.append(int(np.flatnonzero(candidates == longest)[-1]) + 1 if longest else None)
    return targets


def _checkpoints(history: xr.Dataset, window: tuple[float, float] | None) -> tuple[int, int, int]:
    """The last checkpoint before the window, the one nearest to its middle in the log, the first one after it."""
    seen = elapsed(history)
    end = len(seen) - 1
    if window is None:
        return 0, end, end
    first = max(int(np.searchsorted(seen, window[0], side="right")) - 1, 0)
    last = min(int(np.searchsorted(seen, window[1])), end)
    middle = float(np.log(np.maximum(window, 1)).mean())
    inside = range(first + 1, last) if last - first > 1 else range(first, last + 1)
    return first, min(inside, key=lambda index: abs(float(np.log(max(float(seen[index]), 1))) - middle)), last


def _gain(
    history: xr.Dataset, text: int, targets: Sequence[int | None], head: int | None, at: tuple[int, int, int]
) -> np.ndarray:
    """How much, from before the window to within and after it, each query gains of what copying gives.

    The probability of the next token gains, times the attention that goes to where induction points; either
    alone if the other was not measured.
    """
    gain = np.ones(len(targets))
    if "text_loss" in history:
        probability = np.exp(-history["text_loss"].values[list(at), text, 1 : len(targets)].astype(float))
        gain[:-1] *= _rise(probability)
    if has_patterns(history) and head is not None:
        layer, number = divmod(head, history.sizes["head"])
        pattern = history["pattern"].values[list(at), layer, number, text] * PATTERN_SCALE
        keys = [target or 0 for target in targets]
        gain *= _rise(pattern[:, np.arange(len(targets)), keys])
    return gain


def _rise(values: np.ndarray) -> np.ndarray:
    """From the first row to the mean of the other two, 0 where that is a fall or unknown."""
    risen: np.ndarray = np.nan_to_num((values[1:].mean(0) - values[0]).clip(min=0))
    return risen


def _best_query(tokens: Sequence[str], targets: Sequence[int | None], gain: np.ndarray) -> tuple[int, float, bool]:
    """The query of the second half at which copying gains most, by how much, and whether the text is a prompt.

    Only a query counts whose next token is the one that induction points to; without one, the last token is it.
    """
    second = range(len(tokens) // 2, len(tokens) - 1)
    right = [query for query in second if (at := targets[query]) is not None and tokens[at] == tokens[query + 1]]
    if not right:
        return max(len(tokens) - 1, 0), 0.0, False
    best = max(right, key=lambda query: gain[query])
    return best, float(gain[best]), len(right) >= PROMPT * len(second)
