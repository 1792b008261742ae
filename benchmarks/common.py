"""What the benchmarks share: a random model of GPT-2's kind, the best of several timings, peak memory."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable

import torch


def random_gpt2(n_layers: int = 12, n_heads: int = 12, d_model: int = 768, d_vocab: int = 50257, n_ctx: int = 1024):
    """A `TransformerBridge` over GPT-2 of any shape, with random weights (default: GPT-2 small's shape)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from inductionkit.lens import open_model

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=d_vocab, n_positions=n_ctx, n_embd=d_model, n_layer=n_layers, n_head=n_heads,
        bos_token_id=d_vocab - 1, eos_token_id=d_vocab - 1, attn_implementation="eager",
    )  # fmt: skip
    return open_model(GPT2LMHeadModel(config).eval())


def best_of(calls: dict[str, Callable[[], object]], n: int = 5) -> dict[str, float]:
    """Seconds of each call, the best of `n`, taken in turns so that a busy moment hits all of them."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(n):
        for name, call in calls.items():
            _wait_for_device()
            began = time.perf_counter()
            call()
            _wait_for_device()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes(call: Callable[[], object]) -> int:
    """Most resident memory of this process during the call, less what it had before (Linux, glibc)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or freed pages would be taken again unseen
    before, peak, done = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return peak - before


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
