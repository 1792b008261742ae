"""What O22 measures along runs and between them, against closed forms and independent calculations."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inductionkit import find_phase_change
from inductionkit.errors import HistoryError
from inductionkit.phase import (
    icl_score_at,
    icl_sensitivity,
    loss_slope_map,
    loss_slope_order,
    loss_slopes_around,
    model_analysis_table,
    token_loss_change,
    token_loss_pca,
)
from inductionkit.testing import synthetic_history


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return synthetic_history(n_steps=40, window=(8e6, 1.2e7), noise=0.01)


def with_loss(history: xr.Dataset, by_position: np.ndarray) -> xr.Dataset:
    return history.assign(loss_by_position=(("step", "position"), by_position))


def test_the_slope_map_of_a_loss_linear_in_log_index_is_its_slope(history):
    slope = np.linspace(-0.5, 0.1, history.sizes["step"])
    loss = 3 + slope[:, None] * np.log(history["position"].values)
    found = loss_slope_map(with_loss(history, loss), n_indices=12)["loss_slope"]
    np.testing.assert_allclose(found, np.repeat(slope[:, None], 12, axis=1), atol=1e-5)
    assert "e-fold" in found.attrs["units"] and found["position"].values[-1] < 127


def test_the_slope_map_follows_a_curved_loss(history):
    position = history["position"].values
    loss = np.repeat(2 / np.sqrt(position)[None], history.sizes["step"], axis=0)
    found = loss_slope_map(with_loss(history, loss))["loss_slope"].isel(step=0)
    np.testing.assert_allclose(found, -1 / np.sqrt(found["position"]), rtol=0.1)  # the mean over the width is close


def test_slopes_go_on_past_early_indices_only_after_the_window(history):
    position, tokens = history["position"].values, history["tokens_seen"].values
    phase = find_phase_change(history, n_resamples=0)
    up_to_12 = -0.3 * np.log(np.minimum(position, 12))
    loss = np.where(tokens[:, None] < phase.end, up_to_12, -0.3 * np.log(position))
    around = loss_slopes_around(with_loss(history, loss), phase)["loss_slope"]
    assert around.sel(range="early").values == pytest.approx([-0.3, -0.3], abs=1e-5)
    assert around.sel(range="late").values == pytest.approx([0, -0.3], abs=1e-5)


def test_slopes_around_say_what_is_missing(history):
    phase = find_phase_change(history, n_resamples=0)
    none = find_phase_change(synthetic_history(window=None), n_resamples=0)
    with pytest.raises(HistoryError, match="no window to look around"):
        loss_slopes_around(history, none)
    with pytest.raises(HistoryError, match="split=126 leaves fewer than 4 late indices"):
        loss_slopes_around(history, phase, split=126)
    with pytest.raises(HistoryError, match="no checkpoint after the window"):
        loss_slopes_around(history.isel(step=history["tokens_seen"].values < 1e7), phase)
    with pytest.raises(HistoryError, match="at least 16 token indices"):
        loss_slope_map(history.isel(position=slice(8)))


def test_icl_score_at_any_indices(history):
    loss = history["loss_by_position"].values.astype(float)
    found = icl_score_at(history, early=20, late=100, half_width=2)
    np.testing.assert_allclose(found, loss[:, 97:102].mean(1) - loss[:, 17:22].mean(1))
    assert (found.attrs["icl_early"], found.attrs["units"]) == (20, "nats/token")
    for early, late, width in ((100, 20, 0), (0, 20, 0), (20, 128, 0), (3, 20, 3)):
        with pytest.raises(HistoryError, match="do not fit token indices 1 to 127"):
            icl_score_at(history, early, late, width)


def test_the_window_hardly_depends_on_the_indices(history):
    found = icl_sensitivity(history)
    assert dict(found.sizes) == {"early": 3, "late": 3} and bool(found["found"].all())
    for name in ("start", "end"):
        assert found[name].max() / found[name].min() < 1.3
    usual = find_phase_change(history, n_resamples=0)
    assert float(found["icl_gain_inside"].sel(early=12, late=120)) == pytest.approx(usual.icl_gain_inside, abs=1e-6)


def test_paths_of_several_runs_on_common_components(history):
    other = synthetic_history(n_steps=30, window=None)
    found = token_loss_pca({"two": history, "one": other}, n_components=3, beginning=True)
    losses = np.concatenate([one["token_loss"].values.astype(float) for one in (history, other)])
    centred = losses - losses.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(abs(found["token_loss_component"]), abs(left * singular)[:, :3], atol=1e-6)
    assert found["model"].values.tolist() == ["two"] * 40 + ["one"] * 30
    np.testing.assert_array_equal(found["step"][40:], other["step"])


def test_paths_without_the_beginning(history):
    found = token_loss_pca({"run": history})
    losses = history["token_loss"].values.mean(1)
    first = history["step"].values[np.argmax(losses <= (losses[0] + losses.min()) / 2)]
    assert found["step"].values[0] == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda other: other.assign_attrs(n_evaluation=7), "different text: n_evaluation"),
        (lambda other: other.assign_attrs(fingerprints='{"corpus": "b"}'), "different corpus fingerprints"),
        (lambda other: other.isel(sample=slice(9)), "different tokens"),
        (lambda other: other.drop_vars("sample_example"), "different tokens"),
        (lambda other: other.drop_vars("token_loss"), "other: the history lacks token_loss"),
        (
            lambda other: other.assign(token_loss=other["token_loss"] * np.nan),
            "other: .* not measured at any checkpoint",
        ),
    ],
)
def test_runs_measured_on_other_tokens_are_refused(history, change, message):
    reference = history.assign_attrs(fingerprints='{"corpus": "a"}')
    with pytest.raises(HistoryError, match=message):
        token_loss_pca({"reference": reference, "other": change(reference)})


def test_one_history_without_a_name_is_refused(history):
    with pytest.raises(HistoryError, match="give the histories by name"):
        token_loss_pca(history)


def test_change_of_each_token_of_a_passage(history):
    first, last = (int(history["step"].values[end]) for end in (0, -1))
    found = token_loss_change(history, "again", first, last)
    losses = history["text_loss"].values[:, 1].astype(float)
    np.testing.assert_allclose(found["change"], losses[-1] - losses[0])
    assert np.isnan(found["change"][0]) and found["token"].values[1] == " w1"
    assert found.identical(token_loss_change(history, 1, first, last))
    with pytest.raises(HistoryError, match="text='none' is no text of this history"):
        token_loss_change(history, "none", first, last)
    with pytest.raises(HistoryError, match="from_step=7 is no checkpoint of this history; the nearest is 24"):
        token_loss_change(history, 0, 7, last)


def test_a_passage_ends_where_its_tokens_do(history):
    tokens = history["token"].values.copy()
    tokens[0, 9:] = ""
    found = token_loss_change(history.assign(token=(("text", "query"), tokens)), 0, 24, int(history["step"].values[-1]))
    assert found.sizes["query"] == 9


def loss_history(slope_before: float, slope_after: float, turn: float, n_steps: int = 60) -> xr.Dataset:
    history = synthetic_history(n_steps=n_steps)
    x = np.log(history["tokens_seen"].values)
    since = x - np.log(turn)
    return history.assign(loss=("step", 5 + np.where(since < 0, slope_before, slope_after) * since))


def test_the_order_of_slopes_swaps_where_it_was_made_to():
    small, large = loss_history(-0.3, -0.3, 1e7), loss_history(-0.5, -0.1, 1e7)
    found = loss_slope_order({"small": small, "large": large})
    assert float(found["swap"]) == pytest.approx(1e7, rel=0.1)
    assert float(found["lead_before"]) == pytest.approx(0.2, abs=0.03)
    assert float(found["lead_after"]) == pytest.approx(-0.2, abs=0.03)
    far = found["loss_slope"].sel(model="large").sel(elapsed=[1e6, 5e7], method="nearest")
    np.testing.assert_allclose(far, [-0.5, -0.1], atol=1e-3)


def test_an_order_that_does_not_swap_has_no_swap():
    slow, fast = loss_history(-0.1, -0.1, 1e7), loss_history(-0.3, -0.3, 1e7)
    assert np.isnan(loss_slope_order({"small": slow, "large": fast})["swap"])
    assert np.isnan(loss_slope_order({"small": fast, "large": slow})["swap"])


def test_an_order_needs_two_runs_that_overlap(history):
    with pytest.raises(HistoryError, match="at least two"):
        loss_slope_order({"a": history})
    early, late = history.isel(step=slice(0, 10)), history.isel(step=slice(20, None))
    with pytest.raises(HistoryError, match="no stretch of training in common, in tokens"):
        loss_slope_order({"a": early, "b": late})


def test_the_table_holds_what_the_parts_say(history):
    control = synthetic_history(window=None)
    table = model_analysis_table({"two": history, "one": control}, n_resamples=20)
    phase = find_phase_change(history, n_resamples=20)
    column = table["two"]
    assert column["phase change"] and not table["one"]["phase change"]
    assert column["window start (M tokens)"] == phase.start / 1e6
    assert column["window end, 90 % interval to (M tokens)"] == phase.end_interval[1] / 1e6
    assert column["p-value of the overlap"] == phase.co_occurrence.p_value
    assert column["bump start (M tokens)"] == phase.markers["bump"].window[0] / 1e6
    late = loss_slopes_around(history, phase)["loss_slope"].sel(range="late").values
    assert [
        column[f"late loss slope {when} (nats per e-fold of index)"] for when in ("before", "after")
    ] == late.tolist()
    assert np.isnan(table["one"]["window start (M tokens)"]) and "no head's prefix matching" in table["one"]["why not"]
    with pytest.raises(HistoryError, match="bad: the history lacks loss"):
        model_analysis_table({"bad": history.drop_vars("loss")})
