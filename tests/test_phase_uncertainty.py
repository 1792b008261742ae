"""Intervals that cover what they should as often as they say, and co-occurrence that is as rare by chance."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inductionkit import find_phase_change
from inductionkit.phase.co_occurrence import compare_windows
from inductionkit.testing import synthetic_history

FOUR = ("prefix_matching", "icl_score", "loss", "token_loss")


def with_examples(history: xr.Dataset, icl: np.ndarray, n_examples: int, noise: float, seed: int) -> xr.Dataset:
    """The history with examples drawn from a population whose mean in-context-learning score is `icl`."""
    rng = np.random.default_rng(seed)
    gain = rng.gamma(4, 1 / 4, n_examples)
    scores = icl[:, None] * gain + noise * rng.standard_normal((len(icl), n_examples))
    losses = np.repeat(history["loss"].values[:, None], n_examples, axis=1)
    return history.drop_dims(["sample", "example"]).assign(
        icl_score=("step", scores.mean(1)),
        example_icl_score=(("step", "example"), scores),
        example_loss=(("step", "example"), losses),
    )


def test_the_synthetic_examples_have_the_mean_of_the_history():
    history = synthetic_history(noise=0.1)
    for name in ("loss", "icl_score"):
        np.testing.assert_allclose(history[f"example_{name}"].mean("example"), history[name], atol=1e-5)


def test_intervals_cover_the_window_of_the_population():
    history = synthetic_history(n_steps=50, window=(5e6, 1e7))
    icl = synthetic_history(n_steps=50, window=(6e6, 1.5e7))["icl_score"].values.astype(float)
    known = find_phase_change(history.assign(icl_score=("step", icl)), n_resamples=0)
    n_draws, inside = 40, 0
    for seed in range(n_draws):
        drawn = with_examples(history, icl, n_examples=64, noise=0.1, seed=seed)
        low, high = find_phase_change(drawn, n_resamples=60, seed=seed).end_interval
        inside += low <= known.end <= high
    assert (
        0.75 * n_draws <= inside < n_draws
    )  # stated: 0.9; 4 standard deviations below, and not so wide that none miss


def test_more_examples_give_narrower_intervals():
    history = synthetic_history(n_steps=50, window=(5e6, 1e7))
    icl = synthetic_history(n_steps=50, window=(6e6, 1.5e7))["icl_score"].values.astype(float)
    widths = []
    for n_examples in (32, 512):
        low, high = find_phase_change(with_examples(history, icl, n_examples, 0.1, 0), n_resamples=60).end_interval
        widths.append(np.log(high / low))
    assert widths[1] < widths[0] / 2


def test_intervals_hold_the_window_and_the_seed_fixes_them():
    history = synthetic_history(noise=0.05, n_steps=40)
    phase = find_phase_change(history)
    assert phase.start_interval[0] <= phase.start <= phase.start_interval[1]
    assert phase.end_interval[0] <= phase.end <= phase.end_interval[1]
    assert phase.found_share == 1 and phase.n_resamples == 200
    assert "90 % intervals: start" in repr(phase)
    assert find_phase_change(history).end_interval == phase.end_interval
    assert find_phase_change(history, seed=1).end_interval != phase.end_interval
    for marker in phase.markers.values():
        if marker.window:
            assert marker.start_interval[0] <= marker.window[0] <= marker.start_interval[1]


def test_heads_that_form_at_other_times_widen_the_interval():
    early, late = (synthetic_history(n_steps=60, window=window) for window in ((4e6, 6e6), (6e6, 9e6)))
    scores = early["prefix_matching"].copy()
    scores[:, 1, 1] = late["prefix_matching"][:, 1, 0]  # as strong as the first head, and later
    alike, apart = (
        find_phase_change(early.assign(prefix_matching=one)).start_interval
        for one in (early["prefix_matching"], scores)
    )
    assert np.log(apart[1] / apart[0]) > 2 * np.log(alike[1] / alike[0])


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda history: history.drop_vars("example_loss"), "no losses of single examples"),
        (lambda history: history.isel(example=slice(4)).drop_dims("sample"), "4 examples are fewer than 8"),
    ],
)
def test_without_enough_examples_there_is_a_window_and_no_interval(change, note):
    phase = find_phase_change(change(synthetic_history()))
    assert phase and phase.start and phase.start_interval is None
    assert note in repr(phase)


def brute_overlap(windows: list[tuple[float, float]], circle: float, n: int = 20000) -> float:
    """Mean pairwise intersection over union, by counting points of the circle."""
    at = np.linspace(0, circle, n, endpoint=False)
    inside = [(at - start) % circle < end - start for start, end in windows]
    pairs = [(i, j) for i in range(len(windows)) for j in range(i)]
    return float(np.mean([(inside[i] & inside[j]).sum() / (inside[i] | inside[j]).sum() for i, j in pairs]))


@pytest.mark.parametrize("seed", range(5))
def test_overlap_and_p_value_against_counting(seed):
    rng = np.random.default_rng(seed)
    starts, lengths = rng.uniform(4, 5, 3), rng.uniform(0.5, 2, 3)
    windows = {name: (start, start + length) for name, start, length in zip("abc", starts, lengths)}
    found = compare_windows(windows, (0.0, 10.0), seed=0)
    assert found.overlap == pytest.approx(brute_overlap(list(windows.values()), 10), abs=2e-3)
    shuffled = [
        brute_overlap([(at, at + length) for at, length in zip(rng.uniform(0, 10, 3), lengths)], 10, 500)
        for _ in range(1000)
    ]
    share = np.mean(np.array(shuffled) >= found.overlap)
    assert found.p_value == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 1000) + 0.003)
    shared = np.exp(max(start for start, _ in windows.values())), np.exp(min(end for _, end in windows.values()))
    assert found.shared_window == (pytest.approx(shared) if shared[0] < shared[1] else None)


def test_p_values_are_uniform_where_windows_fall_by_chance():
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(400):
        starts = rng.uniform(0, 9, 4)
        windows = {name: (at, at + 1) for name, at in zip(FOUR, starts)}
        p_values.append(compare_windows(windows, (0.0, 10.0), seed, n_shuffles=400).p_value)
    rejected = np.mean(np.array(p_values) <= 0.05)
    assert rejected == pytest.approx(0.05, abs=0.035)  # 3 standard deviations


def test_histories_whose_markers_are_independent_are_seldom_significant():
    rng = np.random.default_rng(1)
    n_histories, significant = 60, 0
    for seed in range(n_histories):
        starts = np.exp(rng.uniform(np.log(2e6), np.log(5e7), 4))
        parts = [synthetic_history(40, window=(at, 1.4 * at), noise=0.002, seed=seed, n_text_tokens=2) for at in starts]
        mixed = parts[0].assign({name: part[name] for name, part in zip(FOUR, parts)})
        significant += find_phase_change(mixed, n_resamples=0).co_occurrence.p_value <= 0.05
    assert significant <= 8  # expected 3


def test_a_real_change_is_significant_and_a_control_never():
    change = find_phase_change(synthetic_history(n_steps=60, window=(8e6, 1.2e7), noise=0.01)).co_occurrence
    assert change.p_value < 0.01 and change.overlap > 0.3
    low, high = change.shared_window
    assert 8e6 < low < high < 1.3e7
    control = synthetic_history(n_steps=60, window=None)
    moved = synthetic_history(n_steps=60, window=(8e6, 1.2e7))
    mimic = control.assign({name: moved[name] for name in ("icl_score", "loss", "token_loss")})
    for history in (control, mimic):
        found = find_phase_change(history).co_occurrence
        assert found.p_value == 1 and found.overlap == 0 and "prefix_matching" in found.reason
