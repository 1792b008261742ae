"""Scanning a run: every checkpoint measured once, by whatever workers there are, and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Int

from ..errors import HistoryError, InductionKitError
from ..lens import Lens
from ..runs import Run
from ..scores.prompts import PromptSettings
from ..system.progress import progress_bar
from ..system.zarr_files import is_url
from .checkpoint import CheckpointScan
from .head_scan import DEFAULT_SCORES, ScoreSettings
from .measurement import measurement
from .store import GrowingStore
from .workers import measured


def scan_run(
    run: Run,
    store: str | Path | None = None,
    texts: Mapping[str, Sequence[int]] | None = None,
    evaluation: Int[np.ndarray, "example token"] | None = None,
    prompts: PromptSettings = PromptSettings(),
    n_evaluation: int = 128,
    scores: Sequence[str] = DEFAULT_SCORES,
    n_nulls: int = 1,
    executor: Executor | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """Scan the checkpoints of a run: a history (step, layer, head, …), see `inductionkit.history`.

    Per checkpoint: the head scores, the loss by position on the same `n_evaluation` held-out examples
    (taken evenly from `evaluation`, by default the run's held-out text), the in-context-learning
    score, and the attention patterns on `texts` (token ids by name; default: repeated random tokens
    and the beginning of a held-out example).

    `scores` and `prompts` are as in `scan_heads`, `progress` shows a bar. The scores' null distributions are those of
    `n_nulls` models with the matrices of the last checkpoint drawn anew.

    With a `store` (a Zarr folder, or a URL that fsspec reaches), results are kept as they come, each
    checkpoint whole or not at all, and a scan that was interrupted goes on where it was. With an
    `executor` of `concurrent.futures` (`workers.RestartingPool`, a process pool, Dask's
    `client.get_executor()`) its workers measure, each with one standing model, and this process writes.

    A checkpoint that cannot be read or does not fit raises its RunError or ModelError; with
    `on_error="skip"` the scan goes on, and the attribute `skipped` tells step and reason. Raises
    HistoryError if the store holds a scan with other settings or cannot be written.
    """
    lens = Lens(run.standing_model())
    held_out = run.held_out() if evaluation is None else np.asarray(evaluation)
    if held_out is None:
        raise HistoryError(
            f"the run {run.name} comes without held-out text; pass evaluation=, tokens (example, token) "
            f"of its training distribution, up to {lens.n_ctx} each"
        )
    asked = ScoreSettings(scores, prompts=prompts)
    scan = CheckpointScan(run, measurement(lens, asked, held_out, n_evaluation, texts))
    settings = {**scan.settings(), "n_nulls": n_nulls}
    template = scan.template()
    if store is None or is_url(store) or not Path(store).exists():
        template = template.merge(scan.nulls(lens, n_nulls))
    results: dict[int, xr.Dataset] = {}
    skipped: dict[int, str] = {}
    with (
        nullcontext() if store is None else GrowingStore(store, template, settings) as growing,
        progress_bar(progress) as bar,
    ):
        missing = run.steps if growing is None else growing.missing_steps()
        n_done = len(run.steps) - len(missing)
        task = bar.add_task(f"scanning {run.name}", total=len(run.steps), completed=n_done, at="")
        for step, result in measured(scan, lens, missing, executor):
            if isinstance(result, InductionKitError):
                if on_error == "stop":
                    raise result
                skipped[step] = str(result)
            elif growing is None:
                results[step] = result
            else:
                growing.write(step, result)
            bar.update(task, advance=1, at=f"step {step:,}")
        told = {"skipped": json.dumps(skipped)} if skipped else {}
        if growing is not None:
            return growing.open().assign_attrs(told)
    steps = [step for step in run.steps if step in results]
    whole = xr.concat([results[step] for step in steps], dim="step", combine_attrs="override")
    kept = template.sel(step=steps).drop_vars(list(whole.data_vars))
    return kept.merge(whole).assign_attrs(settings | told)
