"""Toy models and their training: data, gradient, determinism, the levels and geometries that E22 publishes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from inductionkit.errors import HistoryError, ModelError
from inductionkit.superposition import (
    ToyModels,
    draw_points,
    expected_loss,
    feature_dimensionality,
    find_polytopes,
    log_spaced_steps,
    open_experiment,
    polygon_losses,
    save_experiment,
    train_toy_models,
)
from inductionkit.superposition.dimensionality import STICKY_LEVELS
from inductionkit.superposition.model import FeatureSampler, initial_weights
from inductionkit.superposition.train import loss_gradient

QUICK = {"n_steps": 30, "batch_size": 64, "steps": [0, 30], "progress": False}


@pytest.fixture(autouse=True)
def one_thread():  # such small matrices are slower on several
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(models: ToyModels, n_samples: int = 200_000) -> np.ndarray:
    """(instance, feature, sample), also where the instances share one batch."""
    x = FeatureSampler(models, 0, "test").batch(n_samples)(slice(0, models.n_instances))
    return x.expand(models.n_instances, -1, -1).numpy()


def test_features_are_active_by_their_density_and_uniform_then():
    density = np.array([[0.05, 0.5, 1.0], [0.2, 0.1, 0.9]])
    x = sample(ToyModels(3, 1, density=density))
    assert (x > 0).mean(axis=-1) == pytest.approx(density, abs=0.005)
    for values, p in zip(x.reshape(6, -1), density.ravel()):
        active = np.sort(values[values > 0])
        uniform = (np.arange(len(active)) + 0.5) / len(active)
        assert np.abs(active - uniform).max() < 2 / len(active) ** 0.5, p  # Kolmogorov-Smirnov, far beyond p = 0.01
    assert np.corrcoef(x[0, :2])[0, 1] == pytest.approx(0, abs=0.02)


def test_correlated_sets_are_active_together_with_values_of_their_own():
    x = sample(ToyModels(4, 1, density=[[0.1], [0.3]], feature_sets=((0, 2), (1, 3))))
    active = x > 0
    assert (active[:, 0] == active[:, 2]).mean() > 0.9999 and (active[:, 1] == active[:, 3]).mean() > 0.9999
    assert active.mean(axis=-1) == pytest.approx(np.array([[0.1] * 4, [0.3] * 4]), abs=0.005)
    both = active[1, 0] & active[1, 1]
    assert both.mean() == pytest.approx(0.09, abs=0.005)  # sets are independent of each other
    assert np.corrcoef(x[1][:, both][[0, 2]])[0, 1] == pytest.approx(0, abs=0.03)


def test_anticorrelated_sets_are_never_active_together():
    x = sample(ToyModels(3, 1, density=0.2, feature_sets=((0, 1, 2),), correlation="anticorrelated"))[0]
    assert (x > 0).sum(axis=0).max() == 1
    assert (x > 0).mean(axis=-1) == pytest.approx(0.2, abs=0.005)
    assert [row[row > 0].mean() for row in x] == pytest.approx([0.5] * 3, abs=0.01)


def test_points_have_unit_length_and_depend_on_the_seed_alone():
    models = ToyModels(20, 2, density=0.3, seed=[3, 4, 3], unit_length=True)
    points = draw_points(models, 7)
    assert points.shape == (3, 7, 20)
    lengths = np.linalg.norm(points, axis=-1)
    assert lengths[lengths > 0] == pytest.approx(1.0)
    assert (points[0] == points[2]).all() and (points[0] != points[1]).any()


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("shared", [True, False])
def test_the_gradient_is_autograds(activation, shared):
    density = 0.4 if shared else [[0.2], [0.5], [0.9]]
    models = ToyModels(6, 3, density=density, importance=0.8 ** np.arange(6), seed=[0, 1, 2])
    x = FeatureSampler(models, 0, "test").batch(50)(slice(0, 3)).double()
    assert x.ndim == (2 if shared else 3)
    parameters = initial_weights(models).double()
    parameters[:, -1] = torch.linspace(-0.2, 0.2, 6)
    parameters.requires_grad_()
    weight, bias = parameters[:, :-1], parameters[:, -1, :, None]
    importance = torch.tensor(models.importance)[..., None]
    output = weight.mT @ (weight @ x) + bias
    output = output.relu() if activation == "relu" else output
    ((output - x).square() * importance).sum(dim=1).mean(dim=-1).sum().backward()
    by_hand = loss_gradient(parameters.detach(), x, importance.mT, relu=activation == "relu")
    assert torch.allclose(by_hand, parameters.grad, atol=1e-12)


def test_one_step_is_torchs_adamw_on_the_same_batch():
    models = ToyModels(4, 2, density=0.5, importance=[1, 0.9, 0.8, 0.7], seed=5)
    history = train_toy_models(models, n_steps=1, batch_size=32, weight_decay=0.1, steps=[0, 1], progress=False)
    x = FeatureSampler(models, 0, "training").batch(32)(slice(0, 1)).T
    weight = torch.nn.Parameter(torch.tensor(history["weight"].values[0, 0]))
    bias = torch.nn.Parameter(torch.tensor(history["bias"].values[0, 0]))
    optimiser = torch.optim.AdamW([weight, bias], lr=1e-3, weight_decay=0.1)
    error = torch.relu(x @ weight.T @ weight + bias) - x
    (error.square() * torch.tensor([1, 0.9, 0.8, 0.7])).sum(dim=1).mean().backward()
    optimiser.step()
    assert history["weight"].values[0, 1] == pytest.approx(weight.detach().numpy(), abs=1e-6)
    assert history["bias"].values[0, 1] == pytest.approx(bias.detach().numpy(), abs=1e-6)


def test_the_recorded_loss_is_the_exact_one_up_to_sampling():
    models = ToyModels(3, 2, density=[[0.1], [0.6]], importance=[1, 0.5, 0.2], seed=[0, 1])
    history = train_toy_models(models, **QUICK)
    last = [torch.tensor(history[name].values[:, -1]).double() for name in ("weight", "bias")]
    exact = expected_loss(*last, torch.tensor(models.density), torch.tensor(models.importance))
    assert history["loss"].values[:, -1] == pytest.approx(exact.numpy(), rel=0.03)


def test_training_is_deterministic_and_an_instance_does_not_depend_on_its_neighbours():
    models = ToyModels(5, 2, density=0.2, seed=[0, 1, 2])
    first, again = (train_toy_models(models, **QUICK) for _ in range(2))
    xr.testing.assert_identical(first, again)
    alone = train_toy_models(ToyModels(5, 2, density=0.2, seed=1), **QUICK)
    assert alone["weight"].values[0] == pytest.approx(first["weight"].values[1], abs=1e-5)
    other_data = train_toy_models(models, data_seed=1, **QUICK)
    assert (other_data["weight"].values[:, 0] == first["weight"].values[:, 0]).all()
    assert (other_data["weight"].values[:, 1] != first["weight"].values[:, 1]).any()


def test_schedules_reach_their_ends():
    steps = {"steps": [0, 1, 99, 100], "n_steps": 100, "batch_size": 64, "progress": False}
    moves = {}
    for schedule, warmup_steps in (("constant", 0), ("cosine", 0), ("constant", 9)):
        history = train_toy_models(ToyModels(5, 2, density=0.3), schedule=schedule, warmup_steps=warmup_steps, **steps)
        weight = history["weight"].values[0]
        moves[schedule, warmup_steps] = [np.abs(weight[at + 1] - weight[at]).max() for at in (0, 2)]
    assert moves["cosine", 0][0] == pytest.approx(moves["constant", 0][0])
    assert moves["cosine", 0][1] < 0.01 * moves["constant", 0][1]
    assert moves["constant", 9][0] == pytest.approx(0.1 * moves["constant", 0][0], rel=1e-3)


def test_a_small_data_set_is_learnt_by_heart():
    models = ToyModels(200, 2, density=0.02, seed=[0, 1], unit_length=True)
    points = draw_points(models, 3)
    history = train_toy_models(
        models, n_steps=1500, learning_rate=1e-2, schedule="cosine", steps=[1500], points=points, progress=False
    )
    assert (history["training_loss"] < 0.05).all() and (history["loss"] > 0.5).all()
    assert history["point"].values == pytest.approx(points) and history.attrs["batch_size"] == 3


def best_of_starts(n_features: int, n_hidden: int, density: float) -> np.ndarray:
    """Weights of the start with the least exact loss, of 64: few starts end in a tetrahedron."""
    models = ToyModels(n_features, n_hidden, density=density, seed=np.arange(64))
    history = train_toy_models(
        models, n_steps=3000, batch_size=512, learning_rate=1e-2, schedule="cosine", steps=[3000], progress=False
    )
    last = [torch.tensor(history[name].values[:, -1]).double() for name in ("weight", "bias")]
    exact = expected_loss(*last, torch.tensor(models.density), torch.tensor(models.importance))
    return last[0][int(exact.argmin())].numpy()


@pytest.mark.parametrize(
    ("n_features", "n_hidden", "density", "polytope"),
    [
        (3, 3, 0.5, "alone"),
        (4, 3, 0.6, "tetrahedron"),
        (3, 2, 0.6, "triangle"),
        (4, 2, 0.05, "digon"),
        (5, 2, 0.05, "pentagon"),
        (8, 3, 0.05, "square antiprism"),
    ],
)
def test_the_best_trained_models_reach_the_published_levels(n_features, n_hidden, density, polytope):
    weight = best_of_starts(n_features, n_hidden, density)
    found = find_polytopes(weight)
    assert set(found["polytope"]) == {polytope} and sum(map(len, found["features"])) == n_features
    assert feature_dimensionality(weight) == pytest.approx(STICKY_LEVELS[polytope], abs=0.02)


def test_steps_settings_and_shapes_that_do_not_fit_are_refused():
    models = ToyModels(5, 2, seed=[0, 1])
    for settings, told in (
        ({"steps": [0, 31]}, "n_steps=30"),
        ({"schedule": "linear"}, "constant or cosine"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"points": np.zeros((2, 3, 4))}, r"\(2, 3, 4\)"),
    ):
        with pytest.raises(ModelError, match=told):
            train_toy_models(models, **{**QUICK, **settings})
    for wrong, told in (
        ({"density": 0.0}, r"density must be numbers in \(0, 1\]; seen 0\.0"),
        ({"density": 1.5}, r"\(0, 1\]; seen 1\.5"),
        ({"importance": -1.0}, r"importance must be numbers in \[0, inf\); seen -1\.0"),
        ({"density": np.ones((2, 5)), "seed": [0, 1, 2]}, "do not broadcast"),
        ({"density": np.ones(4)}, "do not broadcast"),
        ({"activation": "gelu"}, "relu or linear"),
        ({"correlation": "both"}, "correlated or anticorrelated"),
        ({"feature_sets": ((0, 1), (1, 2))}, "at most once"),
        ({"feature_sets": ((0, 7),)}, r"0\.\.4"),
        ({"feature_sets": ((0, 1),), "density": [0.1, 0.2, 0.1, 0.1, 0.1]}, "equally dense"),
        ({"feature_sets": ((0, 1, 2),), "density": 0.5, "correlation": "anticorrelated"}, "above 1"),
    ):
        with pytest.raises(ModelError, match=told):
            ToyModels(**{"n_features": 5, "n_hidden": 2, **wrong})
    assert log_spaced_steps(10, 50) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_an_experiment_comes_back_from_disk_and_others_are_refused(tmp_path):
    models = ToyModels(5, 2, density=[[0.1], [0.2]], seed=[0, 1])
    history = train_toy_models(models, labels={"sparsity": [0.9, 0.8], "branch": ["a", "b"]}, **QUICK)
    save_experiment(history, tmp_path / "toy.zarr.zip")
    back = open_experiment(tmp_path / "toy.zarr.zip")
    xr.testing.assert_identical(back, history)
    assert back["weight"].dims == ("instance", "step", "hidden", "feature")
    assert back["density"].attrs["units"] == "1" and back["branch"].values.tolist() == ["a", "b"]
    branches = polygon_losses([0.2, 0.5])
    save_experiment(branches, tmp_path / "branches.zarr.zip")
    xr.testing.assert_identical(open_experiment(tmp_path / "branches.zarr.zip"), branches)
    with pytest.raises(HistoryError, match="there is no experiment at"):
        open_experiment(tmp_path / "none.zarr.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(HistoryError, match="not a Zarr store"):
        open_experiment(tmp_path / "text.zip")
    with pytest.raises(HistoryError, match="weight has dims"):
        save_experiment(history.transpose("step", ...), tmp_path / "wrong.zarr.zip")
    with pytest.raises(HistoryError, match="lacks weight"):
        save_experiment(history.drop_vars("weight"), tmp_path / "wrong.zarr.zip")
    with pytest.raises(HistoryError, match="the data set is no experiment with toy models"):
        save_experiment(xr.Dataset({"loss": ("step", [1.0])}), tmp_path / "wrong.zarr.zip")


def test_reading_histories_needs_no_torch():
    code = (
        "import sys, inductionkit.superposition as s; s.find_jumps, s.find_polytopes, s.measure_dimensionality, "
        "s.open_experiment, s.find_test_loss_peak; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
