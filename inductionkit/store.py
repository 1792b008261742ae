"""A history on disk while it grows: a Zarr store that gets one checkpoint at a time.

The store is laid out for all steps at once, a chunk per step. A checkpoint's arrays are written to
its own chunks and `scanned` is set last, so a kill at any moment leaves every checkpoint whole or
not there, and a scan goes on with the steps that are missing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import xarray as xr

from .errors import HistoryError
from .history import open_history, refuse_pickle


class GrowingStore:
    """A Zarr store for the history of the `steps` of one scan.

    `settings` are attributes that must agree for results to stand side by side: a store that was
    begun with others is refused with HistoryError.
    """

    def __init__(self, path: str | Path, template: xr.Dataset, settings: dict[str, object]):
        self.path = Path(path)
        if not self.path.exists():
            self._lay_out(template.assign_attrs(settings))
        stored = self._read()
        different = {
            key: (stored.attrs.get(key), value) for key, value in settings.items() if stored.attrs.get(key) != value
        }
        if stored["step"].values.tolist() != template["step"].values.tolist():
            different["step"] = (stored["step"].values.tolist(), template["step"].values.tolist())
        if different:
            told = "; ".join(f"{key}: stored {old!r}, now {new!r}" for key, (old, new) in different.items())
            raise HistoryError(f"{path} holds a scan with other settings ({told}); choose another store or remove it")
        self._index = {step: i for i, step in enumerate(template["step"].values.tolist())}

    def missing_steps(self) -> list[int]:
        """Steps that are not scanned yet."""
        stored = self._read()
        return stored["step"].values[stored["scanned"].values == 0].tolist()

    def write(self, step: int, results: xr.Dataset) -> None:
        """Write the results of one step, without a `step` dimension, then mark it as scanned."""
        region = {"step": slice(self._index[step], self._index[step] + 1)}
        one = results.expand_dims("step").drop_vars([name for name in results.coords])
        one.to_zarr(str(self.path), region=region, consolidated=False)
        mark = xr.Dataset({"scanned": ("step", np.ones(1, dtype=np.uint8))})
        mark.to_zarr(str(self.path), region=region, consolidated=False)

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

    def _lay_out(self, template: xr.Dataset) -> None:
        part = self.path.with_name(f".{self.path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        template = template.assign(scanned=("step", np.zeros(template.sizes["step"], dtype=np.uint8)))
        encoding = {
            name: {
                "chunks": tuple(1 if dim == "step" else size for dim, size in array.sizes.items()),
                "_FillValue": None,
            }
            for name, array in template.variables.items()
            if array.ndim
        }
        template.to_zarr(str(part), mode="w", encoding=encoding, zarr_format=2, consolidated=True)
        part.rename(self.path)
