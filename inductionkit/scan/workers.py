"""Who measures which checkpoint: this process, reading ahead, or the workers of an executor."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

import torch
import xarray as xr

from ..errors import InductionKitError, RunError
from ..lens import Lens
from .checkpoint import CheckpointScan

MAX_ATTEMPTS = 3  # of a checkpoint whose worker dies

Measured = tuple[int, xr.Dataset | InductionKitError]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def measured(scan: CheckpointScan, lens: Lens, steps: Sequence[int], executor: Executor | None) -> Iterator[Measured]:
    """Results of the `steps`, or the error that a checkpoint gave, as they come.

    Without an executor they come in turn, the next checkpoint being read while one is measured on
    `lens`. A worker that dies costs its checkpoint a new attempt; if it takes the executor with it,
    the remaining checkpoints are measured in this process.
    """
    if executor is None:
        yield from _in_turn(scan, lens, steps)
        return
    stranded = yield from _by_workers(scan, steps, executor)
    if stranded:
        warnings.warn(
            f"the executor broke when a worker died; this process scans the remaining {len(stranded)} checkpoints",
            RuntimeWarning,
            stacklevel=2,
        )
        yield from _in_turn(scan, lens, sorted(stranded))


class RestartingPool(Executor):
    """An executor: a pool of `n_workers` processes that is set up anew when a worker that died has broken it."""

    def __init__(self, n_workers: int):
        self._n_workers = n_workers
        self._pool = self._start()

    def submit(
        self, function: Callable[Arguments, Result], /, *arguments: Arguments.args, **keywords: Arguments.kwargs
    ) -> Future[Result]:
        try:
            return self._pool.submit(function, *arguments, **keywords)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._start()
            return self._pool.submit(function, *arguments, **keywords)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _start(self) -> ProcessPoolExecutor:
        n_threads = max(1, (os.cpu_count() or 1) // self._n_workers)
        # Spawned, not forked: a fork would inherit torch's threads in whatever state they are.
        return ProcessPoolExecutor(self._n_workers, get_context("spawn"), torch.set_num_threads, (n_threads,))


def _in_turn(scan: CheckpointScan, lens: Lens, steps: Sequence[int]) -> Iterator[Measured]:
    if not steps:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        ahead = reader.submit(scan.read, steps[0])
        for step, following in zip(steps, [*steps[1:], None]):
            weights: Mapping[str, Any] | InductionKitError
            result: xr.Dataset | InductionKitError
            try:
                weights = ahead.result()
            except InductionKitError as error:
                weights = error
            if following is not None:
                ahead = reader.submit(scan.read, following)
            if isinstance(weights, InductionKitError):
                yield step, weights
                continue
            try:
                result = scan.measure(lens, step, weights)
            except InductionKitError as error:
                result = error
            yield step, result


def _by_workers(scan: CheckpointScan, steps: Sequence[int], executor: Executor) -> Generator[Measured, None, set[int]]:
    """Yields what the workers measure; returns the steps that are left when the executor takes no more."""
    attempts: Counter[int] = Counter()
    stranded: set[int] = set()
    waiting: dict[Future[xr.Dataset], int] = {}

    def submit(step: int) -> None:
        attempts[step] += 1
        try:
            waiting[executor.submit(_measure_in_worker, scan, step)] = step
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


_standing: dict[str, Lens] = {}


def _measure_in_worker(scan: CheckpointScan, step: int) -> xr.Dataset:
    """One checkpoint, on the model that stands in this worker since its first."""
    key = f"{scan.run.name} {sorted(scan.run.fingerprints.items())} {dict(scan.run.model)}"
    if key not in _standing:
        _standing.clear()  # one model a worker
        _standing[key] = scan.standing_lens()
    return scan.measure(_standing[key], step, scan.read(step))
