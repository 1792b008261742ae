"""Ablations of one model, and along a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int

from ..errors import ModelError
from ..lens import ABLATION_MAX_BYTES, Lens
from ..runs import Run
from ..scan.engine import OnError, scan_source
from ..scan.held_out import held_out_rows, run_held_out
from ..scan.measurement import Advance, Measurement, fingerprint, silently
from ..scan.run_scan import N_EVALUATION
from ..scores.icl import icl_score, icl_settings
from ..system.real_numbers import real_number
from .losses import KINDS, LONG_NAMES, Head, Kind, Named, head_sets, label, mean_losses, settings

_Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]


@dataclass(frozen=True)
class Ablations(Measurement):
    """Losses with each of `sets` of heads zeroed, on `held_out`; `in_turn` if they are all heads, each on its own."""

    held_out: Int[np.ndarray, "sequence position"]
    sets: list[list[Head]]
    in_turn: bool
    kind: Kind
    max_bytes: int

    def settings(self) -> dict[str, Any]:
        return {
            **settings(self.held_out, self.kind),
            "max_bytes": self.max_bytes,
            "ablated": "each head" if self.in_turn else json.dumps(self.sets),
            "held_out_fingerprint": fingerprint(self.held_out),
        }

    def n_parts(self, lens: Lens) -> float:
        return len(self.sets)

    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        losses = mean_losses(lens, torch.from_numpy(self.held_out), self.sets, self.kind, self.max_bytes, advance)
        return _labelled(losses, lens, self.sets, self.in_turn)


def scan_ablations(
    source: Any,
    held_out: Any = None,
    heads: Sequence[Named | Sequence[Named]] | None = None,
    kind: Kind = "full",
    n_evaluation: int = N_EVALUATION,
    max_bytes: int = ABLATION_MAX_BYTES,
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """Loss by position, mean loss and in-context-learning score with heads zeroed, in nats per token (O22).

    `source` is a model, as in `scan_heads`, or a run, whose every checkpoint is measured. `held_out` is text of the
    training distribution, as in `scan_run`; `n_evaluation` of its rows are used, the same at every checkpoint. A model
    needs it, for a run it is by default the run's own.

    `heads` is a list: each entry a (layer, head) pair or its label, such as "1.3", zeroed on its own, or a list of
    these, zeroed together; by default all heads in turn. Zeroing a head sets its `hook_z`, attention-weighted values,
    to 0; the output bias stays, and with it any value bias that was folded into it. With `kind="full"` everything
    downstream changes, with `"pattern_preserving"` all attention patterns stay those of the model without ablation:
    only what is moved along them changes.

    `loss_by_position` (layer, head, position), or (ablation, position) for a list of heads, with `step` before for a
    run, `loss` and `icl_score` are those with heads zeroed; `baseline_...` those without; `..._change` the former less
    the latter. `position` is the index of the predicted token, from 1 on. A head worth having has `loss_change` above
    0, one that in-context learning rests on `icl_score_change` above 0. The token indices of the score are those of
    `icl_settings`, scaled to the prompts; they are among the attributes.

    A large change does not show what a head does, only that the rest of the model, which never met its absence, relies
    on it; a small one does not show that it does nothing: another head may stand in. Effects do not add up: zero heads
    together to see what they do together.

    Nothing is computed again that cannot change: a pass with a head zeroed starts after it, and several are made at
    once, in about `max_bytes`. `store`, `executor`, `on_error` and `progress` are as in `scan_run`; the first three are
    for runs alone. A model leaves as it came.

    Raises ModelError if heads, kind or held-out text do not fit the model, the model cannot be run or its weights are
    not finite, or its patterns cannot be frozen; RunError and HistoryError as `scan_run` does.

    >>> from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
    >>> from inductionkit.testing import perfect_induction_model
    >>> tokens = repeated_random_tokens(40, 0, PromptSettings(4))
    >>> found = scan_ablations(perfect_induction_model(), tokens, progress=False)
    >>> bool(found.icl_score_change.sel(layer=1, head=0) > 0.1)  # the induction head
    True
    >>> float(found.icl_score_change.sel(layer=1, head=1))  # an idle one
    0.0
    """
    if kind not in KINDS:
        raise ModelError(f"kind={kind!r}: there are {' and '.join(KINDS)}")
    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))

    def ablations(lens: Lens, run: Run | None) -> list[Ablations]:
        if run is not None:
            rows = run_held_out(run, held_out, lens, n_evaluation)
        else:
            rows = held_out_rows(held_out, lens, n_evaluation)
        return [Ablations(rows, head_sets(lens, heads), heads is None, kind, max_bytes)]

    return scan_source(source, ablations, "ablations", 0, store, executor, on_error, progress)


def _labelled(
    losses: Float[np.ndarray, "ablation position-1"],
    lens: Lens,
    sets: list[list[Head]],
    in_turn: bool,
) -> xr.Dataset:
    icl = icl_settings(losses.shape[1] + 1)
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
    return xr.Dataset(data, coords)
