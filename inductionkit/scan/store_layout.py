"""How a growing store is laid out: arrays with room for what is to come; and a lock for its folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ..errors import HistoryError
from .in_memory import STEP, TOKENS, log_data

try:
    import fcntl
except ImportError:  # Windows: chunks are replaced atomically there too, only work may be done twice
    fcntl = None  # type: ignore[assignment]

LOG_ROOM, LOG_CHUNK = 2**24, 4096  # entries of the training log


def create(template: xr.Dataset, path: str, room: int) -> None:
    """Write a template of one step, then make room for more, which costs nothing until it is used."""
    encoding = {}
    for name, array in template.variables.items():
        chunks = [1 if dim == "step" else size for dim, size in array.sizes.items()]
        if array.dims == ("step",):
            chunks = [room]
        elif array.dims == ("log",):
            chunks = [LOG_CHUNK]
        encoding[name] = {"_FillValue": None} | ({"chunks": tuple(chunks)} if array.ndim else {})
    template.to_zarr(path, mode="w", encoding=encoding, zarr_format=2, consolidated=False)
    group: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name, array in template.variables.items():
        if array.dims[:1] == ("step",):
            group[name].resize((room, *array.shape[1:]))
        elif array.dims == ("log",):
            group[name].resize((LOG_ROOM,))
    zarr.consolidate_metadata(group.store, zarr_format=2)


def template_of(result: xr.Dataset, constants: xr.Dataset, settings: Mapping[str, Any]) -> xr.Dataset:
    """A history of one step that holds nothing yet, with the shapes of a result."""
    coords = {str(name): coord for name, coord in result.coords.items() if name not in ("step", "tokens_seen")}
    empty = {
        str(name): (("step", *array.dims), _missing((1, *array.shape), array.dtype), array.attrs)
        for name, array in result.data_vars.items()
    }
    template = xr.Dataset(empty, coords, {**result.attrs, **settings}).assign_coords(
        step=("step", np.zeros(1, np.int64), STEP), tokens_seen=("step", np.full(1, np.nan), TOKENS)
    )
    no_log = log_data([(0, np.nan, np.nan)])  # the room for it; none of it counts
    template = xr.merge([template, constants, no_log], combine_attrs="override")
    return template.assign(scanned=("step", np.zeros(1, np.uint8)), n_logged=((), np.int64(0)))


def _missing(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.full(shape, np.nan, dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


@contextlib.contextmanager
def lock(folder: Path, refusal: str | None = None) -> Iterator[None]:
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
