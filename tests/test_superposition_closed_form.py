"""The exact losses, against numerical integration, brute force and known solutions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from inductionkit.errors import ModelError
from inductionkit.superposition.closed_form import SMALL, expected_loss, minimise, not_represented_loss
from inductionkit.superposition.diagram import candidate_solutions, feature_states
from inductionkit.superposition.polygons import losses_cross, polygon_losses


def integrated_loss(weight, bias, density, importance, n_cells=24):
    """The expected loss by composite Gauss quadrature over the active features, all subsets of them in turn."""
    nodes, weights = np.polynomial.legendre.leggauss(3)
    cells = np.arange(n_cells)[:, None]
    grid, mass = ((cells + (nodes + 1) / 2) / n_cells).ravel(), np.tile(weights / 2 / n_cells, n_cells)
    n_features = weight.shape[1]
    total = 0.0
    for active in itertools.product([False, True], repeat=n_features):
        axes = [(grid, mass) if on else (np.zeros(1), np.ones(1)) for on in active]
        x = np.stack(np.meshgrid(*(axis for axis, _ in axes), indexing="ij"), axis=-1)
        probability = np.prod(np.where(active, density, 1 - np.asarray(density)))
        weighted = probability * np.prod(
            np.stack(np.meshgrid(*(one for _, one in axes), indexing="ij"), axis=-1), axis=-1
        )
        output = np.maximum(x @ weight.T @ weight + bias, 0)
        total += (weighted * ((x - output) ** 2 * importance).sum(axis=-1)).sum()
    return total


def exact(*arrays) -> float:
    return expected_loss(*(torch.tensor(np.asarray(array), dtype=torch.float64) for array in arrays)).item()


@pytest.mark.parametrize(("n_features", "n_hidden"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_expected_loss_is_the_integral(n_features, n_hidden, seed):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(n_hidden, n_features)), rng.normal(size=n_features) * 0.3
    density, importance = rng.uniform(0.05, 1, n_features), rng.uniform(0.1, 2, n_features)
    expected = integrated_loss(weight, bias, density, importance)
    assert exact(weight, bias, density, importance) == pytest.approx(expected, rel=1e-4)


def test_expected_loss_of_five_features_is_the_mean_over_samples():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2, 5)) * 0.8, rng.normal(size=5) * 0.2
    density, importance = rng.uniform(0.05, 0.9, 5), rng.uniform(0.1, 2, 5)
    x = np.maximum(1 - rng.random((2_000_000, 5)) / density, 0)
    losses = ((x - np.maximum(x @ weight.T @ weight + bias, 0)) ** 2 * importance).sum(axis=1)
    error = losses.std() / len(losses) ** 0.5
    assert abs(exact(weight, bias, density, importance) - losses.mean()) < 4 * error


@pytest.mark.parametrize("overlap", [0.0, SMALL / 100, SMALL * 0.999, SMALL * 1.001, -SMALL / 2])
def test_small_coefficients_lose_no_digits(overlap):
    weight = np.array([[1.0, overlap], [0.0, 0.7]])
    arguments = (np.array([0.001, -0.002]), np.array([0.4, 0.7]), np.ones(2))
    assert exact(weight, *arguments) == pytest.approx(integrated_loss(weight, *arguments, n_cells=400), abs=2e-7)


def test_expected_loss_has_the_gradient_of_the_integral():
    weight = torch.tensor([[0.9, -0.8, 0.3]], dtype=torch.float64, requires_grad=True)
    rest = [
        torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0.0, -0.1], [0.3, 0.6, 0.2], [1.0, 2.0, 0.5])
    ]
    assert torch.autograd.gradcheck(lambda w: expected_loss(w, *rest), weight)


def test_cases_are_independent_and_too_many_features_are_refused():
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 3))
    density, importance = np.full((4, 3), 0.2), np.ones((4, 3))
    together = expected_loss(*(torch.tensor(array) for array in (weight, bias, density, importance)))
    one_by_one = [exact(*arrays) for arrays in zip(weight, bias, density, importance)]
    assert together.tolist() == pytest.approx(one_by_one, rel=1e-12)
    with pytest.raises(ModelError, match="9 features"):
        exact(np.ones((1, 9)), np.ones(9), np.ones(9), np.ones(9))


def test_perfect_reconstruction_and_no_representation():
    assert exact(np.eye(2), np.zeros(2), np.full(2, 0.3), np.ones(2)) == pytest.approx(0, abs=1e-14)
    mean = 0.3 / 2
    assert exact(np.zeros((1, 1)), [mean], [0.3], [1.0]) == pytest.approx(not_represented_loss(0.3))


def test_antipodal_pair_of_unit_length():
    """Both features active (p^2) costs each output min(x, y)^2 on average 1/6; one alone costs nothing."""
    for p in (0.05, 0.4, 1.0):
        assert exact([[1.0, -1.0]], [0, 0], [p, p], [1, 1]) == pytest.approx(p**2 / 3)


def test_minimise_finds_the_best_bias_of_a_feature_left_out():
    density = torch.tensor([[0.1], [0.9]], dtype=torch.float64)

    def loss(bias):
        return expected_loss(torch.zeros(2, 1, 1), bias, density, torch.ones(2, 1))

    least, found = minimise(loss, {"bias": torch.full((2, 1), 0.3)})
    assert found["bias"][:, 0].tolist() == pytest.approx([0.05, 0.45], abs=1e-5)
    assert least.tolist() == pytest.approx([not_represented_loss(0.1), not_represented_loss(0.9)], abs=1e-9)


def test_candidate_solutions_of_two_features():
    """The diagram is symmetric under exchange of the two features, and dense features are never superposed."""
    solutions = candidate_solutions(1, [0.0, 0.9], [0.1, 0.5, 2.0, 10.0])
    assert solutions["best_state"].values.tolist() == [
        ["not represented", "not represented", "own dimension", "own dimension"],
        ["superposed"] * 4,
    ]
    digon = solutions["loss"].sel(solution="extra in a digon", sparsity=0.9).values
    assert digon[::-1] * [0.1, 0.5, 2.0, 10.0] == pytest.approx(digon, rel=1e-5)  # A(1, r) = r A(1, 1/r)
    variance = not_represented_loss(0.1)
    alone = solutions["loss"].sel(solution="extra alone, another left out", sparsity=0.9)
    left_out = solutions["loss"].sel(solution="extra left out", sparsity=0.9)
    assert alone.values == pytest.approx(variance) and left_out.values == pytest.approx(
        variance * solutions["relative_importance"].values
    )
    with pytest.raises(ModelError, match="n_hidden=3"):
        candidate_solutions(3, [0.5], [1.0])
    with pytest.raises(ModelError, match="sparsity"):
        candidate_solutions(1, [1.0], [1.0])


def test_candidate_solutions_of_three_features_contain_those_of_two():
    """Where the extra feature is in a digon, the third has a dimension to itself and costs nothing."""
    two, three = (candidate_solutions(n_hidden, [0.8], [0.5, 3.0]) for n_hidden in (1, 2))
    assert three["loss"].sel(solution=two["solution"]).values == pytest.approx(two["loss"].values)
    others = three["loss"].sel(solution="others in a digon, extra alone")
    assert np.ptp(others.values) == 0  # does not depend on the extra feature's importance
    assert three["best_state"].values.tolist() == [["superposed", "own dimension"]]


def test_feature_states_of_known_weights():
    weights = np.array([[[1, 0, 0.1], [0, 1, 0]], [[1, 0, 0], [0, 1, -1]], [[1, -1, 0], [0, 0, 1]]])
    assert feature_states(weights).tolist() == ["not represented", "superposed", "own dimension"]
    assert feature_states(weights, feature=0).tolist() == ["own dimension", "own dimension", "superposed"]


@pytest.fixture(scope="module")
def branches():
    return polygon_losses([0.2, 0.26, 0.28, 0.6, 1.0])


def test_pentagon_and_digons_have_the_losses_of_their_weights(branches):
    for geometry in branches["geometry"].values:
        for relative in branches["relative_density"].values:
            at = branches.sel(geometry=geometry, relative_density=relative)
            density = np.array([0.05 * relative, 0.05, 0.05, 0.05, 0.05])
            assert exact(at["weight"], at["bias"], density, np.ones(5)) == pytest.approx(at["loss"].item(), rel=1e-9)


def test_equally_dense_features_make_a_regular_pentagon(branches):
    weight = branches["weight"].sel(geometry="pentagon", relative_density=1.0).values
    gram = weight.T @ weight
    assert gram / gram[0, 0] == pytest.approx(np.cos(2 * np.pi * np.subtract.outer(range(5), range(5)) / 5), abs=1e-3)


def test_no_free_change_of_a_branch_lowers_its_loss(branches):
    """The families are big enough: the gradient over all weights and biases vanishes at their minima."""
    at = branches.sel(geometry="pentagon", relative_density=0.6)
    weight, bias = (torch.tensor(at[name].values, requires_grad=True) for name in ("weight", "bias"))
    density = torch.tensor([0.03, 0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    expected_loss(weight, bias, density, torch.ones(5)).backward()
    assert weight.grad.abs().max() < 1e-5 and bias.grad.abs().max() < 1e-5


def test_the_losses_cross_where_the_feature_is_3_7_times_sparser(branches):
    assert 1 / losses_cross(branches) == pytest.approx(3.73, abs=0.03)
    assert losses_cross(branches.isel(relative_density=[3, 4])) is None
    with pytest.raises(ModelError, match="relative_density"):
        polygon_losses([30.0])
