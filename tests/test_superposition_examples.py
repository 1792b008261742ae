"""The public names, and the bundled experiments: small, complete, and they show what they are examples of."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from inductionkit import superposition
from inductionkit.errors import HistoryError
from inductionkit.superposition import (
    example_superposition,
    find_jumps,
    find_test_loss_peak,
    measure_dimensionality,
    measure_geometry,
    state_agreement,
)
from inductionkit.superposition.experiments import EXAMPLES


def test_public_names_load_and_no_module_stands_in_their_place():
    modules = {file.stem for file in Path(superposition.__file__).parent.glob("*.py")}
    assert not modules & set(superposition.__all__)
    for name in superposition.__all__:
        assert getattr(superposition, name).__doc__, name
        assert name in dir(superposition)
    with pytest.raises(AttributeError, match="no attribute 'find_jump'"):
        superposition.find_jump  # noqa: B018


def test_examples_are_small_and_open():
    folder = files("inductionkit") / "bundled" / "superposition"
    sizes = [Path(str(folder / f"{name}.zarr.zip")).stat().st_size for name in EXAMPLES]
    assert max(sizes) <= 1_000_000 and sum(sizes) <= 3_000_000
    with pytest.raises(HistoryError, match="geometry-2d, geometry-3d"):
        example_superposition("geometry-4d")


@pytest.mark.parametrize("name", ["geometry-2d", "geometry-3d", "energy-levels"])
def test_a_trajectory_carries_its_dimensionalities_and_polytopes(name):
    history = example_superposition(name)
    measured = measure_dimensionality(history)
    xr.testing.assert_allclose(measured, history[list(measured.data_vars)])
    last = history.isel(step=[-1])
    assert (measure_geometry(last)["polytope"] == last["polytope"]).all()


@pytest.mark.parametrize(("name", "sparse"), [("geometry-2d", "pentagon"), ("geometry-3d", "square antiprism")])
def test_geometries_go_from_none_to_digons_to_polytopes_as_features_get_sparser(name, sparse):
    history = example_superposition(name)
    last = history.isel(step=-1)
    assert history["density"].isel(feature=0).values.tolist() == [1.0, 0.5, 0.25, 0.12, 0.06, 0.03]
    ends = [set(names) for names in last["polytope"].values.tolist()]
    assert ends == [{"none", "not represented"}] + [{"digon", "not represented"}] * 2 + [{sparse}] * 3
    assert last["feature_dimensionality"].sum("feature").values == pytest.approx(history.sizes["hidden"], abs=0.05)
    assert (last["loss"] < 0.6 * history["loss"].isel(step=0)).all()


def test_the_energy_levels_jump_on_loss_drops():
    found = find_jumps(example_superposition("energy-levels"))
    assert found and found.share_on_drops >= 0.8 and len(found.jumps) >= 10


@pytest.mark.parametrize(("name", "n_features"), [("phase-diagram-2-1", 2), ("phase-diagram-3-2", 3)])
def test_phase_diagrams_agree_with_the_closed_form(name, n_features):
    diagram = example_superposition(name)
    assert state_agreement(diagram) >= 0.95 and diagram.sizes["feature"] == n_features
    assert set(np.unique(diagram["trained_state"])) == {"not represented", "superposed", "own dimension"}


def test_double_descent_peaks_between_stored_points_and_stored_features():
    result = example_superposition("double-descent")
    peak = find_test_loss_peak(result)
    assert peak.sizes["seed"] == 3 and (peak["peak_height"] > 1.5).all() and (peak["stores_features_right"] == 1).all()
    more_points = result["typical_point_dimensionality"] > result["typical_feature_dimensionality"]
    assert more_points.sel(n_points=slice(None, 12)).all() and not more_points.sel(n_points=slice(400, None)).any()
