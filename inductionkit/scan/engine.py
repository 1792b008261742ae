"""The one way in which models are measured: a single model, or every checkpoint of a run, into a store.

`scan_source` is behind every `scan_*`. Each thread that measures has a standing model of its own, built for this scan
alone, into which checkpoints are loaded one after another.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from ..errors import HistoryError, InductionKitError, ModelError, RunError
from ..history import SCHEMA_VERSION
from ..lens import Lens
from ..runs import Run
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.whole_numbers import whole_number
from .checkpoints import CheckpointTask, measured, null_distributions
from .in_memory import HistoryInMemory, LogRow
from .measurement import Measurement, identity, measure_all, settings_of
from .store import HistoryStore

OnError = Literal["stop", "skip"]
Prepare = Callable[[Lens, Run | None], Sequence[Measurement]]

MANY_PARAMETERS = 300_000_000  # from here on measuring one model takes long enough to be watched


@undisturbed()
def scan_source(
    source: Any,
    prepare: Prepare,
    contents: str,
    n_nulls: int = 0,
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """Measure a model, or every checkpoint of a run, with the measurements that `prepare` makes ready for it.

    `contents` says what the result is. The other parameters are as in `scan_run`. Raises ModelError where a model is
    given with `store`, `executor` or `on_error`.
    """
    if on_error not in ("stop", "skip"):
        raise RunError(f"on_error={on_error!r}: there are 'stop' and 'skip'")
    n_nulls = whole_number(n_nulls, "n_nulls", 0, ModelError)
    if executor is not None and not isinstance(executor, Executor):
        raise RunError(f"executor={executor!r} is not an executor of concurrent.futures")
    if isinstance(source, Run):
        return _scan_run(source, prepare, contents, n_nulls, store, executor, on_error, progress)
    if store is not None or executor is not None or on_error != "stop":
        raise ModelError("store=, executor= and on_error= are for a run with checkpoints; leave them out for a model")
    lens = source if isinstance(source, Lens) else Lens(source)
    return _scan_model(lens, prepare, contents, n_nulls, progress)


def _scan_model(lens: Lens, prepare: Prepare, contents: str, n_nulls: int, progress: bool) -> xr.Dataset:
    measurements = prepare(lens, None)
    parts = [each.n_parts(lens) for each in measurements]
    total = None if None in parts else sum(part for part in parts if part is not None)
    with progress_bar(progress and (total is not None or lens.n_parameters >= MANY_PARAMETERS)) as bar:
        task = bar.add_task(f"{contents} of {lens.name}", total=total, at="")
        found = measure_all(measurements, lens, lambda n: bar.advance(task, n))
        nulls = [
            each.nulls(lens, range(n_nulls), lambda n: bar.advance(task, n)) for each in measurements if each.has_nulls
        ]
    about = {"schema_version": SCHEMA_VERSION, "model": lens.label, **settings_of(measurements, contents)}
    return xr.merge([found, *nulls], combine_attrs="override").assign_attrs({**about, **found.attrs})


def _scan_run(
    run: Run,
    prepare: Prepare,
    contents: str,
    n_nulls: int,
    store: str | Path | None,
    executor: Executor | None,
    on_error: OnError,
    progress: bool,
) -> xr.Dataset:
    built = Lens(run.standing_model())
    measurements = tuple(prepare(built, run))
    settings = run_settings(run, measurements, contents) | {"n_nulls": n_nulls}
    settings["identity"] = identity(settings)
    task = CheckpointTask.of(run, measurements)
    constants = constants_of(measurements, run.tokenizer_json())
    kept = (
        HistoryInMemory(settings, constants) if store is None else HistoryStore(store, settings, constants, run.steps)
    )
    skipped: dict[int, str] = {}
    try:
        _refuse_other_run(task, built, kept)
        lens = built if executor is None else None  # workers have models of their own
        del built
        kept.write_log(_log_of(run))
        stored = set(kept.steps)
        missing = [step for step in run.steps if step not in stored]
        with progress_bar(progress) as bar:
            shown = bar.add_task(
                f"{contents} of {run.name}", total=len(run.steps), completed=len(run.steps) - len(missing), at=""
            )
            for step, result in measured(task, lens, missing, executor):
                if isinstance(result, InductionKitError):
                    if on_error == "stop":
                        raise result
                    skipped[step] = str(result)
                else:
                    kept.write(step, result)
                bar.update(shown, advance=1, at=f"step {step:,}")
        measured_steps = [step for step in run.steps if step in set(kept.steps)]
        if not measured_steps:
            raise RunError(f"no checkpoint of {run.name} could be measured: {'; '.join(skipped.values())}")
        scored = any(each.has_nulls for each in measurements)
        if n_nulls and scored and kept.nulls_from != measured_steps[-1]:
            kept.write_nulls(null_distributions(task, lens, measured_steps[-1], n_nulls, executor))
        chosen = kept.read().sel(step=measured_steps)
    finally:
        kept.close()
    return chosen.assign_attrs({"skipped": json.dumps(skipped)} if skipped else {}).assign_attrs(_repeats(chosen))


def run_settings(run: Run, measurements: Sequence[Measurement], contents: str) -> dict[str, Any]:
    """Everything that must be the same for two results to stand side by side, as attributes of the history."""
    return {
        "schema_version": SCHEMA_VERSION,
        **settings_of(measurements, contents),
        "model": run.name,
        "fingerprints": json.dumps(dict(run.fingerprints), sort_keys=True),
        "architecture": hashlib.sha256(run.architecture.description.encode()).hexdigest(),
        "device": run.device or "as opened",
        "tokenizer": tokenizer_fingerprint(run.tokenizer_json()),
    }


def tokenizer_fingerprint(tokenizer_json: str | None) -> str:
    """A tokenizer in short, "none" where there is none."""
    return "none" if tokenizer_json is None else hashlib.sha256(tokenizer_json.encode()).hexdigest()


def constants_of(measurements: Sequence[Measurement], tokenizer_json: str | None) -> xr.Dataset:
    """The variables that no checkpoint changes."""
    return xr.merge([each.constants(tokenizer_json) for each in measurements], combine_attrs="override")


def _log_of(run: Run) -> list[LogRow]:
    rows = [
        (int(record["step"]), np.nan if record.get("tokens_seen") is None else record["tokens_seen"], record["loss"])
        for record in run.log()
        if "loss" in record
    ]
    return sorted(rows, key=lambda row: row[0])


def _refuse_other_run(task: CheckpointTask, lens: Lens, kept: HistoryInMemory | HistoryStore) -> None:
    """Raise HistoryError if what is stored is of other weights, or of another count of tokens, than the run's steps.

    Nothing but their weights tells runs apart that the user lists, so all of their stored steps are read again; of
    a folder the first and the last. Downloads are told apart by their repository and its revisions.
    """
    run = task.run
    known = [step for step in run.steps if step in set(kept.steps)]
    if not known:
        return
    stored = kept.read(["weights_digest", "tokens_seen"])
    for step in known:
        now, then = run.checkpoint(step).tokens_seen, stored["tokens_seen"].sel(step=step).item()
        if not np.array_equal(np.nan if now is None else now, then, equal_nan=True):
            raise HistoryError(
                f"the store says that {then:,.0f} tokens were seen at step {step}, the run says {now}; choose another "
                f"store or give the same tokens_per_step"
            )
    if run.kept_bytes is not None:
        return
    for step in known if not run.fingerprints else sorted({known[0], known[-1]}):
        try:
            digest = task.load(lens, step, task.read(step))
        except InductionKitError:  # gone or damaged since; what it gave is in the store
            continue
        if stored["weights_digest"].sel(step=step).item() != digest:
            raise HistoryError(
                f"the store holds a scan of other weights: at step {step} those of {run.name} differ from those that "
                f"were measured; choose another store or remove it"
            )


def _repeats(history: xr.Dataset) -> dict[str, str]:
    """The attribute `identical_weights`: lists of steps with the same weights, where there are any."""
    steps_of = defaultdict(list)
    for step, digest in zip(history["step"].values.tolist(), history["weights_digest"].values.tolist()):
        steps_of[digest].append(step)
    repeats = [steps for steps in steps_of.values() if len(steps) > 1]
    if not repeats:
        return {}
    warnings.warn(
        f"checkpoints of different steps have identical weights: {repeats}; check that the source serves each "
        f"checkpoint under its own name",
        RuntimeWarning,
        stacklevel=2,
    )
    return {"identical_weights": json.dumps(repeats)}
