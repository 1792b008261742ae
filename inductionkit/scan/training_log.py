"""The training losses that a watch records, until they are written into its history."""

from __future__ import annotations

import torch
from torch import Tensor

from .in_memory import HistoryInMemory
from .store import HistoryStore


class TrainingLog:
    """The training losses of this process, and how many of them are written."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, float | Tensor]] = []
        self._n_written = 0

    def add(self, step: int, tokens_seen: float, loss: float | Tensor) -> None:
        if isinstance(loss, Tensor):  # DataParallel returns one loss a device
            loss = loss.detach().float().mean()
        if not isinstance(loss, Tensor) or loss.device.type in ("cpu", "meta"):
            loss = float(loss)
        if self._rows and self._rows[-1][0] > step:  # the training went back
            self._rows = [known for known in self._rows if known[0] < step]
            self._n_written = min(self._n_written, len(self._rows))
        self._rows.append((step, tokens_seen, loss))

    def write_to(self, kept: HistoryInMemory | HistoryStore) -> None:
        """Write what is not written yet; a step that has several entries is written again, whole."""
        start = self._n_written
        while 0 < start < len(self._rows) and self._rows[start - 1][0] == self._rows[start][0]:
            start -= 1
        elsewhere = [row[2] for row in self._rows[start:] if isinstance(row[2], Tensor)]
        fetched = iter(torch.stack(elsewhere).tolist() if elsewhere else [])  # the device is waited for once
        rows = [(row[0], row[1], next(fetched) if isinstance(row[2], Tensor) else row[2]) for row in self._rows[start:]]
        self._rows[start:] = rows
        kept.write_log(rows)
        self._n_written = len(self._rows)


def end(log: TrainingLog, kept: HistoryInMemory | HistoryStore) -> None:
    """What remains to be done when a watch goes that nobody closed."""
    log.write_to(kept)
    kept.close()
