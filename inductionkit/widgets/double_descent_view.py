"""DoubleDescentView: losses against the size of the data set, with the geometry at each size."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError
from ..superposition.descent import find_test_loss_peak
from ..superposition.dimensionality import STICKY_LEVELS
from ._payload import pack_arrays
from ._superposition_data import in_dimensions
from ._widget import PayloadWidget

LOSSES = ("test_loss", "training_loss")
TYPICAL = ("typical_feature_dimensionality", "typical_point_dimensionality")
VECTORS = {"weight": "feature_dimensionality", "hidden_point": "point_dimensionality"}
N_AXES = 2


class DoubleDescentView(PayloadWidget):
    """Test and training loss against data set size, and what is stored at each size: data points or features.

    At the chosen size the features' vectors (columns of W) stand beside the data points' hidden vectors (W x), each
    with its dimensionality against its length. More than two hidden dimensions are shown on the two axes that hold
    most of them, of each kind by itself.

    A peak in one seed is a peak of that seed: look at all of them.

    Parameters
    ----------
    result
        What `double_descent` returns; `example_superposition("double-descent")` is one.

    Raises
    ------
    HistoryError
        If it is something else, or `n_points` or `seed` is set to something that the result does not have.
    """

    bundle = "double_descent"
    choices = ("n_points", "seed")

    n_points = traitlets.TraitType[int, int](help="size of the data set on show").tag(sync=True)
    seed = traitlets.TraitType[int, int](help="seed on show").tag(sync=True)

    def __init__(self, result: xr.Dataset) -> None:
        header, data = _payload(result)
        self._known = {name: [int(value) for value in result[name].values] for name in self.choices}
        seed = self._known["seed"][0]
        super().__init__(header, data, n_points=header["peaks"][0], seed=seed)

    @property
    def _title(self) -> str:
        return f"double descent · {self._header['about']}"

    def __repr__(self) -> str:
        n_sizes, n_seeds = (len(self._known[name]) for name in self.choices)
        return f"DoubleDescentView({self._header['about']}: {n_sizes} sizes, {n_seeds} seeds)"

    @traitlets.validate("n_points", "seed")
    def _check_known(self, proposal: traitlets.Bunch) -> int:
        value, name = proposal["value"], proposal["trait"].name
        if isinstance(value, bool) or value not in self._known[name]:
            raise HistoryError(
                f"{name}={value!r} is none of this result, which has {', '.join(map(str, self._known[name]))}"
            )
        return int(value)


def _payload(result: xr.Dataset) -> tuple[dict[str, Any], bytes]:
    if not isinstance(result, xr.Dataset) or result.attrs.get("experiment") != "double descent":
        seen = result.attrs.get("experiment", "none") if isinstance(result, xr.Dataset) else type(result).__name__
        raise HistoryError(f"give a result of double_descent; seen experiment {seen}")
    missing = [name for name in (*LOSSES, *TYPICAL, *VECTORS, *VECTORS.values()) if name not in result]
    if missing:
        raise HistoryError(f"the result of double_descent lacks {', '.join(missing)}; make it anew")
    result = result.transpose("n_points", "seed", ...)
    n_hidden = result.sizes["hidden"]
    arrays = {name: result[name].values.astype(np.float32) for name in (*LOSSES, *TYPICAL, *VECTORS.values())}
    arrays |= {name: _on_two_axes(result[name].values.astype(np.float32)) for name in VECTORS}
    table, buffer = pack_arrays(arrays)
    header = {
        "arrays": table,
        "sizes": [int(size) for size in result["n_points"].values],
        "seeds": [int(seed) for seed in result["seed"].values],
        "peaks": [int(size) for size in find_test_loss_peak(result)["peak_n_points"].values],
        "levels": list(map(list, STICKY_LEVELS.items())),
        "projected": n_hidden > N_AXES,
        "about": in_dimensions(result.sizes["feature"], n_hidden),
    }
    return header, buffer


def _on_two_axes(vectors: Float[np.ndarray, "size seed hidden vector"]) -> Float[np.ndarray, "size seed 2 vector"]:
    """The vectors as they are in two dimensions, with a zero in one, on their two principal axes in more."""
    n_hidden = vectors.shape[2]
    if n_hidden < N_AXES:
        return np.concatenate([vectors, np.where(np.isnan(vectors), np.nan, np.float32(0))], axis=2)
    if n_hidden == N_AXES:
        return vectors
    # Points that a smaller data set does not have are NaN: they have no say in the axes.
    axes = np.linalg.svd(np.nan_to_num(vectors), full_matrices=False)[0][..., :N_AXES]
    on_axes: np.ndarray = np.swapaxes(axes, -1, -2) @ vectors
    return on_axes
