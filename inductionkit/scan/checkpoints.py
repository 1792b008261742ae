"""Who measures which checkpoint: this process, reading ahead, or the workers of an executor."""

from __future__ import annotations

import hashlib
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ..errors import InductionKitError, RunError
from ..history import VARIABLES
from ..lens import Lens
from ..runs import Run
from .measurement import Measurement, measure_all

MAX_ATTEMPTS = 3  # of a checkpoint whose worker dies

Measured = tuple[int, xr.Dataset | InductionKitError]


class Weights(NamedTuple):
    """The weights of a checkpoint by name, and their digest."""

    by_name: Mapping[str, Any]
    digest: int


@dataclass(frozen=True)
class CheckpointTask:
    """`measurements` on any checkpoint of `run`. Can be sent to a worker; `scan` is unique to one scan."""

    run: Run
    measurements: tuple[Measurement, ...]
    scan: str

    @classmethod
    def of(cls, run: Run, measurements: Sequence[Measurement]) -> CheckpointTask:
        return cls(run, tuple(measurements), uuid.uuid4().hex)

    def read(self, step: int) -> Weights:
        by_name = self.run.checkpoint(step).read()
        return Weights(by_name, weights_digest(by_name))

    def measure(self, lens: Lens, step: int, weights: Weights) -> xr.Dataset:
        """Load a checkpoint's weights into the standing model and measure it: a history without `step`."""
        checkpoint = self.run.checkpoint(step)
        with _naming(step):
            checkpoint.load_into(lens.model, weights.by_name)
            found = measure_all(self.measurements, lens)
        tokens_seen = np.nan if checkpoint.tokens_seen is None else float(checkpoint.tokens_seen)
        digest = ((), np.array(weights.digest, np.uint64), VARIABLES["weights_digest"].attrs)
        return found.assign(weights_digest=digest).assign_coords(tokens_seen=tokens_seen)

    def nulls(self, lens: Lens, step: int, n_nulls: int) -> xr.Dataset:
        """The null distributions of the scores, from the matrices of one checkpoint drawn anew."""
        with _naming(step):
            self.run.checkpoint(step).load_into(lens.model)
            nulls = [each.nulls(lens, range(n_nulls)) for each in self.measurements if each.has_nulls]
        found = xr.merge(nulls, combine_attrs="override").drop_vars(["layer", "head"], errors="ignore")
        for score in found.data_vars.values():
            score.attrs["from_step"] = step
        return found


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


def weights_digest(weights: Mapping[str, Any]) -> int:
    """64 bits that are the same for the same tensors, under whatever names, and differ for others.

    Names are left out, and tensors that are there twice count once: files and models differ in both.
    """
    tensors = {_tensor_digest(weight) for weight in weights.values()}
    return int.from_bytes(hashlib.sha256(b"".join(sorted(tensors))).digest()[:8], "big")


def _tensor_digest(weight: Any) -> bytes:
    tensor = torch.as_tensor(weight).detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.digest()


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


def _measure_in_worker(task: CheckpointTask, step: int) -> xr.Dataset:
    return task.measure(standing_lens(task), step, task.read(step))


def _nulls_in_worker(task: CheckpointTask, step: int, n_nulls: int) -> xr.Dataset:
    return task.nulls(standing_lens(task), step, n_nulls)


def _in_turn(task: CheckpointTask, lens: Lens | None, steps: Sequence[int]) -> Iterator[Measured]:
    if not steps:
        return
    lens = lens or standing_lens(task)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        ahead = reader.submit(task.read, steps[0])
        for step, following in zip(steps, [*steps[1:], None]):
            weights: Weights | InductionKitError
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
                    if attempts[step] < MAX_ATTEMPTS:
                        submit(step)
                    else:
                        yield step, RunError(f"step {step} failed {MAX_ATTEMPTS} times, last with {error!r}")
    finally:
        for future in waiting:
            future.cancel()
    return stranded


@contextmanager
def _naming(step: int) -> Iterator[None]:
    """Errors about a checkpoint that say which it is."""
    try:
        yield
    except InductionKitError as error:
        raise type(error)(f"step {step}: {error}") from error
