"""The phase diagram of one extra feature: sparsity against relative importance (E22).

Two features share one dimension, or three share two; the others have importance 1. In each cell the
extra feature is not represented, superposed, or has a dimension of its own: which, is found twice, by
comparing the exact losses of the candidate solutions and by training.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.real_numbers import real_numbers
from ..system.whole_numbers import whole_number
from .agreement import STATES
from .closed_form import expected_loss, minimise, not_represented_loss
from .dimensionality import feature_dimensionality
from .history import SCHEMA_VERSION
from .model import ToyModels
from .train import TrainingSettings, overridden, train_toy_models

MIN_SQUARED_NORM = 0.25
MIN_OWN_DIMENSIONALITY = 0.75
MIN_LENGTH = 0.05


def feature_states(weight: Float[np.ndarray, "*case hidden feature"], feature: int = -1) -> np.ndarray:
    """The state of one feature of `weight` (…, hidden, feature), one of `STATES`, by its length and dimensionality.

    Not represented if `|W_i|^2` is below 1/4, of an own dimension if `D_i` is at least 3/4 (half way from a
    digon's 1/2 to 1), else superposed. The last feature is meant by default.

    >>> str(feature_states(np.array([[1.0, -1.0]])))
    'superposed'
    """
    n_features = weight.shape[-1]
    if whole_number(feature, "feature", -n_features, ModelError) >= n_features:
        raise ModelError(f"feature={feature}: the weights have features 0..{n_features - 1}")
    squared_norm = (weight[..., feature] ** 2).sum(axis=-1)
    dimensionality = feature_dimensionality(weight)[..., feature]
    state = np.where(dimensionality >= MIN_OWN_DIMENSIONALITY, 2, 1)
    return np.array(STATES)[np.where(squared_norm < MIN_SQUARED_NORM, 0, state)]


@undisturbed()
def candidate_solutions(n_hidden: int, sparsity: ArrayLike, relative_importance: ArrayLike) -> xr.Dataset:
    """The exact losses of the candidate solutions for an extra feature, each at its best lengths, angles and biases.

    With `n_hidden=1` two features, with `n_hidden=2` three; V is the variance of a feature, A(I, J) the least loss
    of an antipodal pair of importances I and J, T that of a triangle with the extra feature at its tip:

    - extra left out: `r V`
    - extra alone, another left out: `V`
    - extra in a digon: `A(1, r)`, the third feature by itself
    - others in a digon, extra alone (three features): `A(1, 1)`
    - triangle (three features): `T(r)`

    Each has the `state` of the extra feature in it, by `feature_states`: in a lopsided digon the weaker feature
    may hardly be represented. A digon or triangle whose minimum has lost a feature altogether, or which has
    opened to a right angle, is another of these solutions: its loss is NaN.

    Returns `loss` and `state` (solution, sparsity, relative_importance), the `best_state` of each cell and
    `margin`, by what share of its loss the best solution of another state is worse. Raises ModelError for a
    sparsity outside 0 to 1 (1 excluded), importances that are not positive, or another `n_hidden`.
    """
    if whole_number(n_hidden, "n_hidden", 1, ModelError) > 2:
        raise ModelError(f"n_hidden={n_hidden}: the diagram is for two features in 1 dimension or three in 2")
    sparsity = np.atleast_1d(real_numbers(sparsity, "sparsity", "[0, 1)", ModelError))
    relative = np.atleast_1d(real_numbers(relative_importance, "relative_importance", "(0, inf)", ModelError))
    density = torch.tensor(1 - sparsity)[:, None].expand(-1, len(relative))
    extra = torch.tensor(relative)[None].expand(len(sparsity), -1)
    variance = not_represented_loss(density)
    digon, digon_state = _digon(density, extra)
    solutions = {
        "extra left out": (extra * variance, np.full(extra.shape, STATES[0])),
        "extra alone, another left out": (variance, np.full(extra.shape, STATES[2])),
        "extra in a digon": (digon, digon_state),
    }
    if n_hidden == 2:
        equal, _ = _digon(density[:, :1], torch.ones_like(extra[:, :1]))
        solutions["others in a digon, extra alone"] = (equal.expand_as(extra), np.full(extra.shape, STATES[2]))
        solutions["triangle"] = _triangle(density, extra)
    loss = np.stack([found.numpy() for found, _ in solutions.values()])
    state = np.stack([of_cells for _, of_cells in solutions.values()])
    of_state = np.stack([np.where((state == one) & np.isfinite(loss), loss, np.inf).min(axis=0) for one in STATES])
    ranked = np.sort(of_state, axis=0)
    cell = ("sparsity", "relative_importance")
    return xr.Dataset(
        {
            "loss": (("solution", *cell), loss, {"units": "1", "long_name": "exact loss of a solution at its best"}),
            "state": (("solution", *cell), state, {"long_name": "state of the extra feature in a solution"}),
            "best_state": (
                cell,
                np.array(STATES)[of_state.argmin(axis=0)],
                {"long_name": "state of the best solution"},
            ),
            "margin": (
                cell,
                ranked[1] / np.maximum(ranked[0], 1e-12) - 1,
                {"units": "1", "long_name": "excess loss of the best solution of another state"},
            ),
        },
        {
            "solution": list(solutions),
            "sparsity": ("sparsity", sparsity, {"units": "1", "long_name": "probability that a feature is zero"}),
            "relative_importance": (
                "relative_importance",
                relative,
                {"units": "1", "long_name": "importance of the extra feature, the others having 1"},
            ),
        },
        {
            "schema_version": SCHEMA_VERSION,
            "experiment": "phase diagram",
            "reference": "E22, superposition as a phase change",
            "n_hidden": n_hidden,
            "n_features": n_hidden + 1,
        },
    )


@undisturbed()
def phase_diagram(
    n_hidden: int = 1,
    sparsity: ArrayLike | None = None,
    relative_importance: ArrayLike | None = None,
    n_starts: int = 8,
    training: TrainingSettings | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Closed form and training side by side: the state of the extra feature in each cell.

    `n_hidden` is 1 for two features or 2 for three. The axes are by default 12 densities `1 - sparsity` from 1 to
    0.01 and 12 importances from 0.1 to 10, evenly spaced in their logarithm. In each cell `n_starts` models are
    trained (`training` overrides settings of `train_toy_models`), and the one of the least exact loss is kept, since
    gradient descent gets stuck; `progress` shows a bar.

    Returns the variables of `candidate_solutions`, and `weight` (sparsity, relative_importance, hidden, feature),
    `bias`, `trained_loss` (exact, not sampled), `trained_state`, and `on_boundary`, true where a neighbouring
    cell has another `best_state`. The extra feature is the last. Raises ModelError as `candidate_solutions`.
    """
    settings = overridden({"n_steps": 3000, "batch_size": 512, "learning_rate": 1e-2, "schedule": "cosine"}, training)
    n_starts = whole_number(n_starts, "n_starts", 1, ModelError)
    sparsity = 1 - np.geomspace(1, 0.01, 12) if sparsity is None else sparsity
    relative_importance = np.geomspace(0.1, 10, 12) if relative_importance is None else relative_importance
    diagram = candidate_solutions(n_hidden, sparsity, relative_importance)
    shape = diagram.sizes["sparsity"], diagram.sizes["relative_importance"], n_starts
    n_features = n_hidden + 1
    density = np.broadcast_to(1 - diagram["sparsity"].values[:, None, None], shape)
    importance = np.ones((*shape, n_features))
    importance[..., -1] = diagram["relative_importance"].values[:, None]
    models = ToyModels(
        n_features,
        n_hidden,
        density=density.reshape(-1, 1),
        importance=importance.reshape(-1, n_features),
        seed=np.arange(density.size),
    )
    history = train_toy_models(models, steps=[settings["n_steps"]], progress=progress, **settings)
    weight, bias = history["weight"].values[:, -1], history["bias"].values[:, -1]
    exact = expected_loss(*(torch.tensor(a).double() for a in (weight, bias, models.density, models.importance)))
    loss = exact.numpy().reshape(shape)
    best = np.arange(loss.size).reshape(shape)[(*np.indices(shape[:2]), loss.argmin(axis=-1))]
    cell = ("sparsity", "relative_importance")
    about = {"reference": "E22", "long_name": "of the best start"}
    return diagram.assign(
        weight=((*cell, "hidden", "feature"), weight[best], {"units": "1", **about}),
        bias=((*cell, "feature"), bias[best], {"units": "1", **about}),
        trained_loss=(cell, loss.min(axis=-1), {"units": "1", "long_name": "exact loss of the best start"}),
        trained_state=(cell, feature_states(weight[best]), about),
        on_boundary=(cell, _on_boundary(diagram["best_state"].values)),
    ).assign_attrs(n_starts=n_starts, **settings)


def _digon(density: Float[Tensor, "*cell"], extra: Float[Tensor, "*cell"]) -> tuple[Float[Tensor, "*cell"], np.ndarray]:
    """Least loss of an antipodal pair of importances 1 and `extra`, NaN where one vanishes; state of the latter."""
    importance = torch.stack([torch.ones_like(extra), extra], dim=-1)
    densities = density[..., None].expand_as(importance)

    def weight(length: Tensor) -> Tensor:
        return (length * torch.tensor([1.0, -1.0])).unsqueeze(-2)

    def loss(length: Tensor, bias: Tensor) -> Tensor:
        return expected_loss(weight(length), bias, densities, importance)

    least, found = minimise(loss, {"length": torch.ones_like(importance), "bias": torch.zeros_like(importance)})
    exists = (found["length"].abs() > MIN_LENGTH).all(-1)
    return torch.where(exists, least, torch.nan), feature_states(weight(found["length"]).numpy())


def _triangle(
    density: Float[Tensor, "*cell"], extra: Float[Tensor, "*cell"]
) -> tuple[Float[Tensor, "*cell"], np.ndarray]:
    """Least loss of two features at (u, v) and (u, -v) and the extra one at (-w, 0), and the latter's state.

    NaN where one vanishes or the extra one no longer leans on the others.
    """
    importance = torch.stack([torch.ones_like(extra), torch.ones_like(extra), extra], dim=-1)
    densities = density[..., None].expand_as(importance)

    def weight(corner: Tensor) -> Tensor:
        u, v, w = corner.unbind(-1)
        return torch.stack([torch.stack([u, u, -w], -1), torch.stack([v, -v, 0 * w], -1)], -2)

    def loss(corner: Tensor, bias: Tensor) -> Tensor:
        return expected_loss(weight(corner), bias[..., [0, 0, 1]], densities, importance)

    start = torch.tensor([0.5, 0.75**0.5, 1.0]).expand(*extra.shape, -1)
    least, found = minimise(loss, {"corner": start, "bias": torch.zeros(*extra.shape, 2)})
    exists = (found["corner"].abs() > MIN_LENGTH).all(-1)
    return torch.where(exists, least, torch.nan), feature_states(weight(found["corner"]).numpy())


def _on_boundary(state: np.ndarray) -> np.ndarray:
    """Whether one of the eight cells around has another state."""
    padded = np.pad(state, 1, mode="edge")
    rows, columns = state.shape
    shifts = [(i, j) for i in range(3) for j in range(3)]
    differs: np.ndarray = np.any([padded[i : i + rows, j : j + columns] != state for i, j in shifts], axis=0)
    return differs
