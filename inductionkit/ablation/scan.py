"""Ablations of one model, and along a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from ..lens import ABLATION_MAX_BYTES, Lens
from ..runs import Run
from ..scores.icl import icl_score
from ..system.progress import progress_bar
from .losses import LONG_NAMES, Head, Kind, head_sets, label, mean_losses, settings

_Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]


def ablate_heads(
    model: Any,
    tokens: Int[Tensor, "sequence position"],
    heads: Sequence[Head | Sequence[Head]] | None = None,
    kind: Kind = "full",
    max_bytes: int = ABLATION_MAX_BYTES,
    progress: bool = True,
) -> xr.Dataset:
    """Loss by position, mean loss and in-context-learning score with heads zeroed, in nats per token (O22).

    `heads` is a list: each entry a (layer, head) pair, zeroed on its own, or a list of pairs, zeroed
    together; by default all heads in turn. Zeroing a head sets its `hook_z`, attention-weighted values,
    to 0; the output bias stays, and with it any value bias that was folded into it. With `kind="full"`
    everything downstream changes, with `"pattern_preserving"` all attention patterns stay those of the
    model without ablation: only what is moved along them changes.

    `loss_by_position` (layer, head, position), or (ablation, position) for a list of heads, `loss` and
    `icl_score` are those with heads zeroed; `baseline_...` those without; `..._change` the former less
    the latter. `position` is the index of the predicted token, from 1 on. A head worth having has
    `loss_change` above 0, one that in-context learning rests on `icl_score_change` above 0. The token
    indices of the score are those of `icl_settings`, scaled to the prompts; they stand in the attributes.

    A large change does not show what a head does, only that the rest of the model, which never met its
    absence, relies on it; a small one does not show that it does nothing: another head may stand in.
    Effects do not add up: zero heads together to see what they do together.

    Nothing is computed anew that cannot change: a pass with a head zeroed starts after it, and several
    are made at once, in about `max_bytes`; `progress` shows a bar. `model` is as in `scan_heads`, and leaves as it
    came.
    Raises ModelError if heads, kind or tokens do not fit the model, the model cannot be run or its
    weights are not finite, or its patterns cannot be frozen.

    >>> from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
    >>> from inductionkit.testing import perfect_induction_model
    >>> tokens = repeated_random_tokens(40, 0, PromptSettings(4))
    >>> found = ablate_heads(perfect_induction_model(), tokens, progress=False)
    >>> bool(found.icl_score_change.sel(layer=1, head=0) > 0.1)  # the induction head
    True
    >>> float(found.icl_score_change.sel(layer=1, head=1))  # an idle one
    0.0
    """
    lens = Lens(model)
    sets = head_sets(lens, heads)
    with progress_bar(progress) as bar:
        task = bar.add_task(f"ablating heads of {lens.name}", total=len(sets), at="")
        losses = mean_losses(lens, tokens, sets, kind, max_bytes, lambda n: bar.advance(task, n))
    return _labelled(losses, lens, sets, heads is None, settings(lens.name, tokens, kind))


def scan_ablations(
    run: Run,
    tokens: Int[Tensor, "sequence position"] | None = None,
    heads: Sequence[Head | Sequence[Head]] | None = None,
    kind: Kind = "full",
    n_evaluation: int = 32,
    max_bytes: int = ABLATION_MAX_BYTES,
    progress: bool = True,
) -> xr.Dataset:
    """`ablate_heads` at every checkpoint of a run: its variables with a `step` before, in nats per token.

    `tokens` are by default `n_evaluation` examples of the run's held-out text, taken evenly; the same at
    every checkpoint. `heads`, `kind` and `max_bytes` are as in `ablate_heads`; `progress` shows a bar. Choose
    checkpoints when opening the run. The result has the coordinates `step` and `tokens_seen`
    (NaN where unknown) of a history. Raises RunError or ModelError if a checkpoint cannot be read, the run has
    no held-out text and none is given, or as `ablate_heads` does.
    """
    lens = Lens(run.standing_model())
    tokens = _held_out(run, n_evaluation) if tokens is None else tokens
    sets = head_sets(lens, heads)
    about = {**settings(run.name, tokens, kind), "fingerprints": json.dumps(dict(run.fingerprints), sort_keys=True)}
    found = []
    with progress_bar(progress) as bar:
        task = bar.add_task(f"ablating heads of {run.name}", total=len(run.checkpoints) * len(sets), at="")
        for checkpoint in run.checkpoints:
            bar.update(task, at=f"step {checkpoint.step:,}")
            checkpoint.load_into(lens.model)
            losses = mean_losses(lens, tokens, sets, kind, max_bytes, lambda n: bar.advance(task, n))
            found.append(_labelled(losses, lens, sets, heads is None, about))
    tokens_seen = [np.nan if each.tokens_seen is None else each.tokens_seen for each in run.checkpoints]
    return xr.concat(found, dim="step", combine_attrs="override").assign_coords(
        step=("step", run.steps, {"long_name": "optimiser step"}),
        tokens_seen=("step", tokens_seen, {"units": "tokens", "long_name": "training tokens seen"}),
    )


def _labelled(
    losses: Float[np.ndarray, "ablation position-1"],
    lens: Lens,
    sets: list[list[Head]],
    in_turn: bool,
    about: dict[str, Any],
) -> xr.Dataset:
    icl = {name: about[name] for name in ("icl_early", "icl_late", "icl_half_width")}
    position = np.arange(1, losses.shape[1] + 1)
    coords: dict[str, Any] = {"position": ("position", position, {"long_name": "index of the predicted token"})}
    if in_turn:
        dims: tuple[str, ...] = ("layer", "head")
        coords |= {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads)}
    else:
        dims = ("ablation",)
        coords["ablation"] = [label(heads) for heads in sets]

    def arranged(values: np.ndarray) -> np.ndarray:
        if not in_turn:
            return values.astype(np.float32)
        every = np.full((lens.n_layers, lens.n_heads, *values.shape[1:]), np.nan, np.float32)
        every[tuple(zip(*(heads[0] for heads in sets)))] = values
        return every

    found = {"loss_by_position": losses, "loss": losses.mean(1), "icl_score": icl_score(losses, **icl)}
    data = {}
    for name, values in found.items():
        last = ("position",) if values.ndim == 2 else ()

        def variable(dims: tuple[str, ...], values: np.ndarray, what: str, name: str = name) -> _Variable:
            about = {"units": "nats/token", "long_name": f"{LONG_NAMES[name]}{what}", "reference": "O22"}
            return dims, values, about

        data[name] = variable((*dims, *last), arranged(values[1:]), ", heads zeroed")
        data[f"baseline_{name}"] = variable(last, values[0].astype(np.float32), ", no head zeroed")
        changes = arranged(values[1:] - values[0])
        data[f"{name}_change"] = variable((*dims, *last), changes, ", change by zeroing heads")
    return xr.Dataset(data, coords, about)


def _held_out(run: Run, n_evaluation: int) -> Int[Tensor, "sequence position"]:
    held_out = run.held_out()
    if held_out is None:
        raise ModelError(f"the run {run.name} comes without held-out text; pass tokens of its training distribution")
    return torch.from_numpy(held_out[:: max(1, len(held_out) // n_evaluation)][:n_evaluation].astype(np.int64))
