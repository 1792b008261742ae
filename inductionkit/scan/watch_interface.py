"""What the callbacks of trainers need of a `TrainingWatch`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor


class Watch(Protocol):
    """A watch; `place` is where its history is kept, or what that is called."""

    place: str
    tokens_per_step: int | None

    def __call__(self, model: Any, step: int, tokens_seen: int | None = None, *, due: bool = False) -> bool: ...

    def log(self, step: int, loss: float | Tensor, tokens_seen: int | None = None) -> None: ...

    def write_log(self) -> None: ...

    def warning_of_errors(self, what: str) -> AbstractContextManager[None]: ...
