"""Zero heads, measure the loss on the tokens that count for a task, and compare with as many random heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..errors import ModelError
from ..lens import ABLATION_MAX_BYTES, Lens, transformer_lens_version
from ..scores.matching_prompts import MatchingPrompts
from ..scores.nulls import surprise
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number
from .against_random import AMONG, Among, random_heads
from .losses import KINDS, Kind, Named, head_sets, label, losses_without


@undisturbed()
def compare_on_prompts(
    model: Any,
    prompts: MatchingPrompts,
    heads: Sequence[Named],
    n_draws: int = 50,
    seed: int = 0,
    kind: Kind = "full",
    among: Among = "same layers",
    max_bytes: int = ABLATION_MAX_BYTES,
    progress: bool = True,
) -> xr.Dataset:
    """Rise of the loss on a task's counted tokens when `heads` are zeroed together, against other heads.

    `model` is as in `scan_heads`; `prompts` name the tokens in `counted`, as `category_prompts` and
    `word_list_prompts` do. `heads`, `n_draws`, `seed`, `kind`, `among`, `max_bytes` and `progress` are as in
    `compare_with_random_heads`.

    Returns, for each set of counted tokens (counted): `baseline_loss`, `loss_rise`, `p`, the share of draws, the heads
    themselves counted among them, that raise it as much or more, and `random_loss_rise` (draw, counted). Losses are
    means over the counted tokens, in nats per token.

    A rise does not show that the heads do the task: what the rest of the model reads in their place may mislead it.
    Compare the rises on several sets and on shuffled prompts. Raises ModelError if the prompts count nothing, or as
    `compare_with_random_heads` does.

    >>> from inductionkit.scores.matching_prompts import NOTHING
    >>> from inductionkit.testing import hand_built_model
    >>> import torch
    >>> tokens = torch.tensor([[0, 5, 6, 7, 5, 6, 7]])
    >>> seeks, offers = torch.full((2, 1, 7), NOTHING)
    >>> seeks[0, 4], offers[0, 2] = 6, 6
    >>> again = torch.arange(7)[None] >= 5
    >>> prompts = MatchingPrompts("twice", tokens, sought=seeks, offered=offers, counted={"again": again})
    >>> model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
    >>> found = compare_on_prompts(model, prompts, [(1, 0)], progress=False)
    >>> round(float(found.loss_rise.sel(counted="again")), 2), float(found.random_loss_rise.max())
    (0.96, 0.0)
    """
    for name, value, known in (("kind", kind, KINDS), ("among", among, AMONG)):
        if value not in known:
            raise ModelError(f"{name}={value!r}: there are {' and '.join(known)}")
    n_draws = whole_number(n_draws, "n_draws", 1, ModelError)
    seed = whole_number(seed, "seed", 0, ModelError)
    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))
    if not getattr(prompts, "counted", None):
        raise ModelError(f"the prompts count no tokens; give MatchingPrompts with `counted`, seen {prompts!r:.60}")
    lens = model if isinstance(model, Lens) else Lens(model)
    lens.check_tokens(prompts.tokens)
    [chosen] = head_sets(lens, [heads])
    draws = random_heads(lens, chosen, n_draws, seed, among)
    sets = [chosen, *draws]
    marks = np.stack([marks.numpy()[:, 1:] for marks in prompts.counted.values()]).astype(np.float64)
    loss = np.zeros((1 + len(sets), len(marks)))
    with progress_bar(progress) as bar:
        task = bar.add_task(f"ablating random heads of {lens.name}", total=len(sets), at="")
        parts = losses_without(lens, prompts.tokens, sets, kind, max_bytes, lambda n: bar.advance(task, n))
        for sequences, which, losses in parts:
            loss[which] += np.einsum("asp,csp->ac", losses, marks[:, sequences])
    loss /= marks.sum((1, 2))
    rise, random_rise = loss[1] - loss[0], loss[2:] - loss[0]
    p = [surprise(own[None], others)[0] for own, others in zip(rise, random_rise.T)]
    found = {
        "baseline_loss": ("counted", loss[0], "nats/token", "mean loss, no head zeroed"),
        "loss_rise": ("counted", rise, "nats/token", "rise of the mean loss, the heads zeroed"),
        "p": ("counted", p, "1", "share of draws, the heads among them, that raise the loss as much or more"),
        "random_loss_rise": (("draw", "counted"), random_rise, "nats/token", "rise of the mean loss, others zeroed"),
    }
    return xr.Dataset(
        {
            name: (dims, values, {"units": units, "long_name": about})
            for name, (dims, values, units, about) in found.items()
        },
        {"counted": list(prompts.counted), "draw": [label(draw) for draw in draws]},
        {
            "model": lens.label,
            **{f"prompts_{name}": value for name, value in prompts.settings.items()},
            "prompts": prompts.name,
            "heads": label(chosen),
            "kind": kind,
            "among": among,
            "seed": seed,
            "transformer_lens": transformer_lens_version(),
        },
    )
