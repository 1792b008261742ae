"""How much of a dimension each feature or data point gets (E22, H23). NumPy alone."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from .history import validate

STICKY_LEVELS = {
    "alone": 1.0,
    "tetrahedron": 3 / 4,
    "triangle": 2 / 3,
    "digon": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
}


def feature_dimensionality(vectors: Float[np.ndarray, "*case hidden feature"]) -> Float[np.ndarray, "*case feature"]:
    """The fraction of a dimension that each vector gets among all of them, 0 to 1.

    `vectors` are columns: (…, hidden, feature). `D_i = |W_i|^2 / sum_j (What_i . W_j)^2` (E22). 1: orthogonal to all
    others; 1/2: half of an antipodal pair; 0: no vector at all. The sum over features is at most the rank of W. The
    same value can come from different geometries: 1/2 is also each vector of a square, and of two that point the same
    way.

    >>> feature_dimensionality(np.array([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0]])).round(3).tolist()
    [0.667, 0.167, 0.167]
    """
    # With C = W W^T the denominator is W_i . C W_i / |W_i|^2: no matrix of all pairs, of which points have many.
    squared = (vectors**2).sum(axis=-2)
    overlaps = (vectors * (vectors @ np.swapaxes(vectors, -1, -2) @ vectors)).sum(axis=-2)
    share: np.ndarray = np.divide(squared**2, overlaps, out=np.zeros_like(overlaps), where=overlaps > 0)
    return share


def dimensions_per_feature(weight: Float[np.ndarray, "*case hidden feature"]) -> Float[np.ndarray, "*case"]:
    """Dimensions per represented feature, `m / |W|_F^2` (E22): about 1 dense, 1/2 where antipodal pairs rule.

    `weight` is W (…, hidden, feature), `m` its number of hidden dimensions. `|W|_F^2` counts features only while
    represented ones have length 1; infinite where W is 0.
    """
    with np.errstate(divide="ignore"):
        dimensions: np.ndarray = weight.shape[-2] / (weight**2).sum(axis=(-2, -1))
    return dimensions


def measure_dimensionality(history: xr.Dataset) -> xr.Dataset:
    """The dimensionalities of a history of toy models, at each of its steps.

    `feature_dimensionality` and `feature_norm` (instance, step, feature), `dimensions_per_feature`
    (instance, step), and where the history has data points `point_dimensionality` (instance, step,
    point): that of the hidden vectors `W x` of the data points (H23). Coordinates are the history's.
    Raises HistoryError if it has no `weight`.
    """
    weight = validate(history)["weight"].values
    data = {
        "feature_dimensionality": (
            ("instance", "step", "feature"),
            feature_dimensionality(weight),
            {"units": "1", "long_name": "fraction of a dimension that a feature gets", "reference": "E22"},
        ),
        "feature_norm": (
            ("instance", "step", "feature"),
            np.linalg.norm(weight, axis=-2),
            {"units": "1", "long_name": "length of a feature's vector", "reference": "E22"},
        ),
        "dimensions_per_feature": (
            ("instance", "step"),
            dimensions_per_feature(weight),
            {"units": "1", "long_name": "hidden dimensions per represented feature", "reference": "E22"},
        ),
    }
    if "point" in history:
        hidden = np.einsum("iskf,ipf->iskp", weight, history["point"].values)
        data["point_dimensionality"] = (
            ("instance", "step", "point"),
            feature_dimensionality(hidden),
            {"units": "1", "long_name": "fraction of a dimension that a data point gets", "reference": "H23"},
        )
    return xr.Dataset(data, history.drop_vars(list(history.data_vars)).coords)
