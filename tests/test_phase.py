"""The phase rule on histories whose answer is known, and on those that have none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inductionkit import find_phase_change
from inductionkit.errors import HistoryError
from inductionkit.phase import PhaseCriteria, convex_envelope
from inductionkit.testing import synthetic_history


@settings(max_examples=40, deadline=None)
@given(st.floats(6.6, 7.2), st.floats(0.15, 0.5), st.integers(0, 1000), st.integers(24, 80))
def test_a_known_window_is_found(log10_start, width, seed, n_steps):
    window = (10**log10_start, 10 ** (log10_start + width))
    phase = find_phase_change(synthetic_history(n_steps=n_steps, window=window, noise=0.01, seed=seed))
    assert phase
    spacing = 1000 ** (1 / (n_steps - 1))  # of checkpoints, as a factor
    assert window[0] / spacing <= phase.start <= window[0] * spacing
    assert window[0] < phase.end <= window[1] * spacing  # 80 % comes before the 90 % the window is made for
    assert set(phase.heads) <= {(1, 0), (1, 1)} and (1, 0) in phase.heads
    assert phase.icl_gain_inside > phase.icl_gain_outside
    assert phase.bump_window[0] < phase.end and phase.bump_window[1] > phase.start


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_no_window_where_nothing_forms(seed):
    phase = find_phase_change(synthetic_history(window=None, noise=0.01, seed=seed))
    assert not phase and phase.start is None
    assert "no head's prefix matching rises by 0.2" in repr(phase)


def test_heads_that_form_without_a_bump_or_without_learning_are_no_phase_change():
    history = synthetic_history()
    flat = synthetic_history(window=None)
    no_icl = find_phase_change(history.assign(icl_score=flat["icl_score"]))
    assert not no_icl and "in-context-learning score improves by" in no_icl.reasons[0]
    convex = find_phase_change(history.assign(loss=flat["loss"]))
    assert not convex and "the loss is convex" in convex.reasons[0]
    assert convex.start == find_phase_change(history).start


def test_heads_that_form_and_fade_are_still_found():
    history = synthetic_history(n_steps=40)
    fade = np.where(history["tokens_seen"] > 4e7, 0.3, 1.0).astype(np.float32)
    faded = history.assign(prefix_matching=history["prefix_matching"] * fade[:, None, None])
    phase = find_phase_change(faded)
    assert phase and 7e6 < phase.start < 9e6


def test_the_window_is_in_steps_too():
    phase = find_phase_change(synthetic_history())
    assert phase.start_step == pytest.approx(phase.start / 4096, rel=0.05)
    assert "Phase change from" in repr(phase)


def test_criteria_are_parameters():
    assert not find_phase_change(synthetic_history(), PhaseCriteria(min_rise=0.99))
    assert not find_phase_change(synthetic_history(), PhaseCriteria(min_bump=5.0))


def test_convex_envelope_against_its_definition():
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.random(30)), rng.random(30)
    envelope = convex_envelope(x, y)
    brute = [
        min([y[i]] + [y[a] + (y[b] - y[a]) * (x[i] - x[a]) / (x[b] - x[a]) for a in range(i) for b in range(i + 1, 30)])
        for i in range(30)
    ]
    np.testing.assert_allclose(envelope, brute, atol=1e-12)


@pytest.mark.parametrize("name", ["prefix_matching", "icl_score", "loss"])
def test_missing_variables_are_named(name):
    with pytest.raises(HistoryError, match=name):
        find_phase_change(synthetic_history().drop_vars(name))


def test_scores_with_other_dims_are_refused():
    history = synthetic_history()
    turned = history["prefix_matching"].transpose("layer", "head", "step")
    with pytest.raises(HistoryError, match="prefix_matching has dims"):
        find_phase_change(history.assign(prefix_matching=turned))


def test_a_verdict_on_too_little_is_unknown():
    history = synthetic_history()
    unmeasured = history.assign(prefix_matching=history["prefix_matching"] * np.nan)
    for one, reason in ((history.isel(step=slice(2)), "2 checkpoints after"), (unmeasured, "measured at fewer than 3")):
        phase = find_phase_change(one)
        assert phase.found is None and not phase
        assert repr(phase).startswith("Phase change unknown: ") and reason in repr(phase)
    judged = find_phase_change(synthetic_history(window=None))
    assert judged.found is False and repr(judged).startswith("No phase change: ")


def test_checkpoints_with_identical_weights_are_noted():
    same = json.dumps([[24, 33], [44, 60, 81]])
    for window in ((8e6, 2e7), None):
        phase = find_phase_change(synthetic_history(window=window).assign_attrs(identical_weights=same), n_resamples=0)
        assert [note.split(":")[0] for note in phase.notes[:2]] == [
            "steps 24, 33 have identical weights",
            "steps 44, 60, 81 have identical weights",
        ]
        assert phase.notes[1] in repr(phase)
    assert not find_phase_change(synthetic_history(window=None)).notes
