"""Where a scan keeps what it measures: in memory, or in a Zarr store on disk that grows one checkpoint at a time.

A store is laid out when the first checkpoint has been measured: a chunk per step and variable, with room for more steps
than will come. A checkpoint's arrays are written to a place of its own and `scanned` is set last, so a kill at any
moment leaves every checkpoint whole or not there. `n_logged` does the same for the training log. Stores are local
folders, or what fsspec reaches by URL (`memory://`, `s3://`, …). A local store takes one scan at a time.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr

from ..errors import HistoryError
from ..history import open_history
from ..system.zarr_files import is_url, read_zarr
from .in_memory import LogRow, log_data
from .store_layout import create, lock, template_of

MIN_ROOM = 4096  # steps; room that is not used takes no space


class HistoryStore:
    """A Zarr store, found or yet to be laid out; use it as a context to hold it for this process.

    `settings` are attributes that must agree for results to stand side by side: a store that was begun with others is
    refused with HistoryError, as is a local store that another process scans into. `constants` are variables that no
    checkpoint changes. `planned` are the steps that are expected, so that each has its place, whatever comes first.
    """

    def __init__(
        self, path: str | Path, settings: Mapping[str, Any], constants: xr.Dataset, planned: Sequence[int] = ()
    ):
        if not isinstance(path, str | Path):
            raise HistoryError(f"store={path!r} must be a path or a URL")
        self.path = str(path) if is_url(path) else Path(path)
        self._settings, self._constants = dict(settings), constants
        self._planned = {step: slot for slot, step in enumerate(planned)}
        self._room = max(MIN_ROOM, 2 * len(planned))
        self._slots: dict[int, int] = {}
        self._arrays: dict[str, Any] = {}
        self._log_to_come: Sequence[LogRow] = []
        self._locks = contextlib.ExitStack()
        try:
            if self._is_laid_out():
                self._take_over()
            elif isinstance(self.path, Path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
        except BaseException:
            self._locks.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes scan into the store."""
        self._locks.close()

    @property
    def steps(self) -> list[int]:
        """The steps that are stored, ascending."""
        return sorted(self._slots)

    @property
    def nulls_from(self) -> int | None:
        """The step whose matrices the null distributions come from, None without any."""
        nulls = (array for name, array in self._arrays.items() if name.endswith("_null"))
        return next((int(array.attrs["from_step"]) for array in nulls), None)

    def read(self, names: Sequence[str] | None = None) -> xr.Dataset:
        """What has been stored so far, in memory; of the variables `names` alone, if they are given."""
        if not self._arrays:
            raise HistoryError(f"nothing has been measured into {self.path} yet")
        return open_history(self.path) if names is None else read_zarr(self.path, names)

    def write(self, step: int, result: xr.Dataset) -> None:
        """Write what was measured at a step, a data set without `step` but with a coordinate `tokens_seen`.

        Raises HistoryError if it cannot be written, its arrays have other shapes than those of other steps, or the
        store is full; the step then counts as not stored.
        """
        values = {"step": np.array(step), "tokens_seen": result["tokens_seen"].values}
        values |= {str(name): array.values for name, array in result.data_vars.items()}
        self._refuse_gone(f"step {step} is not kept")
        with self._telling(f"step {step}"):
            if not self._arrays:
                self._lay_out(result)
                self.write_log(self._log_to_come)
            slot = self._slot(step)
            if step in self._slots:
                self.drop_from(step, step + 1)
            for name, value in values.items():
                if name not in self._arrays or self._arrays[name].shape[1:] != value.shape:
                    shape = self._arrays[name].shape[1:] if name in self._arrays else "none"
                    raise HistoryError(f"step {step} gives {name} of shape {value.shape}; other steps have {shape}")
                self._arrays[name][slot] = value
            self._arrays["scanned"][slot] = 1
        self._slots[step] = slot

    def drop_from(self, step: int, end: float = np.inf) -> None:
        """Forget what was measured at steps from `step` to before `end`."""
        late = [known for known in self._slots if step <= known < end]
        if late:
            self._refuse_gone(f"steps {late} are not dropped")
            scanned = self._arrays["scanned"][:]
            scanned[[self._slots[known] for known in late]] = 0
            self._arrays["scanned"][:] = scanned
        for known in late:
            del self._slots[known]

    def write_log(self, rows: Sequence[LogRow]) -> None:
        """Make `rows` the end of the training log; stored entries from the first row's step on are replaced."""
        if not rows:
            return
        if not self._arrays:
            self._log_to_come = rows
            return
        self._refuse_gone("the training losses are not kept")
        n_stored = int(self._arrays["n_logged"][()])
        kept = int(np.searchsorted(self._arrays["log_step"][:n_stored], rows[0][0]))
        new = log_data(rows).variables
        if n_stored == kept + len(rows) and all(
            np.array_equal(self._arrays[str(name)][kept:n_stored], column.values, equal_nan=True)
            for name, column in new.items()
        ):
            return
        with self._telling("the training log"):
            if kept < n_stored:
                self._arrays["n_logged"][()] = kept
            for name, column in new.items():
                self._arrays[str(name)][kept : kept + len(rows)] = column.values
            self._arrays["n_logged"][()] = kept + len(rows)

    def drop_log_after(self, step: int) -> None:
        """Forget the log's entries of steps after `step`."""
        if self._arrays:
            steps = self._arrays["log_step"][: int(self._arrays["n_logged"][()])]
            self._arrays["n_logged"][()] = int(np.searchsorted(steps, step, side="right"))

    def write_nulls(self, nulls: xr.Dataset) -> None:
        """Write null distributions, (null, layer, head) each."""
        group = self._group()
        with self._telling("the null distributions"):
            for name, variable in nulls.variables.items():
                attributes = {**variable.attrs, "_ARRAY_DIMENSIONS": list(variable.dims)}  # xarray's own, for format 2
                group.create_array(
                    str(name), data=variable.values, attributes=attributes, fill_value=None, overwrite=True
                )
            zarr.consolidate_metadata(group.store, zarr_format=2)
        self._open_arrays()

    def _refuse_gone(self, lost: str) -> None:
        """Raise HistoryError if the store was removed since it was opened: zarr would begin another in its place."""
        if self._arrays and isinstance(self.path, Path) and not (self.path / ".zmetadata").is_file():
            raise HistoryError(f"{self.path} is gone or damaged; {lost}")

    def _slot(self, step: int) -> int:
        """Where a step goes: to the place that it has or was planned for, else behind all others."""
        taken = {slot: known for known, slot in self._slots.items()}
        planned = self._slots.get(step, self._planned.get(step))
        if planned is not None and taken.get(planned, step) == step:
            return planned
        slot = max([*taken, len(self._planned) - 1], default=-1) + 1
        if slot >= self._arrays["scanned"].shape[0]:
            raise HistoryError(f"{self.path} is full with {slot} steps; measure less often, or choose another store")
        return slot

    def _is_laid_out(self) -> bool:
        if isinstance(self.path, Path):
            return self.path.exists()
        from fsspec.core import url_to_fs

        try:
            filesystem, root = url_to_fs(self.path)
        except (ValueError, ImportError) as error:
            raise HistoryError(f"{self.path} cannot be used as a store: {error}") from None
        # The consolidated metadata is written last: without it, an earlier attempt was cut short, or it is no history.
        if filesystem.exists(f"{root.rstrip('/')}/.zmetadata"):
            return True
        if filesystem.exists(root) and filesystem.find(root):
            raise HistoryError(f"{self.path} holds files that are no history; choose another store or remove them")
        return False

    def _take_over(self) -> None:
        """Hold a store that is there, if it is one and of the same settings, and learn what it holds."""
        self._refuse_other()
        if isinstance(self.path, Path) and self.path.is_dir():
            refusal = f"another process is scanning into {self.path}; wait for it or choose another store"
            self._locks.enter_context(lock(self.path, refusal))
            for leftover in self.path.rglob("*.partial"):  # of a write that a kill cut short
                leftover.unlink()
        self._open_arrays()
        scanned, steps = self._arrays["scanned"][:], self._arrays["step"][:]
        self._slots = {int(steps[slot]): int(slot) for slot in np.flatnonzero(scanned)}

    def _refuse_other(self) -> None:
        try:
            stored = read_zarr(self.path, ("step", "schema_version"))
            if "meaning" not in stored.attrs or not self._can_grow():
                raise HistoryError("it is no store that a scan fills, such as a history that was saved")
        except (HistoryError, KeyError) as error:
            raise HistoryError(f"{self.path} is not a history store ({error}); choose another or remove it") from None
        different = {
            key: (stored.attrs.get(key), self._settings.get(key))
            for key in (*self._settings, *({"circuit"} & stored.attrs.keys()))  # what a scan may leave out
            if stored.attrs.get(key) != self._settings.get(key)
        }
        if different:
            different.pop("identity", None)
            told = "; ".join(f"{key}: stored {old!r}, now {new!r}" for key, (old, new) in different.items())
            raise HistoryError(
                f"{self.path} holds a scan with other settings ({told}); choose another store or remove it"
            )

    def _can_grow(self) -> bool:
        if isinstance(self.path, Path) and not self.path.is_dir():
            return False
        return {"scanned", "n_logged"} <= set(self._group())

    def _group(self) -> Any:
        # Through zarr itself: xarray reads the whole store's metadata for every write.
        return zarr.open_group(str(self.path), mode="r+", use_consolidated=False)

    def _open_arrays(self) -> None:
        self._arrays = dict(self._group().arrays())

    def _lay_out(self, result: xr.Dataset) -> None:
        template = template_of(result, self._constants, self._settings)
        if not isinstance(self.path, Path):
            create(template, self.path, self._room)
            self._open_arrays()
            return
        with lock(self.path.parent):  # stores that begin at the same time beside each other take turns
            if not self.path.exists():
                part = self.path.with_name(f".{self.path.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                try:
                    create(template, str(part), self._room)
                    part.rename(self.path)
                except BaseException:
                    shutil.rmtree(part, ignore_errors=True)
                    raise
        self._take_over()

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HistoryError(
                f"{what} could not be written to {self.path} ({error}); "
                f"what was measured before is safe, and the scan goes on from there once the store can be written"
            ) from error
