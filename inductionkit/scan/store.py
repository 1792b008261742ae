"""A history on disk while it grows: a Zarr store that gets one checkpoint at a time.

The store is laid out for all steps at once, a chunk per step; where they are not known ahead, for more
than will come. A checkpoint's arrays are written to its own chunks and `scanned` is set last, so a kill
at any moment leaves every checkpoint whole or not there, and a scan goes on with the steps that are
missing. Stores are local folders, or what fsspec reaches by URL (`memory://`, `s3://`, …). A local store
takes one scan at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr

from ..errors import HistoryError
from ..history import open_history
from ..system.zarr_files import is_url, refuse_pickle

try:
    import fcntl
except ImportError:  # Windows: chunks are replaced atomically there too, only work may be done twice
    fcntl = None  # type: ignore[assignment]


class _Store:
    """A Zarr store, laid out anew or found; use it as a context to hold it for this process.

    `settings` are attributes that must agree for results to stand side by side: a store that was
    begun with others is refused with HistoryError, as is a local store that another process scans into.
    """

    def __init__(self, path: str | Path, template: xr.Dataset, settings: dict[str, object]):
        self.path = str(path) if is_url(path) else Path(path)
        self._locks = contextlib.ExitStack()
        try:
            self._lay_out_if_new(template.assign_attrs(settings))
            self._hold()
            self._refuse_other(template, settings)
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

    def open(self) -> xr.Dataset:
        """What has been scanned so far, in memory."""
        return open_history(self.path)

    def _write(self, step: int, index: int, values: Mapping[str, np.ndarray]) -> None:
        """Write what was measured at one step to its place, then mark it as scanned."""
        arrays = _arrays(self.path)
        try:
            for name, value in values.items():
                arrays[name][index] = value
            arrays["scanned"][index] = 1
        except OSError as error:
            raise HistoryError(
                f"step {step} could not be written to {self.path} ({error}); "
                f"what was scanned before is safe, and the scan goes on from there once the store can be written"
            ) from error

    def _read(self) -> xr.Dataset:
        refuse_pickle(self.path)
        try:
            stored: xr.Dataset = xr.open_zarr(str(self.path), mask_and_scale=False)
            stored["scanned"].load()
        except (ValueError, KeyError, OSError) as error:
            raise HistoryError(f"{self.path} is not a history store ({error}); choose another or remove it") from None
        return stored

    def _refuse_other(self, template: xr.Dataset, settings: dict[str, object]) -> None:
        stored = self._read()
        different = {
            key: (stored.attrs.get(key), value) for key, value in settings.items() if stored.attrs.get(key) != value
        }
        if (steps := self._fixed_steps(stored)) != (asked := self._fixed_steps(template)):
            different["step"] = (steps, asked)
        if different:
            told = "; ".join(f"{key}: stored {old!r}, now {new!r}" for key, (old, new) in different.items())
            raise HistoryError(
                f"{self.path} holds a scan with other settings ({told}); choose another store or remove it"
            )

    def _fixed_steps(self, history: xr.Dataset) -> list[int]:
        """Steps that the store was laid out for."""
        steps: list[int] = history["step"].values.tolist()
        return steps

    def _lay_out(self, template: xr.Dataset, path: str) -> None:
        _lay_out(template, path)

    def _lay_out_if_new(self, template: xr.Dataset) -> None:
        if not isinstance(self.path, Path):
            # The consolidated metadata is written last: without it, an earlier attempt was cut short.
            if not _url_exists(f"{self.path.rstrip('/')}/.zmetadata"):
                self._lay_out(template, self.path)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(self.path.parent):  # stores that begin at the same time beside each other take turns
            if not self.path.exists():
                part = self.path.with_name(f".{self.path.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                try:
                    self._lay_out(template, str(part))
                    part.rename(self.path)
                except OSError as error:
                    shutil.rmtree(part, ignore_errors=True)
                    raise HistoryError(f"{self.path} cannot be written: {error}") from error

    def _hold(self) -> None:
        """Keep other processes out of a local store, and sweep up what a kill left in mid-write."""
        if isinstance(self.path, Path) and self.path.is_dir():
            self._locks.enter_context(
                _lock(self.path, f"another process is scanning into {self.path}; wait for it or choose another store")
            )
            for leftover in self.path.rglob("*.partial"):
                leftover.unlink()


class GrowingStore(_Store):
    """A store for the history of the steps of one scan, which are all known ahead."""

    def __init__(self, path: str | Path, template: xr.Dataset, settings: dict[str, object]):
        super().__init__(path, template, settings)
        self._index = {step: i for i, step in enumerate(template["step"].values.tolist())}

    def missing_steps(self) -> list[int]:
        """Steps that are not scanned yet."""
        stored = self._read()
        missing: list[int] = stored["step"].values[stored["scanned"].values == 0].tolist()
        return missing

    def write(self, step: int, results: xr.Dataset) -> None:
        """Write the results of one step, without a `step` dimension.

        Raises HistoryError if they cannot be written; the step then counts as not scanned.
        """
        self._write(step, self._index[step], _values(results))


class LiveStore(_Store):
    """A store for steps that come one after the other, up to `MAX_STEPS`; `template` has one step.

    Chunks that are not written take no room, so it is laid out for many.
    """

    MAX_STEPS = 2048

    def append(self, step: int, results: xr.Dataset) -> None:
        """Write what was measured at a step. Results of later steps are from a training that was rewound, and go.

        Raises HistoryError if they cannot be written, or the store is full.
        """
        stored = self._read()
        scanned, steps = stored["scanned"].values == 1, stored["step"].values
        earlier = np.flatnonzero(scanned & (steps < step))
        index = int(earlier[-1]) + 1 if len(earlier) else 0
        if index >= self.MAX_STEPS:
            raise HistoryError(f"{self.path} is full with {self.MAX_STEPS} steps; measure less often")
        arrays = _arrays(self.path)
        for late in np.flatnonzero(scanned[index:])[::-1]:
            arrays["scanned"][index + int(late)] = 0
        when = {"step": np.array(step), "tokens_seen": results["tokens_seen"].values}
        self._write(step, index, when | _values(results))

    def write_log(self, tokens_seen: np.ndarray, losses: np.ndarray) -> None:
        """Keep the training losses up to now, thinned evenly to what there is room for."""
        room = self._read().sizes["log"]
        kept = np.unique(np.linspace(0, len(losses) - 1, min(room, len(losses))).astype(int))
        arrays = _arrays(self.path)
        arrays["log_tokens_seen"][: len(kept)] = tokens_seen[kept]
        arrays["training_loss"][: len(kept)] = losses[kept]

    def _fixed_steps(self, history: xr.Dataset) -> list[int]:
        return []

    def _lay_out(self, template: xr.Dataset, path: str) -> None:
        _lay_out(template, path, series_chunk=self.MAX_STEPS)
        group = _arrays(path)
        for name, array in template.assign(scanned=("step", [0])).variables.items():
            if "step" in array.dims:
                group[name].resize((self.MAX_STEPS, *array.shape[1:]))
        zarr.consolidate_metadata(group.store, zarr_format=2)


def _arrays(path: str | Path) -> Any:
    """The group of a store's arrays, to write to; by its own types a group's member might be another group.

    Through zarr itself: xarray reads the whole store's metadata anew for every write.
    """
    return zarr.open_group(str(path), mode="r+", use_consolidated=False)


def _values(results: xr.Dataset) -> dict[str, np.ndarray]:
    return {str(name): array.values for name, array in results.data_vars.items()}


def _lay_out(template: xr.Dataset, path: str, series_chunk: int = 1) -> None:
    """Create the store: a chunk per step, or per `series_chunk` steps of what is one number a step."""
    template = template.assign(scanned=("step", np.zeros(template.sizes["step"], dtype=np.uint8)))
    encoding = {
        name: {
            "chunks": tuple(
                size if dim != "step" else 1 if array.ndim > 1 else series_chunk for dim, size in array.sizes.items()
            ),
            "_FillValue": None,
        }
        for name, array in template.variables.items()
        if array.ndim
    }
    template.to_zarr(path, mode="w", encoding=encoding, zarr_format=2, consolidated=True)


def _url_exists(url: str) -> bool:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    return bool(filesystem.exists(path))


@contextlib.contextmanager
def _lock(folder: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold a folder while the context lasts; the system lets go of it even if this process is killed.

    Where another holds it, HistoryError says `refusal`; without one it is waited for.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HistoryError(refusal) from None
        yield
    finally:
        os.close(descriptor)
