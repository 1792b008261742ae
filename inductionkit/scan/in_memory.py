"""A history in memory while it grows, with the same methods as the store on disk; and the labels of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..history import VARIABLES

LogRow = tuple[int, float, float]  # optimiser step, tokens seen (NaN: unknown), training loss in nats

STEP = {"long_name": "optimiser step"}
TOKENS = {"units": "tokens", "long_name": "training tokens seen"}


class HistoryInMemory:
    """What `HistoryStore` is on disk: results by step, the training log, null distributions."""

    def __init__(self, settings: Mapping[str, Any], constants: xr.Dataset):
        self._settings, self._constants = dict(settings), constants
        self._results: dict[int, xr.Dataset] = {}
        self._log: list[LogRow] = []
        self._nulls = xr.Dataset()

    def close(self) -> None:
        """There is nothing to let go of."""

    @property
    def steps(self) -> list[int]:
        """The steps that are kept, ascending."""
        return sorted(self._results)

    @property
    def nulls_from(self) -> int | None:
        """The step whose matrices the null distributions come from, None without any."""
        return next((int(score.attrs["from_step"]) for score in self._nulls.data_vars.values()), None)

    def read(self, names: Sequence[str] | None = None) -> xr.Dataset:
        """The history so far, or the variables `names` of it. Raises HistoryError if nothing has been measured."""
        if not self._results:
            raise HistoryError("nothing has been measured yet")
        results = [self._results[step] for step in self.steps]
        tokens_seen = [result["tokens_seen"].item() for result in results]
        if names is not None:
            results = [result[[name for name in names if name in result]] for result in results]
        results = [result.drop_vars("tokens_seen") for result in results]
        whole = xr.concat(
            results, "step", data_vars="all", coords="minimal", compat="override", combine_attrs="override"
        )
        whole = whole.assign_coords(step=("step", self.steps, STEP), tokens_seen=("step", tokens_seen, TOKENS))
        parts = [self._constants, log_data(self._log), self._nulls]
        return whole.merge(xr.merge(parts, combine_attrs="override")).assign_attrs(self._settings)

    def write(self, step: int, result: xr.Dataset) -> None:
        """Keep what was measured at a step, a data set without `step` but with a coordinate `tokens_seen`."""
        first = next(iter(self._results.values()), result)
        for name, array in result.data_vars.items():
            expected = first[name].shape if name in first else "none"
            if array.shape != expected:
                raise HistoryError(f"step {step} gives {name} of shape {array.shape}; other steps have {expected}")
        self._results[step] = result

    def drop_from(self, step: int) -> None:
        """Forget what was measured at `step` and later."""
        self._results = {known: result for known, result in self._results.items() if known < step}

    def write_log(self, rows: Sequence[LogRow]) -> None:
        """Make `rows` the end of the training log; entries from the first row's step on are replaced."""
        if rows:
            self._log = [row for row in self._log if row[0] < rows[0][0]] + list(rows)

    def drop_log_after(self, step: int) -> None:
        """Forget the log's entries of steps after `step`."""
        self._log = [row for row in self._log if row[0] <= step]

    def write_nulls(self, nulls: xr.Dataset) -> None:
        """Keep null distributions, (null, layer, head) each."""
        self._nulls = nulls


def log_data(rows: Sequence[LogRow]) -> xr.Dataset:
    """The training log as variables of a history."""
    steps, tokens, losses = zip(*rows) if rows else ((), (), ())
    row = VARIABLES["training_loss"]
    return xr.Dataset(
        {"training_loss": (row.dims, np.array(losses, np.float32), row.attrs)},
        {
            "log_step": ("log", np.array(steps, np.int64), STEP),
            "log_tokens_seen": ("log", np.array(tokens, np.float64), TOKENS),
        },
    )
