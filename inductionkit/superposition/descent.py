"""Double descent: from storing data points to storing features as the data set grows (H23)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError, ModelError
from ..system.progress import progress_bar
from ..system.whole_numbers import whole_numbers
from .dimensionality import feature_dimensionality
from .history import SCHEMA_VERSION

if TYPE_CHECKING:
    from .train import TrainingSettings

N_POINTS = (3, 6, 12, 25, 50, 100, 200, 400, 800, 1600, 3200)


def double_descent(
    n_points: Sequence[int] = N_POINTS,
    seeds: Sequence[int] = (0, 1, 2),
    n_features: int = 256,
    n_hidden: int = 2,
    density: float = 0.02,
    training: TrainingSettings | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train a toy model on data sets of several sizes; losses and geometries at each size.

    H23's setting, smaller: samples are scaled to unit length, full batches, AdamW with weight decay 0.01, a warm-up
    and a cosine schedule. H23 has 10,000 features and 50,000 steps; here 256 and 3,000 at a learning rate of 0.01
    (`training` overrides settings of `train_toy_models`), which takes about two minutes of one core. The models have
    `n_features` of the given `density`, `n_hidden` dimensions, and an instance for each of `seeds`; one data set of
    each of `n_points` is drawn by seed. `progress` shows a bar.

    Returns, by `n_points` and `seed`: `test_loss` (on 16,384 fresh samples) and `training_loss`; `weight` (…, hidden,
    feature), `bias`; `hidden_point` (…, hidden, point), the data points' hidden vectors; `feature_dimensionality` and
    `point_dimensionality`, and of both the mean weighted by squared length, `typical_…`. Beyond a data set's size
    points are NaN. Raises ModelError for sizes that do not increase, and as `ToyModels` and `train_toy_models` do.
    """
    from .model import ToyModels, draw_points
    from .train import overridden, train_toy_models

    sizes, seed = whole_numbers(n_points, "n_points", 1, ModelError), whole_numbers(seeds, "seeds", 0, ModelError)
    if (np.diff(sizes) <= 0).any():
        raise ModelError(f"n_points={sizes.tolist()} must increase")
    models = ToyModels(n_features, n_hidden, density=density, seed=seed, unit_length=True)
    defaults: TrainingSettings = {
        "n_steps": 3000,
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "warmup_steps": 150,
        "weight_decay": 1e-2,
    }
    settings = overridden(defaults, training)
    ends = []
    with progress_bar(progress) as bar:
        task = bar.add_task(f"{len(seed)} seeds", total=len(sizes), at="")
        for size in sizes.tolist():
            bar.update(task, at=f"{size} points")
            points = draw_points(models, size)
            history = train_toy_models(models, points=points, steps=[settings["n_steps"]], progress=False, **settings)
            ends.append(_end(history, sizes[-1]))
            bar.advance(task)
    result = xr.concat(
        ends, xr.DataArray(sizes, dims="n_points", attrs={"units": "points", "long_name": "data set size"})
    )
    return result.assign_coords(seed=seed).assign_attrs(
        schema_version=SCHEMA_VERSION,
        experiment="double descent",
        reference="H23, Superposition, Memorization, and Double Descent",
        n_features=n_features,
        n_hidden=n_hidden,
        density=density,
        **settings,
    )


def typical_dimensionality(vectors: Float[np.ndarray, "*case hidden vector"]) -> Float[np.ndarray, "*case"]:
    """The mean dimensionality of vectors weighted by their squared length, 0 to 1: what stored ones get.

    `sum_i |v_i|^2 D_i / sum_i |v_i|^2`. Vectors near zero do not count, so a regular polygon of k corners scores
    2/k whatever else is near zero. High values do not tell which polygon.

    >>> round(float(typical_dimensionality(np.array([[1.0, -1.0, 0.001]]))), 3)
    0.5
    """
    squared = (vectors**2).sum(axis=-2)
    total = squared.sum(axis=-1)
    weighted = (squared * feature_dimensionality(vectors)).sum(axis=-1)
    mean: np.ndarray = np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)
    return mean


def find_test_loss_peak(result: xr.Dataset) -> xr.Dataset:
    """The peak of the test loss over data set sizes, for each seed, and what is stored on both sides.

    `peak_n_points` (seed) is the size of the greatest test loss, `peak_height` that loss over the greater of the
    least losses left and right of it: above 1 there is a double descent, at 1 none (the greatest lies at an
    end). `stores_points_left` and `stores_features_right` are shares of the sizes on that side, 0 to 1, at which the
    typical dimensionality of data points is above, or below, that of features; NaN where the side is empty.
    Raises HistoryError if the result of `double_descent` lacks one of its variables.
    """
    names = ("test_loss", "typical_point_dimensionality", "typical_feature_dimensionality")
    missing = [name for name in names if name not in result]
    if missing:
        raise HistoryError(f"the result lacks {', '.join(missing)}; give one of double_descent")
    rows = []
    stores_points = result[names[1]] > result[names[2]]
    for seed in range(result.sizes["seed"]):
        loss, points = result["test_loss"].isel(seed=seed).values, stores_points.isel(seed=seed).values
        peak = int(loss.argmax())
        left, right = points[:peak], ~points[peak + 1 :]
        floor = max(loss[: peak + 1].min(), loss[peak:].min())
        share = [float(side.mean()) if len(side) else np.nan for side in (left, right)]
        rows.append((int(result["n_points"][peak]), float(loss[peak] / floor), *share))
    columns = ("peak_n_points", "peak_height", "stores_points_left", "stores_features_right")
    about = (
        "size of the greatest test loss",
        "greatest test loss over the lower ones beside it",
        "share of smaller sizes at which points get more dimension than features",
        "share of larger sizes at which features get more dimension than points",
    )
    return xr.Dataset(
        {
            name: ("seed", np.array(values), {"long_name": text, "units": "points" if name == columns[0] else "1"})
            for name, values, text in zip(columns, zip(*rows), about)
        },
        {"seed": result["seed"]},
    )


def _end(history: xr.Dataset, n_max: int) -> xr.Dataset:
    """The last step of a history with one instance a seed, points padded to `n_max`."""
    last = history.isel(step=-1)
    weight = last["weight"].values
    hidden = np.einsum("skf,spf->skp", weight, last["point"].values)
    padding = [(0, 0), (0, 0), (0, n_max - hidden.shape[-1])]
    dimensionality = feature_dimensionality(hidden)
    values = {
        "test_loss": (("seed",), last["loss"].values, "mean loss on fresh samples"),
        "training_loss": (("seed",), last["training_loss"].values, "mean loss on the data points"),
        "weight": (("seed", "hidden", "feature"), weight, "weights W: a column is a feature"),
        "bias": (("seed", "feature"), last["bias"].values, "biases b of the outputs"),
        "hidden_point": (
            ("seed", "hidden", "point"),
            np.pad(hidden, padding, constant_values=np.nan),
            "hidden vectors of the data points",
        ),
        "feature_dimensionality": (
            ("seed", "feature"),
            feature_dimensionality(weight),
            "fraction of a dimension that a feature gets",
        ),
        "point_dimensionality": (
            ("seed", "point"),
            np.pad(dimensionality, padding[1:], constant_values=np.nan),
            "fraction of a dimension that a data point gets",
        ),
        "typical_feature_dimensionality": (
            ("seed",),
            typical_dimensionality(weight),
            "dimensionality of features weighted by squared length",
        ),
        "typical_point_dimensionality": (
            ("seed",),
            typical_dimensionality(hidden),
            "dimensionality of data points weighted by squared length",
        ),
    }
    return xr.Dataset(
        {name: (dims, array, {"units": "1", "long_name": text}) for name, (dims, array, text) in values.items()}
    )
