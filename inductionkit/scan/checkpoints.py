"""Who measures which checkpoint: this process, reading ahead, or the workers of an executor."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InductionKitError, RunError
from ..history import VARIABLES
from ..lens import Lens, weights_digest
from ..runs import Run
from ..system.process_state import undisturbed
from .measurement import Measurement, measure_all

MAX_ATTEMPTS = 3  # of a checkpoint whose worker dies

Measured = tuple[int, xr.Dataset | InductionKitError]


@dataclass(frozen=True)
class CheckpointTask:
    """`measurements` on any checkpoint of `run`. Can be sent to a worker; `scan` is unique to one scan."""

    run: Run
    measurements: tuple[Measurement, ...]
    scan: str

    @classmethod
    def of(cls, run: Run, measurements: Sequence[Measurement]) -> CheckpointTask:
        return cls(run, tuple(measurements), uuid.uuid4().hex)

    def read(self, step: int) -> Mapping[str, Any]:
        """The weights of a checkpoint by name."""
        with _naming(step, "read"):
            return self.run.checkpoint(step).read()

    def load(self, lens: Lens, step: int, weights: Mapping[str, Any]) -> int:
        """Load a checkpoint's weights into the standing model; returns the digest of what it then has."""
        with _naming(step, "loaded"):
            self.run.checkpoint(step).load_into(lens.model, weights)
            return weights_digest(lens.model)

    def measure(self, lens: Lens, step: int, weights: Mapping[str, Any]) -> xr.Dataset:
        """Load a checkpoint's weights into the standing model and measure it: a history without `step`."""
        digest = self.load(lens, step, weights)
        with _naming(step, "measured"):
            found = measure_all(self.measurements, lens)
        return marked(found, self.run.checkpoint(step).tokens_seen, digest)

    def nulls(self, lens: Lens, step: int, n_nulls: int) -> xr.Dataset:
        """The null distributions of the scores, from the matrices of one checkpoint drawn at random."""
        with _naming(step, "measured"):
            self.run.checkpoint(step).load_into(lens.model)
            nulls = [each.nulls(lens, range(n_nulls)) for each in self.measurements if each.has_nulls]
        found = xr.merge(nulls, combine_attrs="override").drop_vars(["layer", "head"], errors="ignore")
        for score in found.data_vars.values():
            score.attrs["from_step"] = step
        return found


def marked(found: xr.Dataset, tokens_seen: float | None, digest: int) -> xr.Dataset:
    """What was measured at a step, with the tokens seen (None: unknown) and the digest of the weights."""
    variable = ((), np.array(digest, np.uint64), VARIABLES["weights_digest"].attrs)
    seen = np.nan if tokens_seen is None else float(tokens_seen)
    return found.assign(weights_digest=variable).assign_coords(tokens_seen=seen)


def measured(
    task: CheckpointTask, lens: Lens | None, steps: Sequence[int], executor: Executor | None
) -> Iterator[Measured]:
    """Results of the `steps`, or the error that a checkpoint gave, as they come.

    Without an executor they come in turn, the next checkpoint being read while one is measured on `lens`. A worker that
    dies costs its checkpoint a new attempt; if it takes the executor with it, the remaining checkpoints are measured in
    this process.
    """
    if executor is None:
        yield from _in_turn(task, lens, steps)
        return
    stranded = yield from _by_workers(task, steps, executor)
    if stranded:
        warnings.warn(
            f"the executor broke when a worker died; this process scans the remaining {len(stranded)} checkpoints",
            RuntimeWarning,
            stacklevel=2,
        )
        yield from _in_turn(task, lens, sorted(stranded))


def null_distributions(
    task: CheckpointTask, lens: Lens | None, step: int, n_nulls: int, executor: Executor | None
) -> xr.Dataset:
    """Null distributions from the checkpoint of `step`, by a worker where there is one. Raises what that gives."""
    if executor is not None:
        try:
            return executor.submit(_nulls_in_worker, task, step, n_nulls).result()
        except RuntimeError:  # broken or shut down
            pass
    return task.nulls(lens or standing_lens(task), step, n_nulls)


_standing = threading.local()


def standing_lens(task: CheckpointTask) -> Lens:
    """The model that stands in this thread since the scan's first checkpoint here.

    No other thread uses it, and no other scan: what else may differ between two runs, their models do not mix.
    """
    if getattr(_standing, "scan", None) != task.scan:
        _standing.lens = None  # one model a thread
        _standing.lens, _standing.scan = Lens(task.run.standing_model()), task.scan
    lens: Lens = _standing.lens
    return lens


@undisturbed()
def _measure_in_worker(task: CheckpointTask, step: int) -> xr.Dataset:
    return task.measure(standing_lens(task), step, task.read(step))


@undisturbed()
def _nulls_in_worker(task: CheckpointTask, step: int, n_nulls: int) -> xr.Dataset:
    return task.nulls(standing_lens(task), step, n_nulls)


def _in_turn(task: CheckpointTask, lens: Lens | None, steps: Sequence[int]) -> Iterator[Measured]:
    if not steps:
        return
    lens = lens or standing_lens(task)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        ahead = reader.submit(task.read, steps[0])
        for step, following in zip(steps, [*steps[1:], None]):
            weights: Mapping[str, Any] | InductionKitError
            result: xr.Dataset | InductionKitError
            try:
                weights = ahead.result()
            except InductionKitError as error:
                weights = error
            if following is not None:
                ahead = reader.submit(task.read, following)
            if isinstance(weights, InductionKitError):
                yield step, weights
                continue
            try:
                result = task.measure(lens, step, weights)
            except InductionKitError as error:
                result = error
            yield step, result


def _by_workers(task: CheckpointTask, steps: Sequence[int], executor: Executor) -> Generator[Measured, None, set[int]]:
    """Yields what the workers measure; returns the steps that are left when the executor takes no more."""
    attempts: Counter[int] = Counter()
    stranded: set[int] = set()
    waiting: dict[Future[xr.Dataset], int] = {}

    def submit(step: int) -> None:
        attempts[step] += 1
        try:
            waiting[executor.submit(_measure_in_worker, task, step)] = step
        except RuntimeError:  # broken or shut down
            stranded.add(step)

    try:
        for step in steps:
            submit(step)
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                step = waiting.pop(future)
                try:
                    yield step, future.result()
                except InductionKitError as error:
                    yield step, error
                except Exception as error:
                    if "pickle" in repr(error):  # another attempt would not help
                        raise RunError(
                            f"the run {task.run.name} cannot be sent to a worker process: {error!r}; use a pool of "
                            f"threads, or list loaders that are functions of a module and a Hugging Face model"
                        ) from error
                    if attempts[step] < MAX_ATTEMPTS:
                        submit(step)
                    else:
                        yield step, RunError(f"step {step} failed {MAX_ATTEMPTS} times, last with {error!r}")
    finally:
        for future in waiting:
            future.cancel()
    return stranded


@contextmanager
def _naming(step: int, done: str) -> Iterator[None]:
    """Errors about a checkpoint that say which it is, also those of a user's loader or of the libraries below."""
    try:
        yield
    except InductionKitError as error:
        raise type(error)(f"step {step}: {error}") from error
    except Exception as error:
        raise RunError(f"step {step} could not be {done}: {error!r}") from error
