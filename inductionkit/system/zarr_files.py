"""Data sets on disk as Zarr: folders, URLs, zipped files; no pickle is ever read."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from ..errors import HistoryError

_METADATA_FILES = (".zarray", ".zmetadata", "zarr.json")


def is_url(path: str | Path) -> bool:
    return "://" in str(path)


def read_zarr(path: str | Path, names: Sequence[str] | None = None) -> xr.Dataset:
    """What a Zarr folder, zip file or URL holds, in memory; of `names` alone, if they are given.

    Raises HistoryError if it cannot be read or has pickles.
    """
    refuse_pickle(path)
    try:
        stored = _read(path, names)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise HistoryError(f"{path} is not a Zarr store that can be read: {error}") from None
    for variable in stored.variables.values():
        variable.encoding = {}
    return stored


def write_zip(data: xr.Dataset, path: str | Path) -> None:
    """Write a data set to one zipped Zarr file."""
    encoding = {name: {"_FillValue": None} for name in data.variables}
    with tempfile.TemporaryDirectory() as folder:
        data.to_zarr(folder, zarr_format=2, consolidated=True, encoding=encoding)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # its chunks are compressed already
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, file.relative_to(folder))


def refuse_pickle(path: str | Path) -> None:
    """Raise HistoryError if a Zarr store's metadata asks for the pickle codec: reading it could run code."""
    for document in _metadata(path):
        try:
            asks = _asks_for_pickle(json.loads(document))
        except ValueError as error:
            raise HistoryError(f"{path} is not a Zarr store that can be read: {error}") from None
        if asks:
            raise HistoryError(f"{path} holds pickled objects, which are not read from files: they can run code")


def _metadata(path: str | Path) -> list[bytes]:
    if is_url(path):
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(str(path))
        found = filesystem.find(root) if filesystem.exists(root) else []
        return [filesystem.cat_file(name) for name in found if name.rsplit("/")[-1] in _METADATA_FILES]
    path = Path(path)
    if path.is_dir():
        return [file.read_bytes() for file in path.rglob("*") if file.name in _METADATA_FILES]
    if not zipfile.is_zipfile(path):
        raise HistoryError(f"{path} is not a Zarr store that can be read: neither a folder nor a zip file")
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if name.rsplit("/")[-1] in _METADATA_FILES]


def _asks_for_pickle(document: object) -> bool:
    if isinstance(document, dict):
        names = (document.get("id"), document.get("name"))
        return any("pickle" in str(name) for name in names) or any(map(_asks_for_pickle, document.values()))
    return isinstance(document, list) and any(map(_asks_for_pickle, document))


def _read(path: str | Path, names: Sequence[str] | None) -> xr.Dataset:
    if is_url(path):
        return _load_written(xr.open_zarr(str(path), mask_and_scale=False), names)
    local = Path(path)
    with zarr.storage.ZipStore(local) if local.is_file() else zarr.storage.LocalStore(local) as store:
        return _load_written(xr.open_zarr(store, mask_and_scale=False), names)


def _load_written(stored: xr.Dataset, names: Sequence[str] | None) -> xr.Dataset:
    """What has been written, in order of steps, without the room that a growing store keeps for what is to come."""
    if names is not None:
        stored = stored[[name for name in (*names, "scanned", "n_logged") if name in stored]]
    if "scanned" in stored:
        written = np.flatnonzero(stored["scanned"].values)
        in_order = written[np.argsort(stored["step"].values[written], kind="stable")]
        stored = stored.isel(step=in_order).drop_vars("scanned")
    if "n_logged" in stored:
        n_logged = int(stored["n_logged"])
        stored = (stored.isel(log=slice(n_logged)) if "log" in stored.dims else stored).drop_vars("n_logged")
    return stored.load()
