"""Trained phase diagrams and polygons against the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inductionkit.superposition import (
    expected_loss,
    feature_states,
    losses_cross,
    phase_diagram,
    polygon_losses,
    state_agreement,
    train_polygons,
)


@pytest.fixture(autouse=True)
def one_thread():  # such small matrices are slower on several
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_hidden", [1, 2])
def test_training_agrees_with_the_closed_form(n_hidden):
    sparsity, importance = 1 - np.geomspace(0.95, 0.05, 6), np.geomspace(0.1, 10, 6)
    diagram = phase_diagram(n_hidden, sparsity, importance, n_starts=6, training={"n_steps": 1500}, progress=False)
    assert set(np.unique(diagram["best_state"])) == {"not represented", "superposed", "own dimension"}
    assert state_agreement(diagram) >= 0.95
    best = diagram["loss"].min("solution").values
    assert diagram["trained_loss"].values == pytest.approx(best, rel=0.03)
    assert (diagram["trained_loss"].values > best * 0.995).all()  # no solution is missing among the candidates


def test_the_diagram_carries_the_models_it_is_made_of():
    diagram = phase_diagram(1, [0.5, 0.95], [0.3, 1.0], n_starts=2, training={"n_steps": 200}, progress=False)
    assert diagram["weight"].dims == ("sparsity", "relative_importance", "hidden", "feature")
    assert (feature_states(diagram["weight"].values) == diagram["trained_state"].values).all()
    cell = diagram.sel(sparsity=0.95, relative_importance=0.3)
    arrays = (cell["weight"].values, cell["bias"].values, [0.05, 0.05], [1.0, 0.3])
    exact = expected_loss(*(torch.tensor(np.asarray(array)).double() for array in arrays))
    assert cell["trained_loss"].item() == pytest.approx(exact.item())


def test_agreement_counts_cells_away_from_the_boundary_alone():
    diagram = phase_diagram(1, [0.1, 0.2, 0.3], [0.1, 0.2, 5.0, 10.0], 1, {"n_steps": 1}, progress=False)
    left = ~diagram["on_boundary"].values
    assert left.tolist() == [[True, False, False, True]] * 3  # the importances 0.2 and 5 are on either side of 1
    right_there = diagram.assign(trained_state=diagram["best_state"].where(left, "superposed"))
    assert state_agreement(right_there) == 1
    wrong_in_one = right_there["trained_state"].values.copy()
    wrong_in_one[0, 0] = "superposed"
    assert state_agreement(right_there.assign(trained_state=diagram["best_state"].copy(data=wrong_in_one))) == 5 / 6


def test_training_changes_geometry_where_the_losses_cross():
    relative = [0.22, 0.26, 0.3, 0.35]
    exact = polygon_losses(relative)
    trained = train_polygons(relative, n_starts=24, training={"n_steps": 2500, "batch_size": 512}, progress=False)
    assert (trained["n_ended"].sum("geometry") == 24).all()
    assert trained["loss"].values == pytest.approx(exact["loss"].values, rel=0.02)
    assert losses_cross(trained) == pytest.approx(losses_cross(exact), rel=0.1)
    best = trained["loss"].idxmin("geometry").values.tolist()
    assert best == ["digons", "digons", "pentagon", "pentagon"]
