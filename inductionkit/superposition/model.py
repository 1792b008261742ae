"""Toy models of superposition (E22): `x' = ReLU(W^T W x + b)`, many instances side by side.

A feature is 0 with probability 1 - density, else uniform on [0, 1]. What varies between instances
are arrays with a leading `instance` dimension; the shape of the models does not vary.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.real_numbers import real_numbers
from ..system.whole_numbers import whole_number, whole_numbers

Batch = Callable[[slice], Float[Tensor, "*instance feature sample"]]
ACTIVATIONS = ("relu", "linear")
CORRELATIONS = ("correlated", "anticorrelated")


@dataclass(frozen=True, init=False)
class ToyModels:
    """What toy models are and what data they see; `density` and `importance` broadcast to (instance, feature).

    `n_features` features, of which `n_hidden` dimensions are to hold more than they can; the output passes the
    `activation`, `relu` or `linear`. Densities and importances are numbers, or arrays of shape (feature,), (instance,
    1) or (instance, feature). There are as many instances as the longest of `density`, `importance` and `seed` has.
    The `seed` of an instance sets its initial weights.

    `feature_sets` are features that depend on each other, equally dense within a set, as `correlation` says:
    `correlated` sets are active together, each feature with a value of its own; of an `anticorrelated` set at most
    one feature is active at a time (E22, "correlated features"). `unit_length` scales each sample to length 1, as H23
    does; a sample without an active feature stays 0.

    Raises ModelError for values outside their range or shapes that do not fit.

    >>> models = ToyModels(5, 2, density=[[0.1], [0.05]], importance=[1, 0.9, 0.8, 0.7, 0.6])
    >>> models.n_instances, models.importance.shape
    (2, (2, 5))
    """

    n_features: int
    n_hidden: int
    density: Float[np.ndarray, "instance feature"]
    importance: Float[np.ndarray, "instance feature"]
    seed: Int[np.ndarray, " instance"]
    activation: str
    feature_sets: tuple[tuple[int, ...], ...]
    correlation: str
    unit_length: bool

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        density: ArrayLike = 0.05,
        importance: ArrayLike = 1.0,
        seed: ArrayLike = 0,
        activation: str = "relu",
        feature_sets: tuple[tuple[int, ...], ...] = (),
        correlation: str = "correlated",
        unit_length: bool = False,
    ):
        n_features = whole_number(n_features, "n_features", 1, ModelError)
        n_hidden = whole_number(n_hidden, "n_hidden", 1, ModelError)
        for name, given, allowed in (
            ("activation", activation, ACTIVATIONS),
            ("correlation", correlation, CORRELATIONS),
        ):
            if given not in allowed:
                raise ModelError(f"{name}={given!r} must be {' or '.join(allowed)}")
        seeds = whole_numbers(seed, "seed", 0, ModelError)
        densities = real_numbers(density, "density", "(0, 1]", ModelError)
        importances = real_numbers(importance, "importance", "[0, inf)", ModelError)
        try:
            leading = (array.shape[:-1] for array in (densities, importances) if array.ndim)
            n_instances = np.broadcast_shapes(*leading, seeds.shape)[0]
            fields = {
                "n_features": n_features,
                "n_hidden": n_hidden,
                "density": np.broadcast_to(densities, (n_instances, n_features)).copy(),
                "importance": np.broadcast_to(importances, (n_instances, n_features)).copy(),
                "seed": np.broadcast_to(seeds, (n_instances,)).copy(),
                "activation": activation,
                "feature_sets": feature_sets,
                "correlation": correlation,
                "unit_length": unit_length,
            }
        except (ValueError, IndexError):
            raise ModelError(
                f"density {densities.shape}, importance {importances.shape} and seed {seeds.shape} do not broadcast "
                f"to (instance, {n_features}); give shapes (), (feature,), (instance, 1) or (instance, feature), "
                f"and one seed or one per instance"
            ) from None
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check_sets()

    @property
    def n_instances(self) -> int:
        """How many models there are side by side."""
        return len(self.seed)

    def _check_sets(self) -> None:
        try:
            members = [feature for group in self.feature_sets for feature in group]
        except TypeError:
            raise ModelError(f"feature_sets={self.feature_sets!r} must be tuples of features") from None
        if len(set(members)) < len(members) or not set(members) <= set(range(self.n_features)):
            raise ModelError(
                f"feature_sets={self.feature_sets} must name each of the features 0..{self.n_features - 1} at most once"
            )
        for group in self.feature_sets:
            density = self.density[:, list(group)]
            if np.ptp(density, axis=1).any():
                raise ModelError(f"the features of the set {group} must be equally dense")
            if self.correlation == "anticorrelated" and density.sum(axis=1).max() > 1:
                total = density.sum(axis=1).max()
                raise ModelError(f"the densities of the anticorrelated set {group} add up to {total:.3g}, above 1")


def initial_weights(models: ToyModels) -> Float[Tensor, "instance hidden_and_bias feature"]:
    """Weights drawn from a normal distribution of variance 2 / (features + hidden); the last row, the biases, is 0."""
    drawn = torch.zeros(models.n_instances, models.n_hidden + 1, models.n_features)
    deviation = (2 / (models.n_features + models.n_hidden)) ** 0.5
    for instance, seed in enumerate(models.seed.tolist()):
        shape = models.n_hidden, models.n_features
        drawn[instance, :-1] = torch.randn(shape, generator=_generator(seed, "weights")) * deviation
    return drawn


class FeatureSampler:
    """Draws batches of features; all instances see the same random numbers, each through its own densities.

    So instances can be compared sample by sample, and where all are equally dense they share one batch,
    which then has no instance dimension. Samples stand last because they are many.
    """

    def __init__(self, models: ToyModels, seed: int, purpose: str):
        self._generator = _generator(seed, purpose)
        self._n_features = models.n_features
        self._unit_length = models.unit_length
        self._sets = [list(group) for group in models.feature_sets]
        self._together = models.correlation == "correlated"
        self._density = torch.tensor(models.density, dtype=torch.float32)[..., None]
        self._shared = bool((self._density == self._density[:1]).all())

    def batch(self, n_samples: int) -> Batch:
        """Draw a batch: a function that gives the features (…, feature, sample) of a slice of the instances."""
        drawn = torch.rand(2 if self._sets else 1, self._n_features, n_samples, generator=self._generator)
        return lambda instances: self._features(drawn, instances)

    def _features(
        self, drawn: Float[Tensor, "draw feature sample"], instances: slice
    ) -> Float[Tensor, "*instance feature sample"]:
        # An active feature needs no second random number: given u < p, 1 - u / p is uniform again.
        density = self._density[0] if self._shared else self._density[instances]
        x = (drawn[0] * (-1 / density)).add_(1).clamp_(min=0)
        for group in self._sets:
            turn = torch.zeros(len(group)) if self._together else torch.arange(float(len(group)))
            lower = turn[:, None] * density[..., group, :]
            gate = drawn[0, group[0]]
            active = (gate >= lower) & (gate < lower + density[..., group, :])
            x[..., group, :] = torch.where(active, drawn[1, group], 0.0)
        if self._unit_length:
            x /= x.norm(dim=-2, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        return x


@undisturbed()
def draw_points(models: ToyModels, n_points: int) -> Float[np.ndarray, "instance point feature"]:
    """A data set of `n_points` points for each instance of `models`, drawn from its features by its `seed`."""
    n_points = whole_number(n_points, "n_points", 1, ModelError)
    points = np.empty((models.n_instances, n_points, models.n_features), dtype=np.float32)
    for instance, seed in enumerate(models.seed.tolist()):
        sampler = FeatureSampler(models, seed, "points")
        x = sampler.batch(n_points)(slice(instance, instance + 1))
        points[instance] = x.reshape(models.n_features, n_points).T.numpy()
    return points


def _generator(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose, so that weights and data of the same seed have nothing to do with each other."""
    key = zlib.crc32(purpose.encode())
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, key)).generate_state(1)[0]))
