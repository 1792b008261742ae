"""Histories that do not know their tokens are counted in steps, and give the same answers there."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inductionkit import find_phase_change
from inductionkit.errors import HistoryError
from inductionkit.phase import (
    icl_sensitivity,
    loss_slope_order,
    loss_slopes_around,
    model_analysis_table,
    token_loss_pca,
)
from inductionkit.phase.clock import clock_of, elapsed, logged_at, on_one_clock
from inductionkit.phase.drawing import phase_to_draw
from inductionkit.testing import synthetic_history

BATCH = 4096  # tokens in a step of the synthetic history


def unknown_tokens(history: xr.Dataset, at: slice | int = slice(None)) -> xr.Dataset:
    tokens = history["tokens_seen"].values.astype(float)
    tokens[at] = np.nan
    return history.assign_coords(tokens_seen=("step", tokens))


UNKNOWN = {
    "everywhere": unknown_tokens,
    "at the first": lambda history: unknown_tokens(history, 0),
    "at the last": lambda history: unknown_tokens(history, -1),
    "no coordinate": lambda history: history.drop_vars("tokens_seen"),
}


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return synthetic_history(n_steps=60, window=(8e6, 1.1e7), noise=0.01)


@pytest.mark.parametrize("where", UNKNOWN)
def test_without_tokens_the_window_is_the_same_in_steps(history, where):
    known, phase = find_phase_change(history), find_phase_change(UNKNOWN[where](history))
    assert (known.clock, phase.clock) == ("tokens", "steps")
    assert phase.found is True and phase.heads == known.heads
    assert phase.window == pytest.approx(np.array(known.window) / BATCH, rel=0.01)
    assert (phase.start_step, phase.end_step) == pytest.approx(phase.window)
    assert phase.bump_window == pytest.approx(np.array(known.bump_window) / BATCH, rel=0.2), "a checkpoint off at most"
    assert phase.end_interval == pytest.approx(np.array(known.end_interval) / BATCH, rel=0.02)
    assert phase.icl_gain_inside == pytest.approx(known.icl_gain_inside, abs=0.01)
    for name, marker in phase.markers.items():
        assert marker.window == pytest.approx(np.array(known.markers[name].window) / BATCH, rel=0.02)
    for head, window in phase.head_windows.items():
        assert window == pytest.approx(np.array(known.head_windows[head]) / BATCH, rel=0.01)
    first, *rest = repr(phase).splitlines()
    assert first == f"Phase change from steps {phase.start:,.0f} to {phase.end:,.0f} (tokens unknown)"
    assert " tokens" not in "".join(rest) and "steps (200 resamples" in rest[0]


def test_the_untrained_checkpoint_is_left_out_on_either_clock(history):
    untrained = history.isel(step=[0]).assign_coords(step=[0], tokens_seen=("step", [0]))
    longer = xr.concat([untrained, history], dim="step", data_vars="minimal")
    for one in (longer, unknown_tokens(longer), unknown_tokens(longer, 0)):
        seen = find_phase_change(one, n_resamples=0)
        assert seen.start_step == pytest.approx(find_phase_change(history, n_resamples=0).start_step, rel=0.01)


def test_one_notion_of_the_clock(history):
    assert clock_of(history) == "tokens" and clock_of(history, unknown_tokens(history, 3)) == "steps"
    np.testing.assert_array_equal(elapsed(history), history["tokens_seen"])
    np.testing.assert_array_equal(elapsed(unknown_tokens(history, 3)), history["step"])
    counted = on_one_clock({"a": history, "b": unknown_tokens(history, 3)})
    assert [clock_of(one) for one in counted.values()] == ["steps", "steps"]
    assert on_one_clock({"a": history})["a"] is history


def test_the_training_log_is_counted_on_the_history_s_clock(history):
    n_logged = history.sizes["log"]
    in_steps = history.assign_coords(log_step=("log", np.arange(n_logged)))
    np.testing.assert_array_equal(logged_at(in_steps), history["log_tokens_seen"])
    np.testing.assert_array_equal(logged_at(unknown_tokens(in_steps)), np.arange(n_logged))
    older = history.drop_vars("log_step", errors="ignore")
    assert logged_at(unknown_tokens(older)) is None, "an older history does not say at which steps it was logged"
    assert logged_at(history.assign_coords(log_tokens_seen=("log", np.full(n_logged, np.nan)))) is None


def test_tokens_that_do_not_increase_are_refused(history):
    with pytest.raises(HistoryError, match=r"tokens_seen must increase .* or drop it to count training in steps"):
        find_phase_change(history.assign_coords(tokens_seen=("step", history["tokens_seen"].values[::-1])))


def test_a_phase_change_belongs_to_the_clock_it_was_found_on(history):
    phase = find_phase_change(history, n_resamples=0)
    assert phase_to_draw(history, phase) is phase
    with pytest.raises(HistoryError, match="phase is counted in tokens, but this history in steps"):
        phase_to_draw(unknown_tokens(history), phase)
    pair = phase_to_draw(unknown_tokens(history), (100, 200))
    assert (pair.clock, pair.window) == ("steps", (100, 200))


def test_measurements_are_the_same_without_tokens(history):
    bare = unknown_tokens(history)
    phase, known = (find_phase_change(one, n_resamples=0) for one in (bare, history))
    around, expected = loss_slopes_around(bare, phase), loss_slopes_around(history, known)
    np.testing.assert_allclose(around["loss_slope"], expected["loss_slope"])
    found = icl_sensitivity(bare, early=[12], late=[120])
    assert found["start"].attrs["units"] == "steps"
    assert float(found["start"][0, 0]) == pytest.approx(phase.start)


def test_comparisons_count_in_steps_as_soon_as_one_does_not_know_its_tokens(history):
    other = synthetic_history(n_steps=30, window=None)
    for bare, unit in ((other, "tokens"), (unknown_tokens(other), "steps")):
        runs = {"two": history, "one": bare}
        paths = token_loss_pca(runs, beginning=True)
        assert paths["elapsed"].attrs["units"] == unit
        expected = np.concatenate([one["step" if unit == "steps" else "tokens_seen"] for one in (history, other)])
        np.testing.assert_array_equal(paths["elapsed"], expected)
        order = loss_slope_order(runs)
        end = min(one["step" if unit == "steps" else "tokens_seen"].values[-1] for one in (history, other))
        assert order["elapsed"].attrs["units"] == unit and float(order["elapsed"][-1]) == pytest.approx(float(end))
    table = model_analysis_table(runs, n_resamples=0)
    phase = find_phase_change(unknown_tokens(history), n_resamples=0)
    assert table["two"]["window start (steps)"] == phase.start and not [row for row in table.index if "tokens)" in row]
    assert table["one"]["training (steps)"] == other["step"].values[-1]
    unknown = model_analysis_table({"short": history.isel(step=slice(2))}, n_resamples=0)["short"]
    assert unknown["phase change"] is None and "too few" in unknown["why not"]
