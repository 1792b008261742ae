"""From a pentagon to digons: a first-order phase change whose two branches have exact losses (E22).

Five features of importance 1 share two dimensions. Made sparser, one of them stretches the pentagon,
until leaving it out and keeping the others as two digons is cheaper: there the losses cross.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.real_numbers import real_number, real_numbers
from ..system.whole_numbers import whole_number
from .closed_form import expected_loss, minimise, not_represented_loss
from .history import SCHEMA_VERSION
from .model import ToyModels
from .train import TrainingSettings, overridden, train_toy_models

GEOMETRIES = ("pentagon", "digons")
RELATIVE_DENSITY = tuple(np.geomspace(0.2, 1.0, 17).round(4).tolist())
MIN_NORM = 0.5
ABOUT = {
    "schema_version": SCHEMA_VERSION,
    "experiment": "pentagon and digons",
    "reference": "E22, the pentagon-digon phase change",
}


@undisturbed()
def polygon_losses(relative_density: ArrayLike = RELATIVE_DENSITY, density: float = 0.05) -> xr.Dataset:
    """Exact losses of the stretched pentagon and of two digons, as one feature's density varies.

    The pentagon has the varied feature at its tip and a mirror symmetry; its three lengths, two angles and
    three biases are free. The digons leave the feature out, which costs its variance, and are free in
    length and bias. `relative_density` is the varied feature's density over the others' `density`: 0.4 is 2.5
    times sparser. E22 reports a crossing at about 2.5; in the setting that it names the exact losses cross at 3.72,
    and so do those of the best trained models.

    Returns `loss` (geometry, relative_density), NaN for the pentagon where it has lost its tip and so is
    the other geometry; `weight` (geometry, relative_density, hidden, feature) and `bias`; the varied feature is
    the first. Raises ModelError for densities outside 0 to 1.
    """
    relative, by_feature = _densities(relative_density, density)
    densities = torch.tensor(by_feature)
    pentagon = _stretched_pentagons(densities)
    stretched = _pentagon_loss(densities, **pentagon)

    def digons_loss(length: Tensor, bias: Tensor) -> Tensor:
        pair, others = length[..., None] * torch.tensor([1.0, -1.0]), densities[..., 1:3]
        two = expected_loss(pair, bias.expand(*bias.shape[:-1], 2), others, torch.ones_like(others))
        return 2 * two + not_represented_loss(densities[..., 0])

    n = len(relative)
    digons, pair = minimise(digons_loss, {"length": torch.ones(n, 1), "bias": torch.zeros(n, 1)})

    weight = np.stack([_pentagon(pentagon["length"], pentagon["angle"]).numpy(), _digons(pair["length"]).numpy()])
    left_out = torch.cat([densities[:, :1] / 2, pair["bias"].expand(-1, 4)], dim=1)
    bias = np.stack([pentagon["bias"][:, [0, 1, 2, 2, 1]].numpy(), left_out.numpy()])
    loss = np.stack([np.where(pentagon["length"][:, 0] >= MIN_NORM, stretched, np.nan), digons.numpy()])
    branch = ("geometry", "relative_density")
    return xr.Dataset(
        {
            "loss": (branch, loss, {"units": "1", "long_name": "exact loss of a geometry at its best"}),
            "weight": ((*branch, "hidden", "feature"), weight, {"units": "1"}),
            "bias": ((*branch, "feature"), bias, {"units": "1"}),
        },
        {
            "geometry": list(GEOMETRIES),
            "relative_density": (
                "relative_density",
                relative,
                {"units": "1", "long_name": "density of the first feature over that of the others"},
            ),
        },
        {**ABOUT, "density": density},
    )


@undisturbed()
def train_polygons(
    relative_density: ArrayLike = RELATIVE_DENSITY,
    density: float = 0.05,
    n_starts: int = 64,
    training: TrainingSettings | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """The same two branches as training finds them: the best of many starts that end in each geometry.

    `n_starts` models are trained at each `relative_density` to the others' `density`. A start ends in `digons` if the
    first feature is left out (shorter than 1/2), else in the `pentagon`. `training` overrides settings of
    `train_toy_models`. Returns what `polygon_losses` does, a branch being NaN where no start ends in it, and
    `n_ended` (geometry, relative_density), how many starts did. Losses are exact ones of the trained weights.
    `progress` shows a bar. Raises ModelError as `polygon_losses` and `train_toy_models` do.
    """
    settings = overridden({"n_steps": 4000, "batch_size": 1024, "learning_rate": 5e-3, "schedule": "cosine"}, training)
    n_starts = whole_number(n_starts, "n_starts", 1, ModelError)
    relative, densities = _densities(relative_density, density)
    models = ToyModels(
        5,
        2,
        density=np.repeat(densities, n_starts, axis=0),
        seed=np.arange(len(relative) * n_starts),
    )
    history = train_toy_models(models, steps=[settings["n_steps"]], progress=progress, **settings)
    weight, bias = history["weight"].values[:, -1], history["bias"].values[:, -1]
    exact = expected_loss(*(torch.tensor(a).double() for a in (weight, bias, models.density, models.importance)))
    shape = len(relative), n_starts
    is_digons = (np.linalg.norm(weight[..., 0], axis=-1) < MIN_NORM).reshape(shape)
    ended = np.stack([~is_digons, is_digons])
    losses = np.where(ended, exact.numpy().reshape(shape), np.inf)
    best = np.arange(len(relative)) * n_starts + losses.argmin(axis=-1)
    found: np.ndarray = np.any(ended, axis=-1)
    branch = ("geometry", "relative_density")
    return xr.Dataset(
        {
            "loss": (
                branch,
                np.where(found, losses.min(axis=-1), np.nan),
                {"units": "1", "long_name": "exact loss of the best start that ended in a geometry"},
            ),
            "weight": ((*branch, "hidden", "feature"), np.where(found[..., None, None], weight[best], np.nan)),
            "bias": ((*branch, "feature"), np.where(found[..., None], bias[best], np.nan)),
            "n_ended": (branch, ended.sum(axis=-1), {"long_name": "starts that ended in a geometry"}),
        },
        {"geometry": list(GEOMETRIES), "relative_density": ("relative_density", relative, {"units": "1"})},
        {**ABOUT, "density": density, "n_starts": n_starts, **settings},
    )


def losses_cross(branches: xr.Dataset) -> float | None:
    """The relative density where the two branches' losses cross, or None where they do not.

    By linear interpolation of the loss difference against the log of the density, between the two
    neighbouring densities where both branches exist and the difference changes sign; the sparsest such.
    Its inverse says how many times sparser the first feature is.
    """
    difference = (branches["loss"].sel(geometry="pentagon") - branches["loss"].sel(geometry="digons")).sortby(
        "relative_density"
    )
    difference = difference.dropna("relative_density")
    log_density, gap = np.log(difference["relative_density"].values), difference.values
    for i in np.flatnonzero(np.sign(gap[:-1]) != np.sign(gap[1:])):
        share = gap[i] / (gap[i] - gap[i + 1])
        return float(np.exp(log_density[i] + share * (log_density[i + 1] - log_density[i])))
    return None


def _densities(
    relative_density: ArrayLike, density: float
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, "case feature"]]:
    """The varied feature's density over the others', and the densities of all five. Raises ModelError."""
    relative = np.atleast_1d(real_numbers(relative_density, "relative_density", "(0, inf)", ModelError))
    densities = np.full((len(relative), 5), real_number(density, "density", "(0, 1]", ModelError))
    densities[:, 0] *= relative
    if densities.max() > 1:
        raise ModelError(
            f"density={density} times relative_density must be at most 1; seen {densities.max():.3g}: lower one of them"
        )
    return relative, densities


def _stretched_pentagons(densities: Tensor) -> dict[str, Tensor]:
    """The best pentagon for each row of densities, followed from the regular one of five equally dense features.

    From afar a sparse tip may slide to zero although its pentagon still is a minimum.
    """
    start = {
        "length": torch.ones(1, 3),
        "angle": torch.tensor([[0.4, 0.8]]) * np.pi,
        "bias": torch.zeros(1, 3),
    }
    equal = densities[:1, 1:2].expand(1, 5)
    _, regular = minimise(partial(_pentagon_loss, equal), start)
    start = {name: value.expand(len(densities), -1) for name, value in regular.items()}
    return minimise(partial(_pentagon_loss, densities), start)[1]


def _pentagon_loss(densities: Tensor, length: Tensor, angle: Tensor, bias: Tensor) -> Tensor:
    weight, biases = _pentagon(length, angle), bias[..., [0, 1, 2, 2, 1]]
    return expected_loss(weight, biases, densities, torch.ones_like(densities))


def _pentagon(length: Tensor, angle: Tensor) -> Tensor:
    """Corners of a pentagon with a mirror symmetry through its first: (…, hidden, feature)."""
    lengths = length[..., [0, 1, 2, 2, 1]]
    one, two = angle.unbind(-1)
    angles = torch.stack([0 * one, one, two, -two, -one], dim=-1)
    return torch.stack([lengths * angles.cos(), lengths * angles.sin()], dim=-2)


def _digons(length: Tensor) -> Tensor:
    """Two digons across each other, the first feature at zero: (…, hidden, feature)."""
    corners = torch.tensor([[0.0, 1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, -1.0]])
    return length[..., None] * corners
