"""Experiments on disk: one zipped Zarr file each, plain numbers and names that are read without torch."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import xarray as xr

from ..errors import HistoryError
from ..system.zarr_files import read_zarr, write_zip
from .history import SCHEMA_VERSION, validate

EXAMPLES = (
    "geometry-2d",
    "geometry-3d",
    "energy-levels",
    "phase-diagram-2-1",
    "phase-diagram-3-2",
    "pentagon-digons",
    "double-descent",
)


def save_experiment(result: xr.Dataset, path: str | Path) -> None:
    """Write what an experiment returned to a zipped Zarr file at `path` (`….zarr.zip`); `open_experiment` reads it.

    `result` is a history of `train_toy_models` or the result of `phase_diagram`, `polygon_losses`, `train_polygons` or
    `double_descent`. Raises HistoryError for anything else.
    """
    _check(result, "the data set")
    write_zip(result, path)


def open_experiment(path: str | Path) -> xr.Dataset:
    """Open what `save_experiment` wrote, in memory; its attribute `experiment` says what it is.

    Raises HistoryError where there is no such file at `path`, it does not follow the schema, or it asks for pickle.
    """
    if not Path(path).exists():
        raise HistoryError(f"there is no experiment at {path}; write one with save_experiment(result, path)")
    stored = read_zarr(path)
    _check(stored, str(path))
    return stored


def example_superposition(name: str = "geometry-2d") -> xr.Dataset:
    """A bundled experiment, ready-made by `python -m inductionkit.bundled.superposition.make`.

    - `geometry-2d`: five features in two dimensions through training, from dense to sparse; a polygon each
    - `geometry-3d`: eight features in three dimensions, likewise
    - `energy-levels`: 48 features in twelve dimensions through training, whose dimensionalities jump; three seeds
    - `phase-diagram-2-1`, `phase-diagram-3-2`: an extra feature's states, in closed form and trained
    - `pentagon-digons`: what `train_polygons` finds as one of five features gets sparser
    - `double-descent`: losses and geometries by the size of the data set, three seeds

    The first three are histories with their dimensionalities and polytopes. Raises HistoryError for another name.
    """
    if name not in EXAMPLES:
        raise HistoryError(f"there is no example {name!r}; there are {', '.join(EXAMPLES)}")
    with as_file(files("inductionkit") / "bundled" / "superposition" / f"{name}.zarr.zip") as local:
        return open_experiment(local)


def _check(result: xr.Dataset, what: str) -> None:
    if "experiment" not in result.attrs or result.attrs.get("schema_version") != SCHEMA_VERSION:
        raise HistoryError(
            f"{what} is no experiment with toy models of schema version {SCHEMA_VERSION}: it has the variables "
            f"{', '.join(map(str, result.variables)) or 'none'} and the attributes {', '.join(result.attrs) or 'none'}"
        )
    if result.attrs["experiment"] == "training":
        validate(result)
