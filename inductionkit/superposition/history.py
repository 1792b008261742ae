"""The history of toy models: weights and losses of many instances at the steps they were recorded.

As in `inductionkit.history` the schema is one table and a history is an `xarray.Dataset`. It holds plain
numbers, so it is read without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..errors import HistoryError
from ..history import Variable

SCHEMA_VERSION = 1

VARIABLES = {
    "weight": Variable(("instance", "step", "hidden", "feature"), "float32", "1", "weights W: a column is a feature"),
    "bias": Variable(("instance", "step", "feature"), "float32", "1", "biases b of the outputs"),
    "loss": Variable(
        ("instance", "step"),
        "float32",
        "1",
        "weighted squared error on fresh samples, the same at all steps",
    ),
    "training_loss": Variable(("instance", "step"), "float32", "1", "the same error on the model's own data points"),
    "point": Variable(("instance", "point", "feature"), "float32", "1", "the data points that a model was trained on"),
}
COORDINATES = {
    "density": Variable(("instance", "feature"), "float64", "1", "probability that a feature is active, 1 - sparsity"),
    "importance": Variable(("instance", "feature"), "float64", "1", "weight of a feature's squared error in the loss"),
    "seed": Variable(("instance",), "int64", "", "seed of the initial weights"),
}


def labelled(
    values: Mapping[str, np.ndarray], coords: Mapping[str, ArrayLike], attrs: Mapping[str, object]
) -> xr.Dataset:
    """A history from plain arrays: `values` are keyed by `VARIABLES`, `coords` by `COORDINATES`, `step` or a label.

    A label is any further coordinate along `instance` (a sparsity, a number of points, a branch).
    """
    data = {name: _variable(VARIABLES[name], array) for name, array in values.items()}
    known = {name: _variable(COORDINATES[name], array) for name, array in coords.items() if name in COORDINATES}
    others = {
        name: ("step", np.asarray(array), {"long_name": "optimiser step"})
        if name == "step"
        else ("instance", np.asarray(array))
        for name, array in coords.items()
        if name not in COORDINATES
    }
    about = {
        "schema_version": SCHEMA_VERSION,
        "experiment": "training",
        "reference": "E22, Toy Models of Superposition",
    }
    return validate(xr.Dataset(data, known | others, {**about, **attrs}))


def validate(history: xr.Dataset, needs: tuple[str, ...] = ("weight",)) -> xr.Dataset:
    """Return `history` if it follows the schema and has the variables in `needs`, else raise HistoryError."""
    if not isinstance(history, xr.Dataset):
        raise HistoryError(f"a history of toy models is an xarray.Dataset, not {type(history).__name__}")
    missing = [name for name in needs if name not in history.variables]
    if missing:
        raise HistoryError(
            f"the history of toy models lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, history.variables)) or 'no variables'}"
        )
    for name, variable in (VARIABLES | COORDINATES).items():
        if name in history.variables and history[name].dims != variable.dims:
            raise HistoryError(f"{name} has dims {history[name].dims}, expected {variable.dims}")
    if "step" not in history.coords or not history.sizes["step"]:
        raise HistoryError("the history of toy models has no steps: its dimension `step` is missing or empty")
    steps = history["step"].values
    if (np.diff(steps) <= 0).any():
        raise HistoryError(f"the steps of a history must increase; seen {steps.tolist()}")
    return history


def _variable(schema: Variable, array: ArrayLike) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    about = {"units": schema.units, "long_name": schema.long_name, "reference": schema.reference}
    return schema.dims, np.asarray(array), {key: text for key, text in about.items() if text}
