"""Figures as data: what was drawn, where, with which units."""

from __future__ import annotations

import builtins
import dataclasses
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex

from inductionkit import find_phase_change, plots
from inductionkit.errors import HistoryError, InductionKitError
from inductionkit.phase import loss_slope_map, token_loss_pca
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def history():
    return synthetic_history(n_steps=30, window=(8e6, 1.2e7))


@pytest.fixture(scope="module")
def phase(history):
    return find_phase_change(history, n_resamples=0)


@pytest.fixture(autouse=True)
def close():
    yield
    pyplot.close("all")


def shaded(ax) -> list[tuple[float, float]]:
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches]


@pytest.mark.parametrize(
    ("draw", "variable", "unit"),
    [(plots.plot_loss, "loss", "nats/token"), (plots.plot_icl_score, "icl_score", "nats/token")],
)
def test_curves_are_the_history_and_the_window_is_shaded(history, phase, draw, variable, unit):
    ax = draw(history, phase)
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 30]
    np.testing.assert_array_equal(drawn[0].get_xdata(), history["tokens_seen"])
    np.testing.assert_allclose(drawn[0].get_ydata(), history[variable])
    assert shaded(ax) == shaded(draw(history, phase.window)) == [pytest.approx((phase.start, phase.end))]
    assert unit in ax.get_ylabel() and "tokens" in ax.get_xlabel() and ax.get_xscale() == "log"


@pytest.mark.parametrize(
    "draw", [plots.plot_loss, plots.plot_icl_score, plots.plot_prefix_matching, plots.plot_loss_slopes]
)
def test_a_history_without_its_tokens_is_drawn_in_steps(history, draw):
    bare = history.assign_coords(tokens_seen=history["tokens_seen"] * np.nan)
    phase = find_phase_change(bare, n_resamples=0)
    ax = draw(bare, phase)
    assert ax.get_xlabel() == "optimiser steps"
    drawn = [line.get_xdata()[0] for line in ax.lines] + [start for start, _ in shaded(ax)]
    assert any(at == pytest.approx(phase.start) for at in drawn)
    first, last = history["step"].values[[0, -1]]
    assert 0.8 * first < ax.dataLim.xmin and ax.dataLim.xmax < 1.2 * last


@pytest.mark.parametrize("found", [False, None])
def test_a_phase_change_that_was_not_found_is_not_drawn(history, phase, found):
    rejected = dataclasses.replace(phase, found=found)
    for draw in (plots.plot_loss, plots.plot_icl_score, plots.plot_prefix_matching, plots.plot_loss_slopes):
        with_phase, without, bare = (draw(history, one) for one in (phase, rejected, None))
        assert len(with_phase.lines) + len(shaded(with_phase)) > len(bare.lines)
        assert len(without.lines) == len(bare.lines) and not shaded(without)
    assert plots.plot_prefix_matching(history, rejected).get_legend() is None


def test_the_bump_stands_above_its_dashed_line(history, phase):
    [chord] = [line for line in plots.plot_loss(history, phase).lines if line.get_linestyle() == "--"]
    assert tuple(chord.get_xdata()) == pytest.approx(phase.bump_window)


def test_heads_that_form_are_named_and_coloured_apart(history, phase):
    ax = plots.plot_prefix_matching(history, phase)
    named = {line.get_label(): to_hex(line.get_color()) for line in ax.lines if not line.get_label().startswith("_")}
    assert set(named) == {"1.0", "1.1"} and len(set(named.values())) == 2
    assert len(ax.lines) == 8
    [first] = [line for line in ax.lines if line.get_label() == "1.0"]
    np.testing.assert_allclose(first.get_ydata(), history["prefix_matching"].sel(layer=1, head=0))


def test_the_slope_map_is_centred_on_no_slope(history, phase):
    ax = plots.plot_loss_slopes(history, phase)
    [mesh] = ax.collections
    np.testing.assert_allclose(mesh.get_array(), loss_slope_map(history)["loss_slope"].values.T)
    assert mesh.get_clim() == (-0.4, 0.4)
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([phase.start, phase.end])


def test_paths_of_two_runs(history):
    histories = {"two": history, "one": synthetic_history(n_steps=30, window=None)}
    ax = plots.plot_token_loss_pca(histories)
    paths = token_loss_pca(histories)
    for name in histories:
        [line] = [line for line in ax.lines if line.get_label() == name]
        drawn = np.stack(line.get_data(), axis=1)
        np.testing.assert_allclose(drawn, paths["token_loss_component"].values[paths["model"].values == name])
    assert "nats" in ax.get_xlabel() and "%" in ax.get_xlabel()


def test_the_model_analysis_has_a_row_a_measurement_and_a_column_a_model(history):
    control = synthetic_history(n_steps=30, window=None).drop_vars("token_loss")
    figure = plots.plot_model_analysis({"two": history, "one": control})
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert len(panels) == 10 and [ax.get_title() for ax in panels[:2]] == ["two", "one"]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert [text.get_text() for text in panels[9].texts] == ["not measured"]
    assert not shaded(panels[1]) and shaded(panels[0])


def test_runs_of_which_one_does_not_know_its_tokens_are_all_drawn_in_steps(history):
    bare = synthetic_history(n_steps=30).drop_vars("tokens_seen")
    panels = plots.plot_model_analysis({"two": history, "bare": bare}).axes
    named = [ax.get_xlabel() for ax in panels if "component" not in ax.get_xlabel() and ax.get_xlabel()]
    assert named == ["optimiser steps"] * 8
    phase = find_phase_change(history, n_resamples=0)
    assert shaded(panels[0]) == [pytest.approx((phase.start_step, phase.end_step), rel=0.01)]
    ax = plots.plot_token_loss_pca({"two": history, "bare": bare})
    paths = token_loss_pca({"two": history, "bare": bare})
    inside = (paths["step"] >= phase.start_step) & (paths["step"] <= phase.end_step) & (paths["model"] == "two")
    thick = [line for line in ax.lines if line.get_linewidth() == 4]
    np.testing.assert_allclose(thick[0].get_xdata(), paths["token_loss_component"].values[inside.values, 0])


def test_what_was_measured_at_no_checkpoint_is_said_to_be_missing(history):
    names = ["loss", "icl_score", "loss_by_position", "token_loss", "example_loss", "example_icl_score"]
    unmeasured = history.assign({name: history[name] * np.nan for name in names})
    runs = {"all": history, "heads": unmeasured, "one checkpoint": history.isel(step=[0])}
    panels = [ax for ax in plots.plot_model_analysis(runs).axes if ax.get_label() != "<colorbar>"]
    missing = [[text.get_text() for text in ax.texts] == ["not measured"] for ax in panels]
    assert np.array(missing).reshape(5, 3).tolist() == [[False, row != 2, False] for row in range(5)]
    assert PhaseExplorer(unmeasured).to_figure().axes[0].get_title() == "prefix matching"


def test_checkpoints_that_were_not_measured_are_left_out(history, phase):
    gaps = history["loss"].where(history["step"] % 2 == 0)
    ax = plots.plot_loss(history.assign(loss=gaps), phase)
    assert np.isfinite(ax.lines[0].get_ydata()).all() and len(ax.lines[0].get_xdata()) == np.isfinite(gaps).sum()
    with pytest.raises(HistoryError, match="lacks loss"):
        plots.plot_loss(history.drop_vars("loss"))


def test_given_axes_are_drawn_on(history):
    _, ax = pyplot.subplots()
    assert plots.plot_loss(history, ax=ax) is ax


def test_without_matplotlib_the_error_says_what_to_install(history, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InductionKitError, match=r"pip install .inductionkit\[plots\]"):
        plots.plot_loss(history)
