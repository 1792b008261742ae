"""The lock on state that the whole process shares."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

PROCESS_STATE = threading.RLock()
"""Held wherever a thread changes what all threads of the process see.

It protects torch's global random generators and default dtype, the weight initialisers that transformers replaces while
it builds a model, the method that TransformerLens takes off a class while it copies a model, and transformers' logging
and progress bars. Models are built, copied and loaded by one thread at a time. Measuring a model changes none of this
and takes no lock.
"""


@contextlib.contextmanager
def private_random_numbers() -> Iterator[None]:
    """Hold `PROCESS_STATE`, and restore torch's global random generators afterwards.

    New layers draw initial weights, and a user's loader may seed the generators; neither changes the random numbers
    that the user draws later. Also a decorator, as `@private_random_numbers()`.
    """
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with PROCESS_STATE, torch.random.fork_rng(devices=devices):
        yield
