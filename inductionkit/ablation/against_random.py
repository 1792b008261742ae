"""Induction heads against equally many other heads: whether it matters which ones are zeroed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain, combinations, product
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from ..errors import ModelError
from ..lens import ABLATION_MAX_BYTES, Lens
from ..scan.held_out import held_out_rows
from ..scores.icl import icl_score, icl_settings
from ..scores.nulls import surprise
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number
from .losses import KINDS, LONG_NAMES, Head, Kind, Named, head_sets, label, losses_without, settings

Among = Literal["same layers", "all layers"]

AMONG = ("same layers", "all layers")
N_RESAMPLES = 1000
INTERVAL = (0.025, 0.975)


@undisturbed()
def compare_with_random_heads(
    model: Any,
    held_out: Any,
    heads: Sequence[Named],
    n_draws: int = 50,
    seed: int = 0,
    kind: Kind = "full",
    among: Among = "same layers",
    icl_before: float = 0.0,
    max_bytes: int = ABLATION_MAX_BYTES,
    progress: bool = True,
) -> xr.Dataset:
    """Share of the in-context-learning score lost by zeroing `heads` together, against other heads (O22).

    The share is `(icl_score - baseline_icl_score) / (icl_before - baseline_icl_score)`: 0 if nothing is
    lost, 1 if the score falls back to `icl_before`, above 1 beyond it. With `icl_before` the score before
    the phase change, it is the share of what was gained in the window. It is NaN where there is nothing to
    lose, the baseline not being below `icl_before`.

    `heads` are (layer, head) pairs or labels such as "1.3"; for example `induction_heads(scores).index[:2]`. Each of
    `n_draws` (all there are, if fewer) is a different set of other heads: as many from each layer, since the layer
    alone decides how much of a model can react, or with `among="all layers"` from anywhere. `seed` sets which sets are
    drawn. `model`, `held_out` (all of whose rows are used), `kind`, `max_bytes` and `progress` are as in
    `scan_ablations`.

    Returns `share_lost`, with `share_lost_interval` (bound), 95 % of what resampled sequences give, and
    `random_share_lost` (draw), with `random_share_lost_interval` (bound), which 95 % of the draws lie in;
    `p`, the share of draws, the heads themselves counted among them, that lose as much or more; and
    the losses by position and scores that these come from, in nats per token.

    That other heads lose little does not show that each of `heads` matters, nor that they do the same on
    other text. Raises ModelError as `scan_ablations` does, or if there are too few other heads.

    >>> from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
    >>> from inductionkit.testing import hand_built_model
    >>> model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
    >>> tokens = repeated_random_tokens(40, 0, PromptSettings(4))
    >>> found = compare_with_random_heads(model, tokens, [(1, 0)], progress=False)
    >>> round(float(found.share_lost), 2), found.random_share_lost.values
    (1.0, array([0.]))
    """
    if kind not in KINDS:
        raise ModelError(f"kind={kind!r}: there are {' and '.join(KINDS)}")
    if among not in AMONG:
        raise ModelError(f"among={among!r}: there are {' and '.join(AMONG)}")
    n_draws = whole_number(n_draws, "n_draws", 1, ModelError)
    seed = whole_number(seed, "seed", 0, ModelError)
    icl_before = real_number(icl_before, "icl_before", "(-inf, inf)", ModelError)
    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))
    lens = Lens(model)
    rows = held_out_rows(held_out, lens)
    tokens = torch.from_numpy(rows)
    [chosen] = head_sets(lens, [heads])
    draws = random_heads(lens, chosen, n_draws, seed, among)
    sets = [chosen, *draws]
    with progress_bar(progress) as bar:
        task = bar.add_task(f"ablating random heads of {lens.name}", total=len(sets), at="")
        parts = losses_without(lens, tokens, sets, kind, max_bytes, lambda n: bar.advance(task, n))
        losses = np.empty((1 + len(sets), len(tokens), tokens.shape[1] - 1))
        for sequences, which, some in parts:
            losses[which, sequences] = some
    about = {"model": lens.label, **settings(rows, kind)}
    scores = icl_score(losses, **icl_settings(tokens.shape[1]))
    mean = scores.mean(1)
    before = icl_before if mean[0] < icl_before else np.nan
    share, *random_share = _shares(mean, before)
    [resampled] = _shares(_resampled_means(scores[:2], seed), before)
    p = surprise(np.array([share]), np.array(random_share))[0] if np.isfinite(share) else np.nan
    by_position = losses.mean(1)
    found = {
        "share_lost": ((), share),
        "share_lost_interval": ("bound", np.quantile(resampled, INTERVAL)),
        "random_share_lost": ("draw", random_share),
        "random_share_lost_interval": ("bound", np.quantile(random_share, INTERVAL)),
        "p": ((), p),
        "baseline_icl_score": ((), mean[0]),
        "icl_score": ((), mean[1]),
        "random_icl_score": ("draw", mean[2:]),
        "baseline_loss_by_position": ("position", by_position[0]),
        "loss_by_position": ("position", by_position[1]),
        "random_loss_by_position": (("draw", "position"), by_position[2:]),
    }
    return xr.Dataset(
        {name: (*variable, _about(name)) for name, variable in found.items()},
        {
            "draw": [label(draw) for draw in draws],
            "bound": ["low", "high"],
            "position": np.arange(1, losses.shape[2] + 1),
        },
        {**about, "heads": label(chosen), "among": among, "seed": seed, "icl_before": icl_before},
    )


def _about(name: str) -> dict[str, str]:
    if name == "p":
        return {"units": "1", "long_name": "share of draws, the heads among them, that lose as much or more"}
    what = "of other heads" if name.startswith("random_") else "of the heads"
    if "share_lost" in name:
        interval = "" if not name.endswith("interval") else ", from where to where 95 % lie"
        return {
            "units": "1",
            "long_name": f"share of the in-context-learning score that rests on the outputs {what}{interval}",
            "reference": "O22",
        }
    zeroed = "no head zeroed" if name.startswith("baseline_") else f"outputs {what} zeroed"
    measured = next(text for key, text in LONG_NAMES.items() if name.endswith(key))
    return {"units": "nats/token", "long_name": f"{measured}, {zeroed}", "reference": "O22"}


def random_heads(lens: Lens, chosen: list[Head], n_draws: int, seed: int, among: str) -> list[list[Head]]:
    """Different sets of heads other than `chosen`, as many in each."""
    others = [head for [head] in head_sets(lens, None) if head not in chosen]
    pools = [(others, len(chosen))]
    if among == "same layers":
        wanted = Counter(layer for layer, _ in chosen)
        pools = [([head for head in others if head[0] == layer], n) for layer, n in wanted.items()]
    for pool, n in pools:
        if len(pool) < n:
            raise ModelError(
                f"heads={label(chosen)}: {among} have {len(pool)} other heads to draw {n} from; "
                f"name fewer heads, or draw among 'all layers'"
            )
    if math.prod(math.comb(len(pool), n) for pool, n in pools) <= n_draws:
        return [sorted(chain(*parts)) for parts in product(*(combinations(pool, n) for pool, n in pools))]
    rng = np.random.default_rng(seed)
    found: dict[tuple[Head, ...], None] = {}
    while len(found) < n_draws:
        draw = [pool[i] for pool, n in pools for i in rng.choice(len(pool), n, replace=False)]
        found[tuple(sorted(draw))] = None
    return [list(draw) for draw in found]


def _shares(scores: Float[np.ndarray, "ablation ..."], icl_before: float) -> Float[np.ndarray, "ablation-1 ..."]:
    """What each ablation loses of what the first one, of no head, has."""
    shares: np.ndarray = (scores[1:] - scores[0]) / (icl_before - scores[0])
    return shares


def _resampled_means(
    scores: Float[np.ndarray, "ablation sequence"], seed: int
) -> Float[np.ndarray, "ablation resample"]:
    """Means over sequences drawn with replacement, the same ones for every ablation."""
    n = scores.shape[1]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    means: np.ndarray = scores @ counts.T / n
    return means
