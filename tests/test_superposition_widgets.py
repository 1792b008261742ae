"""The widgets of toy models in Python: payloads, traits, saved pages. What they draw: tests/browser."""

import json
import re

import numpy as np
import pytest
import xarray as xr

from inductionkit.errors import HistoryError
from inductionkit.superposition import (
    candidate_solutions,
    example_superposition,
    feature_dimensionality,
    find_jumps,
    find_polytopes,
    state_agreement,
)
from inductionkit.superposition.history import labelled
from inductionkit.widgets._payload import unpack_arrays
from inductionkit.widgets._superposition_data import POLYTOPES, instance_names, own_subspaces
from inductionkit.widgets.double_descent_view import DoubleDescentView, _on_two_axes
from inductionkit.widgets.phase_diagram_view import STATES, PhaseDiagramView
from inductionkit.widgets.superposition_view import SuperpositionView


def payload(widget) -> dict[str, np.ndarray]:
    return unpack_arrays(widget._header["arrays"], widget._data)


def polygons(n_steps: int = 4, loss: bool = True) -> xr.Dataset:
    """Two models of five features: a pentagon that grows, and two digons with a feature left out."""
    angle = 2 * np.pi * np.arange(5) / 5
    pentagon = np.stack([np.cos(angle), np.sin(angle)])
    digons = np.array([[1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0, 0.0]])
    growth = np.linspace(0.25, 1, n_steps)[:, None, None]
    values = {"weight": np.stack([growth * pentagon, np.broadcast_to(digons, (n_steps, 2, 5))]).astype(np.float32)}
    if loss:
        values["loss"] = np.linspace([2, 1], [1, 1], n_steps).T.astype(np.float32)
    coords = {
        "step": np.arange(n_steps) * 10,
        "density": np.array([[0.05] * 5, [0.05] * 4 + [0.01]]),
        "importance": np.ones((2, 5)),
        "seed": [3, 3],
    }
    return labelled(values, coords, {})


def test_the_payload_carries_weights_dimensionalities_and_polytopes():
    history = polygons()
    arrays = payload(SuperpositionView(history))
    np.testing.assert_array_equal(arrays["weight"], history["weight"].values)
    np.testing.assert_array_equal(arrays["loss"], history["loss"].values)
    np.testing.assert_allclose(arrays["dimensionality"][0, -1], 2 / 5, atol=1e-6)
    np.testing.assert_allclose(arrays["dimensionality"][1, -1], [0.5, 0.5, 0.5, 0.5, 0], atol=1e-6)
    named = np.array(POLYTOPES)[arrays["polytope"]]
    assert set(named[0, 0]) == {"not represented"}, "a quarter long, no feature is represented yet"
    assert set(named[0, -1]) == {"pentagon"}
    assert named[1, -1].tolist() == ["digon"] * 4 + ["not represented"]
    np.testing.assert_array_equal(arrays["group"][1, -1], [0, 0, 2, 2, np.nan])


def test_a_history_s_own_polytopes_are_taken():
    history = example_superposition("geometry-3d").isel(instance=[3], step=slice(-2, None))
    own = history.assign(polytope=history["polytope"].copy(data=np.full(history["polytope"].shape, "triangle")))
    assert set(payload(SuperpositionView(own))["polytope"].ravel()) == {POLYTOPES.index("triangle")}
    assert set(payload(SuperpositionView(history))["polytope"].ravel()) == {POLYTOPES.index("square antiprism")}


def test_the_jumps_are_those_of_find_jumps():
    history = example_superposition("geometry-2d")
    found = find_jumps(history)
    header = SuperpositionView(history)._header
    assert len(header["jumps"]) == len(found.jumps)
    first = found.jumps.iloc[0]
    assert header["jumps"][0][:4] == [first["instance"], first["feature"], first["start_step"], first["end_step"]]
    assert header["verdict"] == repr(found)
    assert json.loads(json.dumps(header)) == header


def test_without_losses_or_with_few_steps_there_are_no_jumps():
    for history in (polygons(loss=False), polygons(n_steps=2)):
        header = SuperpositionView(history)._header
        assert (header["jumps"], header["drops"], header["verdict"]) == ([], [], "")
    assert "loss" not in payload(SuperpositionView(polygons(loss=False)))


def test_instances_are_named_by_what_varies():
    history = polygons()
    assert instance_names(history) == ["0: density 0.05", "1: density 0.01 to 0.05"], "the seeds are equal"
    labelled_ = history.assign_coords(branch=("instance", ["<b>left</b>", "right"]))
    assert instance_names(labelled_)[0] == "0: density 0.05, branch <b>left</b>"
    assert instance_names(history.isel(instance=[0])) == ["0"]


def test_a_group_keeps_its_shape_in_its_own_subspace():
    """A pentagon and a digon, turned together in six dimensions: lengths and angles within groups stay."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(5) / 5
    weight = np.zeros((6, 8))
    weight[:2, :5] = [np.cos(angle), np.sin(angle)]
    weight[2, 5:7] = [1, -0.8]
    weight = np.linalg.qr(rng.normal(size=(6, 6)))[0] @ weight
    group = np.array([0.0] * 5 + [5, 5, np.nan])
    assert [row.n_dims for row in find_polytopes(weight).itertuples()] == [2, 1]
    own, n_dims = own_subspaces(weight[None, None], group[None, None])
    assert n_dims[0, 0].tolist() == [2] * 5 + [1, 1, 0]
    for members in (slice(0, 5), slice(5, 7)):
        corners, drawn = weight[:, members], own[0, 0][:, members]
        np.testing.assert_allclose(drawn.T @ drawn, corners.T @ corners, atol=1e-6)
    np.testing.assert_allclose(own[0, 0][:, 0], [1, 0, 0], atol=1e-6)
    assert np.isnan(own[0, 0][:, 7]).all()


def test_weights_that_are_missing_or_infinite_do_not_stop_it():
    history = polygons()
    history["weight"].values[0, 1, :, 2] = np.nan
    history["weight"].values[0, 2, 0, 1] = np.inf
    arrays = payload(SuperpositionView(history))
    assert np.isnan(arrays["weight"][0, 2, 0, 1])
    assert POLYTOPES[arrays["polytope"][0, 2, 1]] == "not represented"
    assert POLYTOPES[arrays["polytope"][0, -1, 1]] == "pentagon"


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("step", 7, r"step=7 was not recorded; there are 0, 10, 20, 30"),
        ("step", True, r"step=True was not recorded"),
        ("instance", 2, r"instance=2 is none of this history, which has 0\.\.1"),
        ("instance", None, r"instance=None is none"),
        ("feature", -1, r"feature=-1 is none of this history, which has 0\.\.4"),
        ("feature", "3", r"feature='3' is none"),
    ],
)
def test_superposition_view_refuses_what_is_not_there(trait, value, message):
    view = SuperpositionView(polygons())
    view.feature = 4
    with pytest.raises(HistoryError, match=message):
        setattr(view, trait, value)
    assert (view.step, view.instance, view.feature) == (30, 0, 4)


def test_a_saved_page_opens_with_what_is_chosen(tmp_path):
    view = SuperpositionView(polygons())
    view.step, view.instance, view.feature = 10, 1, 3
    page = view.save(tmp_path / "page.html").read_text()
    state = json.loads(re.search(r'id="inductionkit-state">(.*?)</script>', page, re.DOTALL)[1])
    assert {name: state[name] for name in view.choices} == {"step": 10, "instance": 1, "feature": 3}
    assert "<title>superposition · 5 features in 2 dimensions</title>" in page


def test_other_data_sets_are_refused():
    with pytest.raises(HistoryError, match="lacks weight"):
        SuperpositionView(example_superposition("phase-diagram-2-1").drop_vars("weight"))
    with pytest.raises(HistoryError, match="what phase_diagram returns; seen experiment training"):
        PhaseDiagramView(polygons())
    with pytest.raises(HistoryError, match="lacks on_boundary"):
        PhaseDiagramView(example_superposition("phase-diagram-2-1").drop_vars("on_boundary"))
    with pytest.raises(HistoryError, match="give a result of double_descent; seen experiment dict"):
        DoubleDescentView({})
    with pytest.raises(HistoryError, match="lacks hidden_point; make it anew"):
        DoubleDescentView(example_superposition("double-descent").drop_vars("hidden_point"))


def test_the_phase_diagram_s_payload():
    diagram = example_superposition("phase-diagram-3-2")
    view = PhaseDiagramView(diagram)
    arrays = payload(view)
    np.testing.assert_array_equal(np.array(STATES)[arrays["best_state"]], diagram["best_state"].values)
    np.testing.assert_array_equal(np.array(STATES)[arrays["trained_state"]], diagram["trained_state"].values)
    np.testing.assert_array_equal(arrays["loss"], diagram["loss"].values)
    np.testing.assert_array_equal(arrays["weight"], diagram["weight"].values)
    assert view._header["agreement"] == state_agreement(diagram)
    assert view.cell == (6, 6)
    view.cell = np.array([0, 11])
    assert view.cell == (0, 11)
    for cell in ((12, 0), (0, -1), (0.5, 1), 3, None, (1, 2, 3)):
        with pytest.raises(HistoryError, match=re.escape("(index of the sparsity 0..11, index of the relative")):
            view.cell = cell


def test_a_closed_form_without_training_is_shown_too():
    view = PhaseDiagramView(candidate_solutions(1, [0.0, 0.9], [0.5, 1.0, 2.0]))
    assert set(payload(view)) == {"best_state", "loss", "sparsity", "relative_importance"}
    assert view._header["agreement"] is None


def test_the_double_descent_payload():
    result = example_superposition("double-descent")
    view = DoubleDescentView(result)
    arrays = payload(view)
    for name in ("test_loss", "training_loss", "weight", "hidden_point", "feature_dimensionality"):
        np.testing.assert_array_equal(arrays[name], result[name].values)
    peaks = result["n_points"].values[result["test_loss"].values.argmax(axis=0)]
    assert view._header["peaks"] == peaks.tolist()
    assert (view.n_points, view.seed) == (peaks[0], 0)
    for trait, value in (("n_points", 7), ("n_points", None), ("seed", 3)):
        with pytest.raises(HistoryError, match=f"{trait}={value} is none of this result, which has "):
            setattr(view, trait, value)


def test_more_than_two_dimensions_are_shown_on_the_main_two():
    rng = np.random.default_rng(1)
    flat = np.zeros((1, 1, 4, 30))
    flat[0, 0, :2] = rng.normal(size=(2, 30))
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0] @ flat
    turned[..., 20:] = np.nan
    shown = _on_two_axes(turned)
    np.testing.assert_allclose(np.linalg.norm(shown, axis=2), np.linalg.norm(turned, axis=2), atol=1e-12)
    np.testing.assert_allclose(feature_dimensionality(shown[0, 0, :, :20]), feature_dimensionality(flat[0, 0, :, :20]))
    assert _on_two_axes(np.ones((1, 1, 1, 3)))[0, 0].tolist() == [[1, 1, 1], [0, 0, 0]]
