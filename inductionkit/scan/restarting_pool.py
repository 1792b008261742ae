"""A pool of processes for scans that outlives its workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
