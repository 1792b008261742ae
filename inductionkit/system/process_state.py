"""State that surrounds a computation: the whole process's, and that of the thread it runs in."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

PROCESS_STATE = threading.RLock()
"""Held wherever a thread changes what all threads of the process see.

It protects the global random generators, the weight initialisers that transformers replaces while it builds a model,
the method that TransformerLens takes off a class while it copies a model, and transformers' logging and progress bars.
Models are built, copied and loaded by one thread at a time. Measuring a model changes none of this and takes no lock.
"""


@contextlib.contextmanager
def private_random_numbers() -> Iterator[None]:
    """Hold `PROCESS_STATE`, and restore the global random generators afterwards. Also a decorator.

    New layers draw initial weights, and a user's loader may seed the generators; neither changes the random numbers
    that the user draws later. What is built does not depend on the surroundings either, see `undisturbed`.
    """
    with PROCESS_STATE, restored_random_numbers(), undisturbed():
        yield


@contextlib.contextmanager
def restored_random_numbers() -> Iterator[None]:
    """Restore the global random generators of Python, NumPy and torch, on every device in use, afterwards."""
    saved: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (random.setstate, (random.getstate(),)),
        (np.random.set_state, (np.random.get_state(),)),
        *_torch_generators(),
    ]
    try:
        yield
    finally:
        for restore, state in saved:
            restore(*state)


def _torch_generators() -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    import torch

    yield torch.set_rng_state, (torch.get_rng_state(),)
    for module in (torch.cuda, torch.xpu):
        if module.is_initialized():
            for device in range(module.device_count()):
                yield module.set_rng_state, (module.get_rng_state(device), device)
    if torch.backends.mps.is_available():
        yield torch.mps.set_rng_state, (torch.mps.get_rng_state(),)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Compute as in a fresh process: in float32, on the devices of the operands, without autocast. Also a decorator.

    A training loop may have set another default dtype or device, autocast, inference mode, deterministic algorithms
    (some operations have none) or a lower precision of float32 products; all are as they were afterwards.
    """
    import torch

    devices = {"cpu"}
    if (accelerator := torch._C._get_accelerator()) is not None:
        devices.add(accelerator.type)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_usual_settings())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for device in devices:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        yield


class _Settings:
    """Settings of torch that all threads share: the user's are put aside while any thread computes undisturbed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._restore = contextlib.ExitStack().close

    def enter(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._restore = _put_aside()
            self._n_inside += 1

    def leave(self) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._restore()


_settings = _Settings()


@contextlib.contextmanager
def _usual_settings() -> Iterator[None]:
    _settings.enter()
    try:
        yield
    finally:
        _settings.leave()


def _put_aside() -> Callable[[], None]:
    """Set torch's own defaults where the user has others, and return what restores those."""
    import torch

    with contextlib.ExitStack() as stack:
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if torch.are_deterministic_algorithms_enabled():
            warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
            torch.use_deterministic_algorithms(False)
            stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        # From the general setting to the particular ones, which may inherit it: what is inherited is not set.
        backends: Any = torch.backends
        mkldnn_matmul = getattr(backends.mkldnn, "matmul", backends.mkldnn)  # since torch 2.9, as the precision
        for place in (backends, backends.mkldnn, backends.cuda.matmul, mkldnn_matmul):
            precision = getattr(place, "fp32_precision", "none")
            if precision not in ("none", "ieee"):
                place.fp32_precision = "ieee"
                stack.callback(setattr, place, "fp32_precision", precision)
        if not hasattr(torch.backends, "fp32_precision") and torch.get_float32_matmul_precision() != "highest":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        return stack.pop_all().close
