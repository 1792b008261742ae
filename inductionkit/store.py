"""A history on disk while it grows: a Zarr store that gets one checkpoint at a time.

The store is laid out for all steps at once, a chunk per step. A checkpoint's arrays are written to
its own chunks and `scanned` is set last, so a kill at any moment leaves every checkpoint whole or
not there, and a scan goes on with the steps that are missing. Stores are local folders, or what
fsspec reaches by URL (`memory://`, `s3://`, …). A local store takes one scan at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from .errors import HistoryError
from .history import is_url, open_history, refuse_pickle

try:
    import fcntl
except ImportError:  # Windows: chunks are replaced atomically there too, only work may be done twice
    fcntl = None  # type: ignore[assignment]


class GrowingStore:
    """A Zarr store for the history of the `steps` of one scan; use it as a context to hold it for this process.

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
        self._index = {step: i for i, step in enumerate(template["step"].values.tolist())}

    def __enter__(self) -> GrowingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()

    def missing_steps(self) -> list[int]:
        """Steps that are not scanned yet."""
        stored = self._read()
        return stored["step"].values[stored["scanned"].values == 0].tolist()

    def write(self, step: int, results: xr.Dataset) -> None:
        """Write the results of one step, without a `step` dimension, then mark it as scanned.

        Raises HistoryError if they cannot be written; the step then counts as not scanned.
        """
        region = {"step": slice(self._index[step], self._index[step] + 1)}
        one = results.expand_dims("step").drop_vars([name for name in results.coords])
        mark = xr.Dataset({"scanned": ("step", np.ones(1, dtype=np.uint8))})
        try:
            one.to_zarr(str(self.path), region=region, consolidated=False)
            mark.to_zarr(str(self.path), region=region, consolidated=False)
        except OSError as error:
            raise HistoryError(
                f"step {step} could not be written to {self.path} ({error}); "
                f"what was scanned before is safe, and the scan goes on from there once the store can be written"
            ) from error

    def open(self) -> xr.Dataset:
        """What has been scanned so far, in memory."""
        return open_history(self.path)

    def _read(self) -> xr.Dataset:
        refuse_pickle(self.path)
        try:
            stored = xr.open_zarr(str(self.path), mask_and_scale=False)
            stored["scanned"].load()
        except (ValueError, KeyError, OSError) as error:
            raise HistoryError(f"{self.path} is not a history store ({error}); choose another or remove it") from None
        return stored

    def _refuse_other(self, template: xr.Dataset, settings: dict[str, object]) -> None:
        stored = self._read()
        different = {
            key: (stored.attrs.get(key), value) for key, value in settings.items() if stored.attrs.get(key) != value
        }
        if stored["step"].values.tolist() != template["step"].values.tolist():
            different["step"] = (stored["step"].values.tolist(), template["step"].values.tolist())
        if different:
            told = "; ".join(f"{key}: stored {old!r}, now {new!r}" for key, (old, new) in different.items())
            raise HistoryError(
                f"{self.path} holds a scan with other settings ({told}); choose another store or remove it"
            )

    def _lay_out_if_new(self, template: xr.Dataset) -> None:
        if not isinstance(self.path, Path):
            # The consolidated metadata is written last: without it, an earlier attempt was cut short.
            if not _url_exists(f"{self.path.rstrip('/')}/.zmetadata"):
                _lay_out(template, self.path)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(self.path.parent, f"{self.path.parent} is being written to by another process"):
            if not self.path.exists():
                part = self.path.with_name(f".{self.path.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                try:
                    _lay_out(template, str(part))
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


def _lay_out(template: xr.Dataset, path: str) -> None:
    template = template.assign(scanned=("step", np.zeros(template.sizes["step"], dtype=np.uint8)))
    encoding = {
        name: {
            "chunks": tuple(1 if dim == "step" else size for dim, size in array.sizes.items()),
            "_FillValue": None,
        }
        for name, array in template.variables.items()
        if array.ndim
    }
    template.to_zarr(path, mode="w", encoding=encoding, zarr_format=2, consolidated=True)


def _url_exists(url: str) -> bool:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    return filesystem.exists(path)


@contextlib.contextmanager
def _lock(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder while the context lasts; the system lets go of it even if this process is killed."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HistoryError(refusal) from None
        yield
    finally:
        os.close(descriptor)
