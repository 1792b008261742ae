"""`scan_run`: everything that a history holds, at every checkpoint of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ..errors import ModelError, RunError
from ..history import HISTORY
from ..lens import Lens
from ..runs import Run
from ..scores.prompts import PromptSettings
from .attention import attention
from .circuit_tracing import circuit_tracing
from .engine import OnError, scan_source
from .heads import DEFAULT_SCORES, head_scoring
from .held_out import Rows, run_held_out
from .losses import Losses
from .measurement import Measurement

N_EVALUATION = 128  # held-out examples per checkpoint


def scan_run(
    run: Run,
    held_out: Any = None,
    texts: Mapping[str, Sequence[int]] | None = None,
    scores: Sequence[str] = DEFAULT_SCORES,
    prompts: PromptSettings = PromptSettings(),
    n_evaluation: int = N_EVALUATION,
    n_nulls: int = 0,
    circuit: bool = False,
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """Scan the checkpoints of a run: a history (step, layer, head, …), see `inductionkit.history`.

    Per checkpoint: the head scores, the loss by position on the same `n_evaluation` held-out examples, the
    in-context-learning score, and the attention patterns on `texts` (token ids by name; default: repeated random tokens
    and the beginning of a held-out example).

    `held_out` is text of the training distribution that training never saw: token ids (sequence, position), a column of
    a tokenised data set with rows of one length, or a stream of ids, which is cut to rows of 512 tokens. By default it
    is the run's own. Examples are taken evenly from it.

    `scores` and `prompts` are as in `scan_heads`, `progress` shows a bar. With `n_nulls`, the scores' null
    distributions are those of as many models with the matrices of the last measured checkpoint drawn at random. With
    `circuit`, the edges of the induction circuit are traced at each checkpoint (`induction_circuit` says how), and the
    explorer shows the circuit.

    With a `store` (a Zarr folder, or a URL that fsspec reaches), results are kept as they come, each checkpoint whole
    or not at all, and a scan that was interrupted goes on where it was. A store takes results of one run, measured in
    one way: held-out tokens, prompts, tokenizer, architecture, tokens seen and weights are compared. For the last, all
    stored checkpoints of a listed run are read again, and the first and the last of a folder.

    With an `executor` of `concurrent.futures` (a thread or process pool, `RestartingPool`, Dask's
    `client.get_executor()`) its workers measure and this process writes. Each thread that measures has a model of its
    own. Results do not depend on the executor.

    A checkpoint that cannot be read or does not fit raises its RunError or ModelError; with
    `on_error="skip"` the scan goes on, and the attribute `skipped` tells step and reason. The attribute
    `identical_weights` lists steps whose checkpoints have the same weights, where there are any.

    Raises ModelError if held-out text, texts, scores or prompts do not fit the model, HistoryError if the store holds
    something else or cannot be written, RunError if no checkpoint can be measured.
    """
    if not isinstance(run, Run):
        raise RunError(f"scan_run takes a run, not a {type(run).__name__}; open one with open_run(...)")

    def everything(lens: Lens, _: Run | None) -> list[Measurement]:
        if circuit and "prefix_matching" not in scores and scores != "all":
            raise ModelError("circuit=True needs prefix_matching among the scores, which says which heads match")
        rows = run_held_out(run, held_out, lens, n_evaluation)
        found = run_measurements(lens, rows, texts, scores, prompts)
        return [*found, circuit_tracing(lens, prompts, rows)] if circuit else found

    return scan_source(run, everything, HISTORY, n_nulls, store, executor, on_error, progress)


def run_measurements(
    lens: Lens,
    held_out: Rows,
    texts: Mapping[str, Sequence[int]] | None,
    scores: Sequence[str],
    prompts: PromptSettings,
) -> list[Measurement]:
    """What `scan_run` and `TrainingWatch` measure, made ready for a model."""
    return [
        head_scoring(lens, scores, prompts=prompts, held_out=held_out),
        Losses(held_out),
        attention(lens, texts, prompts, held_out),
    ]
