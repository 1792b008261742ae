"""The explorer's views on a saved page: axes, scores, heads, texts, two runs; each alone, and for every reader."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from browser.pages import (
    N_STEPS,
    VIEWS,
    WINDOW,
    axis_width,
    check_accessibility,
    go_to,
    ink,
    marker_places,
    panels,
    root,
)
from playwright.sync_api import expect

from inductionkit.phase import find_phase_change
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseComparison, PhaseExplorer, _pattern_series


def test_the_axis_is_log_or_linear_in_tokens_or_steps(explorer, history):
    """The marker's place follows from the checkpoints alone."""
    width = axis_width(explorer)
    tokens, steps = (history[name].values.astype(float) for name in ("tokens_seen", "step"))
    go_to(explorer, 12)
    explorer.locator('[data-value="linear"]').click()
    expect(explorer.locator('[data-value="linear"]')).to_have_attribute("aria-pressed", "true")
    place = (tokens[12] - tokens[0]) / (tokens[-1] - tokens[0])
    np.testing.assert_allclose(marker_places(explorer), [width * place] * 4, atol=0.6)
    explorer.locator('[data-value="log"]').click()
    explorer.locator('[data-value="steps"]').click()
    expect(explorer.get_by_text("training step (log scale)").last).to_be_visible()
    place = np.log(steps[12] / steps[0]) / np.log(steps[-1] / steps[0])
    np.testing.assert_allclose(marker_places(explorer), [width * place] * 4, atol=0.6)
    shade = explorer.locator(".ik-details .ik-window").first
    ends = np.interp(WINDOW, tokens, steps)
    expected = width * np.log(ends / steps[0]) / np.log(steps[-1] / steps[0])
    seen = [float(shade.get_attribute(name)) for name in ("x", "width")]
    np.testing.assert_allclose([seen[0], sum(seen)], expected, atol=0.6)


def test_the_bump_and_the_intervals_are_drawn(opened):
    history = synthetic_history(n_steps=48)
    phase = find_phase_change(history, n_resamples=8)
    page = opened(PhaseExplorer(history, phase=phase))
    expect(page.get_by_text(f"convex envelope, {phase.bump_nats:.2f} nats below the bump")).to_be_visible()
    width = axis_width(page)

    def x_of(tokens: float) -> float:
        return width * np.log(tokens / 1e5) / np.log(1e8 / 1e5)

    chord = re.findall(r"[ML]([\d.]+),", page.locator(".ik-details .ik-line-envelope").get_attribute("d"))
    np.testing.assert_allclose([float(chord[0]), float(chord[-1])], [x_of(end) for end in phase.bump_window], atol=0.6)
    bars = re.findall(r"M([\d.]+),3H([\d.]+)", page.locator(".ik-details .ik-intervals").first.get_attribute("d"))
    expected = [[x_of(end) for end in ends] for ends in (phase.start_interval, phase.end_interval)]
    np.testing.assert_allclose(np.array(bars, float), expected, atol=0.6)
    names = page.locator('[data-panel="trajectories"] .ik-head-name').all_text_contents()
    assert set(names) == {"1.0", "1.1"}, "the heads that form are highlighted"


def test_a_history_without_its_tokens_is_drawn_in_steps(opened, history):
    logged = np.arange(1, history.sizes["log"] + 1)
    bare = history.assign_coords(tokens_seen=history["tokens_seen"] * np.nan, log_step=("log", logged))
    phase = find_phase_change(bare, n_resamples=8)
    page = opened(PhaseExplorer(bare, phase=phase, control=bare))
    go_to(page, 12)
    steps, width = history["step"].values.astype(float), axis_width(page)

    def x_of(step: float | np.ndarray) -> float | np.ndarray:
        return width * np.log(step / steps[0]) / np.log(steps[-1] / steps[0])

    np.testing.assert_allclose(marker_places(page), [x_of(steps[12])] * 4, atol=0.6)
    shade = page.locator(".ik-details .ik-window").first
    seen = [float(shade.get_attribute(name)) for name in ("x", "width")]
    np.testing.assert_allclose([seen[0], sum(seen)], [x_of(end) for end in phase.window], atol=0.6)
    for kind in ("value", "control", "log", "envelope"):
        points = re.findall(r"[ML]([\d.]+),", page.locator(f'[data-panel="loss"] .ik-line-{kind}').get_attribute("d"))
        assert len(points) >= N_STEPS, kind
    assert page.locator(".ik-slider").get_attribute("aria-valuetext").rstrip(", ") == f"step {int(steps[12]):,}"
    expect(page.get_by_text("training step (log scale)").last).to_be_visible()
    expect(page.locator('[data-value="tokens"]')).to_have_count(0)


@pytest.mark.parametrize("found", [False, None])
def test_a_phase_change_that_was_not_found_is_not_shaded(opened, history, found):
    rejected = dataclasses.replace(find_phase_change(history, n_resamples=8), found=found)
    page = opened(PhaseExplorer(history, phase=rejected))
    assert page.locator(".ik-window").count() == 5 and page.locator(".ik-window[width]").count() == 0
    assert page.locator(".ik-intervals[d], .ik-bump").count() == 0
    expect(page.get_by_text("phase window")).to_have_count(0)


def test_a_control_that_does_not_know_its_tokens_has_all_drawn_in_steps(opened, history):
    control = history.isel(step=slice(0, 12)).drop_vars("tokens_seen")
    page = opened(PhaseExplorer(history, phase=WINDOW, control=control))
    expect(page.get_by_text("training step (log scale)").last).to_be_visible()
    drawn = page.locator('[data-panel="icl"] .ik-line-control').get_attribute("d")
    steps, width = history["step"].values.astype(float), axis_width(page)
    last = float(re.findall(r"[ML]([\d.]+),", drawn)[-1])
    assert last == pytest.approx(width * np.log(steps[11] / steps[0]) / np.log(steps[-1] / steps[0]), abs=0.6)
    shade = page.locator(".ik-details .ik-window").first
    start = np.interp(WINDOW[0], history["tokens_seen"], steps)
    expected = width * np.log(start / steps[0]) / np.log(steps[-1] / steps[0])
    assert float(shade.get_attribute("x")) == pytest.approx(expected, abs=0.6)


def test_heads_are_searched_sorted_and_highlighted(explorer, history):
    rows = explorer.locator(".ik-head-row:visible")
    names = rows.locator(".ik-pick span:first-child")
    explorer.locator('[data-choice="sort by"]').select_option("previous_token")
    previous = history["previous_token"].values[-1].ravel()
    expected = [f"{head // 4}.{head % 4}" for head in np.argsort(-previous.astype(np.float16), kind="stable")]
    assert names.all_inner_texts() == expected
    everything = ink(explorer, "trajectories")
    explorer.locator(".ik-search").fill("layer 1, 0.2")
    expect(rows).to_have_count(5)
    assert set(names.all_inner_texts()) == {"1.0", "1.1", "1.2", "1.3", "0.2"}
    explorer.locator(".ik-search").fill("nothing")
    expect(explorer.get_by_text("no such head")).to_be_visible()
    explorer.locator(".ik-search").fill("")
    expect(rows).to_have_count(8)
    assert ink(explorer, "trajectories") == everything
    pin = explorer.get_by_role("button", name="Highlight head 0.2")
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(explorer.locator(".ik-ring")).to_have_count(1)
    expect(explorer.locator(".ik-cell-marked")).to_have_count(1)


def test_any_score_is_shown(explorer, history):
    explorer.locator('[data-panel="grid"] select').select_option("previous_token")
    previous = float(history["previous_token"][-1, 1, 0])
    for panel, text in (("grid", f"1.0: {previous:.2f}"), ("trajectories", f"head 1.0: {previous:.2f}")):
        expect(explorer.locator(f'[data-panel="{panel}"] .ik-value')).to_have_text(text)
    explorer.locator('[data-choice="up"]').select_option("duplicate_token")
    duplicate, prefix = (float(history[name][-1, 1, 0]) for name in ("duplicate_token", "prefix_matching"))
    expect(explorer.locator('[data-panel="scatter"] .ik-value')).to_have_text(f"1.0: {prefix:.2f}, {duplicate:.2f}")
    expect(explorer.locator('[data-panel="scatter"] .ik-axis-title')).to_contain_text("duplicate token")


def test_a_head_is_chosen_in_the_grid_by_pointer_and_keys(explorer):
    grid = explorer.locator('[data-panel="grid"] .ik-cells')
    grid.focus()
    for key, head in (("ArrowUp", "0.0"), ("ArrowRight", "0.1"), ("ArrowUp", "0.1"), ("ArrowDown", "1.1")):
        explorer.keyboard.press(key)
        expect(explorer.locator(".ik-root")).to_have_attribute("data-head", head)
    assert "Head 1.1" in grid.get_attribute("aria-label")


def test_losses_of_tokens_are_held_against_a_step(explorer, history):
    """The synthetic text is learned after its half-way token, and not before it."""
    panel = explorer.locator('[data-panel="text"]')
    losses = history["text_loss"].values[:, 0]
    reference = int((history["tokens_seen"].values <= WINDOW[0]).sum()) - 1
    assert panel.locator("select").input_value() == str(reference)
    panel.locator("select").select_option("2")
    panel.locator(".ik-token").nth(20).hover()
    change = losses[-1, 20] - losses[2, 20]
    expect(panel.locator(".ik-number")).to_have_text(f"{change:.2f}".replace("-", "−"))
    expect(panel.locator(".ik-value")).to_have_text(f"mean {np.nanmean(losses[-1] - losses[2]):.2f}".replace("-", "−"))
    assert panel.locator(".ik-token").first.get_attribute("class") == "ik-token is-unknown", "nothing predicts it"


def test_tokens_are_shaded_by_ov_lift(explorer):
    panel = explorer.locator('[data-panel="pattern"]')
    token = panel.locator(".ik-token").nth(3)
    before = token.evaluate("token => token.style.background")
    panel.get_by_role("button", name="OV lift").click()
    assert token.evaluate("token => token.style.background") != before


def test_a_pattern_that_the_page_lacks_is_said_to_be_missing(opened, history, monkeypatch):
    monkeypatch.setattr(_pattern_series, "BUDGET_BYTES", N_STEPS * (24 * 25 // 2 + 2 * 24))
    page = opened(PhaseExplorer(history))
    expect(page.locator(".ik-overlay[data-shown='23/4/0']")).to_be_visible()
    page.locator('[data-choice="head"]').select_option(label="0.2")
    expect(page.get_by_text("was not saved with this page, and no kernel answers")).to_be_visible()


def test_two_runs_step_on_one_clock(opened, history):
    other = synthetic_history(n_steps=9, window=None)
    other.attrs["model"] = "<b>other</b>"
    both = PhaseComparison(PhaseExplorer(history, phase=WINDOW), other)
    page = opened(both)
    shown = page.locator(".ik-root")
    expect(shown).to_have_attribute("data-step2", str(int(other["step"][-1])))
    assert page.locator(".ik-run").all_inner_texts() == ["synthetic", "<b>other</b>"]
    seen = [one["tokens_seen"].values.astype(float) for one in (history, other)]
    clock = np.unique(np.concatenate(seen))
    page.locator(".ik-slider").fill("10")
    for attribute, one, tokens in zip(("data-step", "data-step2"), (history, other), seen):
        nearest = int(one["step"][np.abs(tokens - clock[10]).argmin()])
        expect(shown).to_have_attribute(attribute, str(nearest))
    ticks = [panel.locator(".ik-axis").last.text_content() for panel in page.locator('[data-panel="loss"]').all()]
    assert ticks[0] == ticks[1], "both have the same axis"
    page.locator('[data-choice="head"]').nth(1).select_option(label="0.3")
    expect(shown).to_have_attribute("data-head2", "0.3")
    assert root(page, "head") == "1.0"


def test_two_runs_step_on_one_clock_in_steps_if_one_does_not_know_its_tokens(opened, history):
    other = synthetic_history(n_steps=9).drop_vars("tokens_seen")
    page = opened(PhaseComparison(PhaseExplorer(history, phase=WINDOW), other))
    steps = [one["step"].values for one in (history, other)]
    clock = np.unique(np.concatenate(steps))
    page.locator(".ik-slider").fill("10")
    for attribute, seen in zip(("data-step", "data-step2"), steps):
        expect(page.locator(".ik-root")).to_have_attribute(attribute, str(seen[np.abs(seen - clock[10]).argmin()]))
    expect(page.get_by_text("training step (log scale)")).to_have_count(2)
    ticks = [panel.locator(".ik-axis").last.text_content() for panel in page.locator('[data-panel="loss"]').all()]
    assert ticks[0] == ticks[1], "both have the same axis"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_alone(opened, history, view):
    page = opened(PhaseExplorer(history, views=[view]), width=600)
    assert panels(page) == [view]
    page.locator(".ik-slider").fill("3")
    expect(page.locator(".ik-root")).to_have_attribute("data-step", str(int(history["step"][3])))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_violation(opened, history, scheme):
    page = opened(PhaseExplorer(history, phase=WINDOW), color_scheme=scheme)
    expect(page.locator(".ik-root[data-step]")).to_be_visible()
    check_accessibility(page)
