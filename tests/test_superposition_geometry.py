"""Dimensionality, polytopes, jumps and double descent, on geometries made by hand and on nulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inductionkit.errors import HistoryError, ModelError
from inductionkit.superposition import (
    JumpCriteria,
    dimensions_per_feature,
    double_descent,
    feature_dimensionality,
    find_jumps,
    find_polytopes,
    find_test_loss_peak,
    interference_graph,
    measure_dimensionality,
    measure_geometry,
    polytope_goodness,
    typical_dimensionality,
)
from inductionkit.superposition.dimensionality import STICKY_LEVELS
from inductionkit.superposition.history import labelled


def corners(polytope: str) -> np.ndarray:
    """Coordinates of the corners, written down without the Gram matrices that the detector uses."""
    turn = np.exp(2j * np.pi * np.arange(5) / 5)
    ring = np.exp(2j * np.pi * np.arange(4) / 4)
    twisted = ring * np.exp(2j * np.pi / 8)
    flat, up = np.sqrt(2 / 3), np.sqrt(1 / 3)
    return {
        "alone": np.array([[1.0]]),
        "digon": np.array([[1.0, -1.0]]),
        "triangle": np.array([[0, -(3**0.5) / 2, 3**0.5 / 2], [1, -0.5, -0.5]]),
        "tetrahedron": np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 3**0.5,
        "pentagon": np.stack([turn.real, turn.imag]),
        "square antiprism": np.block(
            [
                [flat * ring.real, flat * twisted.real],
                [flat * ring.imag, flat * twisted.imag],
                [up * np.ones(4), -up * np.ones(4)],
            ]
        ),
    }[polytope]


def turned(weight: np.ndarray, n_hidden: int, seed: int) -> np.ndarray:
    """The same vectors in a random orthogonal frame of `n_hidden` dimensions."""
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.normal(size=(n_hidden, n_hidden)))
    return frame[:, : len(weight)] @ weight


def together(*polytopes: str, n_hidden: int, seed: int = 0) -> np.ndarray:
    """Several polytopes in orthogonal subspaces, their features shuffled; and one feature of hardly any length."""
    parts = [corners(polytope) for polytope in polytopes]
    weight = np.zeros((sum(len(part) for part in parts), sum(part.shape[1] for part in parts)))
    row = column = 0
    for part in parts:
        weight[row : row + len(part), column : column + part.shape[1]] = part
        row, column = row + len(part), column + part.shape[1]
    order = np.random.default_rng(seed).permutation(weight.shape[1])
    return turned(np.concatenate([weight[:, order], np.full((len(weight), 1), 0.01)], axis=1), n_hidden, seed)


@pytest.mark.parametrize("polytope", STICKY_LEVELS)
def test_corners_have_the_sticky_levels(polytope):
    weight = 1.3 * turned(corners(polytope), 6, seed=1)
    assert feature_dimensionality(weight) == pytest.approx(STICKY_LEVELS[polytope])
    assert polytope_goodness(weight[:, ::-1], polytope) == pytest.approx(1)


@given(
    arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=st.floats(-3, 3).map(lambda x: round(x, 3)))
)
@settings(max_examples=200, deadline=None)
def test_dimensionalities_lie_in_0_to_1_and_sum_to_at_most_the_rank(weight):
    dimensionality = feature_dimensionality(weight)
    assert (dimensionality >= 0).all() and (dimensionality <= 1 + 1e-9).all()
    assert dimensionality.sum() <= np.linalg.matrix_rank(weight) + 1e-6


def test_the_sum_is_the_number_of_dimensions_where_each_is_evenly_shared():
    """A tight frame, W W^T = c I: then D_i = |W_i|^2 / c, which sums to |W|_F^2 / c = m."""
    weight = together("tetrahedron", "triangle", "digon", "pentagon", n_hidden=8)[:, :-1]
    assert feature_dimensionality(weight).sum() == pytest.approx(8)
    rng = np.random.default_rng(0)
    frame, _ = np.linalg.qr(rng.normal(size=(7, 3)))
    assert feature_dimensionality(2 * frame.T) == pytest.approx((frame**2).sum(axis=1))
    assert dimensions_per_feature(weight) == pytest.approx(8 / 14)
    assert np.isinf(dimensions_per_feature(np.zeros((2, 3))))


@pytest.mark.parametrize("seed", range(5))
def test_polytopes_in_orthogonal_subspaces_are_told_apart(seed):
    names = ("square antiprism", "tetrahedron", "pentagon", "triangle", "digon", "digon", "alone")
    weight = together(*names, n_hidden=15, seed=seed)
    rng = np.random.default_rng(seed)
    found = find_polytopes(weight + rng.normal(size=weight.shape) * 0.01)
    assert sorted(found["polytope"]) == sorted(names)
    assert (found["goodness"] > 0.97).all()
    dims = {"square antiprism": 3, "tetrahedron": 3, "pentagon": 2, "triangle": 2, "digon": 1, "alone": 1}
    assert found["n_dims"].tolist() == [dims[name] for name in found["polytope"]]
    assert found["dimensionality"].values == pytest.approx(
        [STICKY_LEVELS[name] for name in found["polytope"]], abs=0.02
    )
    assert weight.shape[1] - 1 not in {feature for group in found["features"] for feature in group}


@pytest.mark.parametrize(("n_features", "n_hidden"), [(5, 2), (4, 3), (8, 3), (12, 4), (40, 20)])
def test_random_vectors_are_no_polytopes(n_features, n_hidden):
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(200):
        weight = rng.normal(size=(n_hidden, n_features)) / n_hidden**0.5
        named += (~find_polytopes(weight)["polytope"].isin(["none", "alone"])).sum()
    assert named <= 6  # of 200: a few random pairs do lie opposite each other


def test_other_regular_figures_are_none_of_the_polytopes():
    sixth = np.pi / 3 * np.arange(6)
    hexagon = np.stack([np.cos(sixth), np.sin(sixth)])
    assert find_polytopes(hexagon)["polytope"].tolist() == ["none"]
    half_pair = np.array([[1.0, 1.0]])  # side by side, not opposite
    assert find_polytopes(half_pair)["polytope"].tolist() == ["none"]
    square = np.stack([np.cos(sixth[:4] * 1.5), np.sin(sixth[:4] * 1.5)])
    assert find_polytopes(square)["polytope"].tolist() == ["digon", "digon"]
    stretched = corners("pentagon") * [[1.6], [1.0]]
    assert find_polytopes(stretched)[["polytope", "nearest"]].values.tolist() == [["none", "pentagon"]]
    cube = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)]).T / 3**0.5
    assert polytope_goodness(cube, "square antiprism") < 0.9
    with pytest.raises(ModelError, match="3 corners"):
        polytope_goodness(hexagon, "triangle")
    with pytest.raises(ModelError, match="must be one of"):
        polytope_goodness(hexagon, "hexagon")


def test_the_graph_joins_what_interferes():
    graph = interference_graph(np.array([[1.0, -0.9, 0.0, 0.2], [0.0, 0.05, 1.0, 0.0]]))
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 1] = expected[1, 0] = True  # the last is too short, the third at a right angle
    assert (graph == expected).all()


def toy_history(weight: np.ndarray, loss: np.ndarray, steps: np.ndarray) -> xr.Dataset:
    """A history of one instance from weights (step, hidden, feature) and losses."""
    n_features = weight.shape[-1]
    coords = {
        "step": steps,
        "density": np.full((1, n_features), 0.1),
        "importance": np.ones((1, n_features)),
        "seed": [0],
    }
    values = {"weight": weight[None].astype(np.float32), "bias": np.zeros((1, len(steps), n_features), np.float32)}
    return labelled({**values, "loss": loss[None].astype(np.float32)}, coords, {})


def staircase(jumps: list[float], drops: list[float], n_features: int = 8) -> xr.Dataset:
    """Pairs of features go from own dimensions to a digon at `jumps`; the loss falls at `drops` (log10 kilosteps)."""
    log_step = np.linspace(0, 5, 251)
    steps = np.concatenate([[0], np.round(10**log_step * 1000)]).astype(int)
    log_step = np.concatenate([[-1], log_step])
    weight = np.zeros((len(steps), n_features, n_features))
    for pair, at in enumerate(jumps):
        share = 1 / (1 + np.exp(-(log_step - at) * 30))
        weight[:, 2 * pair, 2 * pair] = 1
        angle = np.pi / 2 + np.pi / 2 * share  # from a dimension each to half of one
        weight[:, 2 * pair, 2 * pair + 1], weight[:, 2 * pair + 1, 2 * pair + 1] = np.cos(angle), np.sin(angle)
    loss = 1 + np.exp(-3 * (log_step + 1)) * 20
    for at in drops:
        loss = loss - 0.15 / (1 + np.exp(-(log_step - at) * 30))
    return toy_history(weight, loss, steps)


def test_jumps_on_drops_are_found():
    at = [1.5, 2.4, 3.3, 4.2]
    found = find_jumps(staircase(at, at))
    assert found and found.share_on_drops == 1 and found.shuffled_share < 0.8
    assert len(found.jumps) == 8 and (found.jumps["level"] == "digon").all()
    assert found.jumps["before"].values == pytest.approx(1, abs=0.05)
    assert found.jumps["after"].values == pytest.approx(0.5, abs=0.05)
    middles = np.sqrt(found.jumps["start_step"] * found.jumps["end_step"])
    assert np.log10(middles.values) - 3 == pytest.approx(np.repeat(at, 2), abs=0.1)
    assert "8 energy-level jumps" in repr(found)
    assert 10**4.4 < found.start_step < 10**4.6 and 10**7.1 < found.end_step < 10**7.3


def test_jumps_off_drops_and_no_jumps_are_told_with_reasons():
    beside = find_jumps(staircase([2.0, 2.9, 3.8, 4.6], [1.5, 2.4, 3.3, 4.2]))
    assert not beside and beside.share_on_drops < 0.5 and "fall on drops of the loss, fewer than 80%" in repr(beside)
    none = find_jumps(staircase([], [2.0, 3.0]))
    assert not none and not len(none.jumps) and "no feature's dimensionality jumps by 0.1" in repr(none)
    strict = find_jumps(staircase([2.0], [2.0]), criteria=JumpCriteria(min_change=0.9))
    assert not strict and "it varies by at most 0.5" in strict.reasons[0]


def test_jumps_that_come_together_are_one_coincidence_and_several_instances_are_more():
    at = [1.6, 2.3, 3.0, 3.7, 4.3]
    runs = [staircase([one] * 4, [one]) for one in at]
    for run in runs:
        found = find_jumps(run)
        assert not found and found.share_on_drops == 1 and len(found.jumps) == 8 and found.p_value > 0.05
    together = find_jumps(xr.concat(runs, "instance", coords="different", compat="equals"))
    assert together and together.share_on_drops == 1 and together.p_value < 0.01
    assert together.jumps["instance"].value_counts().to_dict() == dict.fromkeys(range(5), 8)
    assert set(together.drops["instance"]) == set(range(5))
    elsewhere = [staircase([one] * 4, [other]) for one, other in zip(at, at[2:] + at[:2])]
    assert not find_jumps(xr.concat(elsewhere, "instance", coords="different", compat="equals"))


def test_a_drop_that_goes_on_all_the_time_is_no_evidence():
    history = staircase([1.5, 2.4, 3.3, 4.2], [])
    steady = 10 - np.log(np.maximum(history["step"].values, 1))
    found = find_jumps(history.assign(loss=(("instance", "step"), steady[None] + np.sin(steady * 200)[None] * 1e-3)))
    assert not found and found.p_value > 0.05


def test_histories_without_what_is_needed_are_refused():
    history = staircase([2.0], [2.0])
    for wrong, told in (
        (history.drop_vars("loss"), "lacks loss"),
        (history.isel(step=[0, 1, 2]), "2 recorded steps"),
        (history.isel(step=slice(0, 0)), "no steps"),
    ):
        with pytest.raises(HistoryError, match=told):
            find_jumps(wrong)
    with pytest.raises(HistoryError, match=r"instances 0\.\.0"):
        find_jumps(history, instance=1)


def test_a_whole_history_is_measured():
    weights = np.stack([together("pentagon", n_hidden=2, seed=1), together("digon", "digon", "alone", n_hidden=3)[:2]])
    history = toy_history(weights, np.array([1.0, 0.5]), np.array([0, 10]))
    measured, geometry = measure_dimensionality(history), measure_geometry(history)
    assert measured["feature_dimensionality"].values[0] == pytest.approx(feature_dimensionality(weights), rel=1e-5)
    assert measured["dimensions_per_feature"].values[0, 0] == pytest.approx(2 / 5, rel=1e-3)
    assert measured["feature_norm"].values[0] == pytest.approx(np.linalg.norm(weights, axis=1), rel=1e-5)
    assert geometry["polytope"].values[0, 0].tolist() == ["pentagon"] * 5 + ["not represented"]
    assert geometry["group"].values[0, 0, :5].tolist() == [0] * 5 and np.isnan(geometry["group"].values[0, 0, 5])
    assert geometry["step"].values.tolist() == [0, 10] and "density" in geometry.coords


def test_typical_dimensionality_counts_what_is_stored():
    weight = np.concatenate([corners("pentagon"), np.random.default_rng(0).normal(size=(2, 500)) * 1e-3], axis=1)
    assert typical_dimensionality(weight) == pytest.approx(0.4, abs=0.01)
    assert typical_dimensionality(np.zeros((2, 3))) == 0


@pytest.fixture(scope="module")
def descent() -> xr.Dataset:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small matrices are slower on several
    sizes = (5, 30, 50, 80, 250)
    result = double_descent(sizes, n_features=100, density=0.05, progress=False)
    torch.set_num_threads(threads)
    return result


def test_test_loss_peaks_between_stored_points_and_stored_features(descent):
    peak = find_test_loss_peak(descent)
    assert set(peak["peak_n_points"].values) <= {30, 50, 80} and (peak["peak_height"] > 1.5).all()
    few, many = descent.sel(n_points=5), descent.sel(n_points=250)
    assert (few["typical_point_dimensionality"] > 2 * few["typical_feature_dimensionality"]).all()
    assert few["typical_point_dimensionality"].values == pytest.approx(2 / 5, abs=0.02)  # a pentagon of points
    assert (many["typical_feature_dimensionality"] > 2 * many["typical_point_dimensionality"]).all()


def test_double_descent_carries_the_geometry_of_each_size(descent):
    at = descent.sel(n_points=5, seed=1)
    hidden = at["hidden_point"].values
    assert np.isfinite(hidden[:, :5]).all() and np.isnan(hidden[:, 5:]).all()
    assert at["point_dimensionality"].values[:5] == pytest.approx(feature_dimensionality(hidden[:, :5]), rel=1e-4)
    assert at["feature_dimensionality"].values == pytest.approx(feature_dimensionality(at["weight"].values), rel=1e-4)


def test_a_monotone_test_loss_has_no_peak(descent):
    falling = np.linspace(2, 1, 5)[:, None].repeat(3, axis=1)
    peak = find_test_loss_peak(descent.assign(test_loss=(("n_points", "seed"), falling)))
    assert peak["peak_height"].values.tolist() == [1, 1, 1] and np.isnan(peak["stores_points_left"]).all()
    with pytest.raises(HistoryError, match="lacks test_loss"):
        find_test_loss_peak(descent.drop_vars("test_loss"))
    with pytest.raises(ModelError, match="must increase"):
        double_descent(n_points=(5, 3))
