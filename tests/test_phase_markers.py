"""Each marker on series whose window is known, and on those that have none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inductionkit import find_phase_change
from inductionkit.phase import PhaseCriteria, rise_window
from inductionkit.phase.bump import bumps
from inductionkit.phase.pivot import pivots, principal_components, resampled_paths, token_loss_path
from inductionkit.phase.rise import rises
from inductionkit.testing import synthetic_history


def logistic(x, middle, scale):
    return 1 / (1 + np.exp(-(x - middle) / scale))


@settings(max_examples=50, deadline=None)
@given(st.floats(3, 7), st.floats(0.05, 0.3), st.floats(0.3, 1), st.integers(60, 200), st.integers(0, 99))
def test_a_logistic_rise_has_the_window_of_the_closed_form(middle, scale, size, n_steps, seed):
    x = 10 * (np.arange(n_steps) + np.random.default_rng(seed).random(n_steps)) / n_steps  # unevenly spaced
    [rise] = rises(x, size * logistic(x, middle, scale), min_rise=0.2)
    spacing = 20 / n_steps
    assert abs(rise.start - (middle - scale * np.log(9))) <= spacing
    assert abs(rise.end - (middle + scale * np.log(4))) <= spacing
    assert abs(rise.size - size) < 0.02


@settings(max_examples=30, deadline=None)
@given(st.floats(1.5, 3), st.floats(6, 8), st.floats(0.25, 0.35), st.floats(0.5, 0.65))
def test_two_rises_are_told_apart_and_the_larger_comes_first(early, late, small, large):
    x = np.linspace(0, 10, 120)
    found = rises(x, small * logistic(x, early, 0.1) + large * logistic(x, late, 0.1), min_rise=0.2)
    assert [abs(rise.size - size) < 0.02 for rise, size in zip(found, (large, small))] == [True, True]
    assert found[0].start < late < found[0].end and found[1].start < early < found[1].end


def test_a_rise_with_too_small_a_step_before_it_keeps_its_own_window():
    x = np.linspace(0, 10, 200)
    [alone], [after] = (
        rises(x, 0.5 * logistic(x, 7, 0.1) + step * logistic(x, 2, 0.1), min_rise=0.2) for step in (0, 0.1)
    )
    assert after.start == pytest.approx(alone.start, abs=0.01) and after.end == pytest.approx(alone.end, abs=0.01)


def test_what_forms_fades_and_forms_again_rises_twice():
    x = np.linspace(0, 10, 200)
    series = 0.9 * logistic(x, 2, 0.1) - 0.7 * logistic(x, 5, 0.3) + 0.4 * logistic(x, 8, 0.1)
    found = rises(x, series, min_rise=0.2)
    assert [round(rise.size, 1) for rise in found] == [0.9, 0.4]
    assert abs(found[0].start - 2) < 0.5 and abs(found[1].start - 8) < 0.5


@pytest.mark.parametrize("series", [np.full(5, np.nan), np.zeros(5), np.arange(5.0)[::-1], np.array([])])
def test_what_does_not_rise_has_no_rise(series):
    assert rises(np.arange(float(len(series))), series, min_rise=0.2) == []


def test_missing_values_are_left_out():
    x, y = np.linspace(0, 10, 50), logistic(np.linspace(0, 10, 50), 5, 0.3)
    gaps = y.copy()
    gaps[::3] = np.nan
    assert rises(x, gaps, 0.2) == rises(x[np.isfinite(gaps)], y[np.isfinite(gaps)], 0.2)


def test_rise_window_takes_the_last_onset_before_half_and_the_first_end_after():
    series = np.array([0, 2, 0, 0, 10, 7, 10.0])
    assert rise_window(np.arange(7.0), series) == pytest.approx((3.1, 3.8))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 3), st.floats(0.1, 2))
def test_a_convex_loss_has_no_bump_and_a_dent_in_it_has_the_dent(rate, depth):
    x = np.linspace(0, 8, 100)
    convex = 3 + 5 * np.exp(-rate * x)
    assert all(bump.nats < 1e-6 for bump in bumps(x, convex))
    bump = bumps(x, convex - depth * logistic(x, 6, 0.05))[0]
    assert bump.left < 6 < bump.right and abs(bump.fall.start - 6) < 0.4 and abs(bump.fall.end - 6) < 0.4


def test_the_flat_beginning_of_a_loss_curve_is_no_bump():
    x = np.linspace(0, 8, 200)
    assert all(bump.nats < 0.01 for bump in bumps(x, 3 + 5 / (1 + np.exp(2 * (x - 1)))))


@settings(max_examples=30, deadline=None)
@given(st.floats(3, 5), st.floats(1, 2.1), st.floats(0, 6.28))
def test_a_corner_is_the_pivot_wherever_the_axes_point(corner, angle, turned):
    x = np.linspace(0, 8, 81)
    after = np.maximum(x - corner, 0).clip(max=0.6)  # on a new line until 0.6 later, then along the old one again
    path = np.stack([0.2 * x + 4 * np.cos(angle) * after, 4 * np.sin(angle) * after], axis=1)
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    [pivot] = pivots(x, path @ turn)
    assert abs(pivot.start - (corner + 0.06)) < 0.12 and abs(pivot.end - (corner + 0.48)) < 0.12


@pytest.mark.parametrize("path", ["line", "circle", "spiral in"])
def test_steady_paths_have_no_pivot(path):
    x = np.linspace(0, 4, 60)
    radius = {"line": x, "circle": np.ones(60), "spiral in": np.exp(-0.3 * x)}[path]
    angle = np.zeros(60) if path == "line" else np.pi * x / 4
    assert pivots(x, np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)) == []


def test_principal_components_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((12, 3)) @ rng.standard_normal((3, 40)) + rng.standard_normal(40)
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    placed, shares = principal_components(vectors, 2)
    np.testing.assert_allclose(abs(placed), abs(left * singular)[:, :2], atol=1e-8)
    np.testing.assert_allclose(shares, (singular**2 / (singular**2).sum())[:2])
    assert (placed[-1] >= placed[0]).all()
    few, share = principal_components(vectors[:1], 2)
    assert few.tolist() == [[0, 0]] and share.tolist() == [0, 0], "one row is its own mean"


def test_the_path_resampled_with_weight_one_is_the_path():
    losses = synthetic_history(n_steps=20, noise=0.05)["token_loss"].values.astype(float)
    path = token_loss_path(losses)
    weights = np.array([np.ones(losses.shape[1]), np.full(losses.shape[1], 2.0)])
    same, twice = resampled_paths(losses, path, weights)
    np.testing.assert_allclose(same, path, atol=1e-8)
    np.testing.assert_allclose(twice, 2 * path, atol=1e-8)
    assert np.isnan(path[0]).all() and np.isfinite(path[-1]).all()


def test_all_four_markers_find_the_known_window():
    window = (8e6, 1.1e7)
    phase = find_phase_change(synthetic_history(n_steps=60, window=window))
    assert phase and set(phase.markers) == {"bump", "icl_score", "prefix_matching", "token_loss_pivot"}
    for marker in phase.markers.values():
        start, end = marker.window
        assert 0.75 * window[0] < start < window[1] and window[0] < end < 1.35 * window[1], marker
    assert phase.co_occurrence.p_value < 0.01


@pytest.mark.parametrize("linear_steps", [False, True])
@pytest.mark.parametrize("n_steps", [30, 200])
def test_spacing_of_checkpoints_does_not_move_the_window(linear_steps, n_steps):
    phase = find_phase_change(
        synthetic_history(n_steps=n_steps, window=(2e7, 4e7), linear_steps=linear_steps), n_resamples=0
    )
    assert phase and 1.7e7 < phase.start < 2.3e7 and 3e7 < phase.end < 4.2e7


def test_sparse_checkpoints_leave_the_window_between_those_around_it():
    history = synthetic_history(n_steps=61, window=(8e6, 2e7)).isel(step=[0, 10, 20, 30, 37, 46, 50, 60])
    tokens = history["tokens_seen"].values
    phase = find_phase_change(history)
    assert phase and tokens[4] <= phase.start < phase.end <= tokens[6]


def test_gradual_growth_is_no_phase_change():
    history = synthetic_history(n_steps=60)
    share = np.linspace(0, 1, 60)
    grown = (0.02 + 0.8 * share[:, None, None]) * np.ones((60, 2, 4))
    phase = find_phase_change(history.assign(prefix_matching=(("step", "layer", "head"), grown)))
    assert not phase and phase.start is None
    assert "gradual growth" in repr(phase) and phase.co_occurrence.p_value == 1


def test_heads_that_form_at_two_times_give_two_windows():
    early, late = (synthetic_history(n_steps=60, window=window) for window in ((1e6, 1.5e6), (2e7, 3e7)))
    both = 0.5 * early["prefix_matching"] + 0.4 * late["prefix_matching"]
    phase = find_phase_change(early.assign(prefix_matching=both.assign_attrs(early["prefix_matching"].attrs)))
    assert phase and 0.9e6 < phase.start < 1.1e6
    [(start, end)] = phase.other_windows
    assert 1.8e7 < start < 2.2e7 and 2.2e7 < end < 3e7
    assert "also rises at" in repr(phase)


def test_each_head_has_its_own_window():
    early, late = (synthetic_history(n_steps=60, window=window) for window in ((4e6, 6e6), (8e6, 1.2e7)))
    scores = early["prefix_matching"].copy()
    scores[:, 1, 1] = late["prefix_matching"][:, 1, 1]
    windows = find_phase_change(early.assign(prefix_matching=scores)).head_windows
    assert set(windows) == {(1, 0), (1, 1)}
    assert windows[1, 0][0] == pytest.approx(4e6, rel=0.1) and windows[1, 1][0] == pytest.approx(8e6, rel=0.1)


def test_a_series_that_was_not_measured_is_not_asked_for():
    history = synthetic_history()
    unmeasured = np.full(history.sizes["step"], np.nan, np.float32)
    phase = find_phase_change(history.assign(loss=("step", unmeasured), icl_score=("step", unmeasured)))
    assert phase and "icl_score and bump not measured: judged without" in repr(phase)
    assert not phase.markers["bump"].measured and np.isnan(phase.icl_before)
    no_heads = history.assign(prefix_matching=history["prefix_matching"] * np.nan)
    assert "prefix matching measured at fewer than 3" in repr(find_phase_change(no_heads))


def test_the_window_goes_on_while_learning_does_and_checkpoints_show_it():
    history, later = (synthetic_history(n_steps=61, window=window) for window in ((8e6, 1.1e7), (9e6, 2e7)))
    slow = history.assign(icl_score=later["icl_score"])
    alone, with_learning = (find_phase_change(one, n_resamples=0) for one in (history, slow))
    assert with_learning.end == with_learning.markers["icl_score"].window[1] > 1.3 * alone.end
    unseen = slow["icl_score"].where((slow["tokens_seen"] < 9e6) | (slow["tokens_seen"] > 3e7))
    sparse = find_phase_change(slow.assign(icl_score=unseen), n_resamples=0)
    assert sparse.end == sparse.markers["prefix_matching"].window[1]


def test_max_ratio_is_a_parameter():
    assert not find_phase_change(synthetic_history(n_steps=60), PhaseCriteria(max_ratio=1.5), n_resamples=0)
