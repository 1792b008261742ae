"""Whether markers fall together more than chance would have it: their windows against shuffled histories."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

N_SHUFFLES = 4000


@dataclass(frozen=True)
class CoOccurrence:
    """How far the markers' windows overlap, and how often they would by chance.

    `overlap`: mean over pairs of markers of the length (log of elapsed training) that two windows share, as a share of
    what they cover together; 0 apart, 1 the same. `p_value`: share of shuffled histories that overlap as much.
    `shared_window`: the stretch that lies in every window, on the history's clock. `markers`: whose windows were
    compared. `reason`: why there is no p-value, or why it is 1 by rule. Overlap is no cause: that takes ablations.
    """

    overlap: float = float("nan")
    p_value: float = float("nan")
    shared_window: tuple[float, float] | None = None
    markers: tuple[str, ...] = ()
    reason: str = ""


def compare_windows(
    windows: Mapping[str, tuple[float, float] | None],
    axis: tuple[float, float],
    seed: int,
    required: Collection[str] = (),
    n_shuffles: int = N_SHUFFLES,
) -> CoOccurrence:
    """Compare the markers' windows (log of elapsed training) with those of shuffled histories.

    In a shuffled history each marker's series of changes is shifted as a whole along `axis`, in a circle and
    independently of the others, by an amount that is uniform in that log: a change keeps its shape and the window
    its width, only when it happens is left to chance. So the windows alone need shifting. `axis` begins where a
    phase change can be found, not at the first checkpoint: else a longer prologue would make any overlap look rarer.

    A marker that was looked for and has no window shares nothing with the others, in the history or shuffled. If it is
    a `required` one, the overlap is 0 and the p-value 1, whatever the rest do: nothing moves together with heads that
    do not form, and so a control without induction heads is never significant.
    """
    names = tuple(windows)
    if len(names) < 2:
        return CoOccurrence(markers=names, reason="fewer than two markers were measured")
    missing = [name for name in required if name in windows and windows[name] is None]
    found = [window for window in windows.values() if window is not None]
    if missing or not found:
        return CoOccurrence(0.0, 1.0, None, names, f"no window for {', '.join(missing or names)}")
    starts, ends = np.array(found).T
    low, high = min(axis[0], starts.min()), max(axis[1], ends.max())
    lengths = ends - starts
    n_pairs = len(names) * (len(names) - 1) / 2
    observed = _shared(starts[None], lengths, high - low)[0] / n_pairs
    shifted = np.random.default_rng(seed).uniform(0, high - low, (n_shuffles, len(found)))
    chance = _shared(shifted, lengths, high - low) / n_pairs
    as_much = int((chance >= observed - 1e-12).sum())
    shared = float(np.exp(starts.max())), float(np.exp(ends.min()))
    return CoOccurrence(
        overlap=float(observed),
        p_value=(1 + as_much) / (1 + n_shuffles),
        shared_window=shared if shared[0] < shared[1] and len(found) == len(names) else None,
        markers=names,
    )


def _shared(
    starts: Float[np.ndarray, "shuffle marker"], lengths: Sequence[float], circle: float
) -> Float[np.ndarray, " shuffle"]:
    """Intersection over union of windows on a circle, summed over pairs."""
    total = np.zeros(len(starts))
    for i, j in combinations(range(starts.shape[1]), 2):
        ahead = (starts[:, j] - starts[:, i]) % circle
        both = np.clip(np.minimum(lengths[i] - ahead, lengths[j]), 0, None)
        both += np.clip(np.minimum(lengths[i], ahead + lengths[j] - circle), 0, None)
        either = lengths[i] + lengths[j] - both
        total += np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return total
