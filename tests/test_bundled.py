"""The bundled runs show what they are shipped for: a phase change, and a control without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import inductionkit
from inductionkit import example_history, find_phase_change, induction_heads, open_run
from inductionkit.errors import HistoryError

BUNDLED = Path(inductionkit.__file__).parent / "bundled"


@pytest.fixture(scope="module")
def two():
    return example_history()


@pytest.fixture(scope="module")
def one():
    return example_history("one-layer")


def test_no_head_matches_prefixes_at_the_start(two):
    assert two["prefix_matching"].isel(step=0).max() <= 0.05


def test_induction_heads_are_there_at_the_end(two):
    end = two.isel(step=-1)
    heads = induction_heads(end, min_prefix_matching=0.45)
    assert len(heads) and set(heads.index.get_level_values("layer")) == {1}
    layer, _ = np.unravel_index(int(end["previous_token"].values.argmax()), end["previous_token"].shape)
    assert layer == 0


def test_in_context_learning_is_acquired_in_the_window_and_the_loss_is_not_convex_there(two):
    phase = find_phase_change(two)
    assert phase
    assert phase.icl_gain_inside >= phase.icl_gain_outside + 0.1
    assert phase.bump_nats >= 0.03
    assert phase.bump_window[0] < phase.end and phase.bump_window[1] > phase.start


def test_the_control_shows_none_of_it(one, two):
    assert one.sizes["layer"] == 1
    assert one["prefix_matching"].max() <= 0.05
    phase = find_phase_change(one)
    assert not phase and phase.bump_nats < find_phase_change(two).bump_nats / 2


def test_the_runs_are_the_histories_runs(two, one):
    for name, history in (("two-layer", two), ("one-layer", one)):
        run = open_run(f"bundled:{name}")
        assert set(run.steps) <= set(history["step"].values.tolist())
        logged = [record["loss"] for record in run.log() if "loss" in record]
        np.testing.assert_allclose(history["training_loss"], logged, rtol=1e-6)
        run.load_model(run.steps[-1])
    assert open_run("bundled").name == "two-layer"


def test_half_precision_changes_no_score_by_much(two):
    from inductionkit import PromptSettings, scan_run

    # The shipped history was measured when prompts were drawn from the vocabulary by ids, without its two ends.
    prompts = PromptSettings(pool=range(40, 2008))
    live = scan_run(open_run("bundled"), n_evaluation=32, prompts=prompts, progress=False)
    full = two.sel(step=live["step"])
    np.testing.assert_allclose(live["prefix_matching"], full["prefix_matching"], atol=0.01)
    np.testing.assert_allclose(live["copying"], full["copying"], atol=0.02)


def test_everything_bundled_fits_in_25_megabytes():
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) <= 25e6


def test_other_histories_are_refused_by_name():
    with pytest.raises(HistoryError, match="no example history 'three-layer'"):
        example_history("three-layer")
