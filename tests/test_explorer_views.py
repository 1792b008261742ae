"""The explorer's views in Python: alone, linked, two runs on one clock, patterns on demand, as a figure."""

import ast
import base64
import dataclasses
import json
import re
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

from inductionkit import find_phase_change, widgets
from inductionkit.errors import HistoryError
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer, _pattern_series
from inductionkit.widgets._payload import unpack_arrays, unpack_lower
from inductionkit.widgets._phase_data import heads_by_strength
from inductionkit.widgets.phase_comparison import PhaseComparison
from inductionkit.widgets.views import (
    AttentionPattern,
    HeadGrid,
    HeadScatter,
    HeadTrajectories,
    InContextLearningView,
    LossSlopeMap,
    LossView,
    TextLoss,
)

VIEW_WIDGETS = [
    LossView, InContextLearningView, LossSlopeMap, HeadTrajectories, HeadGrid, HeadScatter, AttentionPattern, TextLoss
]  # fmt: skip


def payload(explorer: PhaseExplorer) -> dict[str, np.ndarray]:
    return unpack_arrays(explorer._header["arrays"], explorer._data)


def script_text(page: str, name: str) -> str:
    return re.search(rf'<script type="[^"]*" id="inductionkit-{name}">(.*?)</script>', page, re.DOTALL)[1]


def test_views_are_chosen_and_only_their_data_travel():
    history = synthetic_history()
    explorer = PhaseExplorer(history, views=["text", "loss"])
    assert explorer._header["views"] == ["loss", "text"]
    assert set(payload(explorer)) == {"step", "tokens_seen", "loss", "log elapsed", "training_loss", "text_loss"}
    with pytest.raises(HistoryError, match=r"views=.'los'.* names no view of the explorer, which has loss, icl"):
        PhaseExplorer(history, views=["los"])
    with pytest.raises(HistoryError, match="the view 'pattern' needs pattern; the history has "):
        AttentionPattern(history.drop_vars("pattern"))


@pytest.mark.parametrize("view", VIEW_WIDGETS, ids=lambda view: view.__name__)
def test_each_view_is_a_widget(view, tmp_path):
    widget = view(synthetic_history())
    assert widget._header["views"] == list(view.views)
    assert view.__name__ in repr(widget)
    assert widget.save(tmp_path / "view.html").stat().st_size > 10_000


def test_linked_explorers_take_the_first_ones_choices():
    history = synthetic_history()
    one, other = LossView(history), AttentionPattern(history)
    one.step, one.heads = one._steps[2], [(0, 1)]
    assert one.link(other) is one
    assert (other.step, other.heads) == (one.step, ((0, 1),))
    with pytest.raises(HistoryError, match=r"24 and 5 checkpoints at different steps .* PhaseComparison"):
        one.link(AttentionPattern(history.isel(step=slice(0, 5))))


def sent_by(widget: PhaseExplorer | PhaseComparison, monkeypatch) -> list[tuple[object, list[bytes]]]:
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers: sent.append((content, buffers)))
    return sent


def test_patterns_beyond_the_budget_are_sent_when_asked_for(monkeypatch):
    history = synthetic_history(n_text_tokens=12)
    series = 24 * (12 * 13 // 2 + 2 * 12)
    monkeypatch.setattr(_pattern_series, "BUDGET_BYTES", 3 * series + 1)
    explorer = PhaseExplorer(history)
    assert explorer._header["series"]["heads_texts"] == [(4, 0), (5, 0), (heads_by_strength(history)[2], 0)]
    assert len(payload(explorer)["pattern"]) == 3
    sent = sent_by(explorer, monkeypatch)
    explorer._handle_custom_msg({"pattern": [2, 1, 1]}, [])
    [(content, (pattern, lift))] = sent
    assert content == {"pattern": [2, 1, 1]}
    pattern = unpack_lower(np.frombuffer(pattern, np.uint8))
    np.testing.assert_array_equal(pattern, history["pattern"].values[2, 0, 1, 1])
    np.testing.assert_array_equal(np.frombuffer(lift, "<f4"), history["ov_lift"].values[2, 0, 1, 1])


@pytest.mark.parametrize("asked", [None, [0, 0], [24, 0, 0], [0, -1, 0], ["0", 0, 0], [0, 0, True], {"0": 0}])
def test_questions_for_no_pattern_are_not_answered(asked, monkeypatch):
    explorer = PhaseExplorer(synthetic_history())
    sent = sent_by(explorer, monkeypatch)
    explorer._handle_custom_msg({"pattern": asked}, [])
    explorer._handle_custom_msg([asked], [])
    assert sent == []


def test_a_saved_page_holds_the_patterns_of_what_is_chosen(tmp_path, monkeypatch):
    history = synthetic_history(n_text_tokens=12)
    monkeypatch.setattr(_pattern_series, "BUDGET_BYTES", 2 * 24 * (12 * 13 // 2 + 2 * 12))
    explorer = PhaseExplorer(history)
    explorer.head, explorer.heads, explorer.text = (0, 3), [(0, 2)], 1
    state = json.loads(script_text(explorer.save(tmp_path / "page.html").read_text(), "state"))
    assert state["_header"]["series"]["heads_texts"] == [[3, 1], [2, 1]]


def test_a_series_beyond_the_budget_is_thinned(monkeypatch):
    history = synthetic_history(n_text_tokens=12)
    monkeypatch.setattr(_pattern_series, "BUDGET_BYTES", 5 * (12 * 13 // 2 + 2 * 12))
    series, steps = _pattern_series.choose_series(history, [4, 5], text=1, index=2)
    assert series == [(4, 1)]
    assert 2 in steps and steps[0] == 0 and steps[-1] == 23 and len(steps) == 5


def test_twelve_heads_on_512_tokens_take_a_fifteenth_of_circuitsvis():
    """CircuitsVis makes a cell of 43 MB of them."""
    dims = ("step", "layer", "head", "text", "query", "key")
    history = synthetic_history(n_steps=1, n_layers=1, n_heads=12, n_text_tokens=1).isel(text=[0])
    pattern = np.full((1, 1, 12, 1, 512, 512), 4, np.uint8)
    token = ("text", "query"), np.array([["w"] * 512], dtype=object)
    history = history.drop_vars(["pattern", "token", "text_loss", "ov_lift"]).assign(
        pattern=(dims, pattern), token=token
    )
    view = AttentionPattern(history)
    assert len(view._header["series"]["heads_texts"]) == 12
    assert len(base64.b64encode(view._data)) + len(view._esm) < 43e6 / 15


def test_two_runs_stand_on_one_clock():
    both = PhaseComparison(synthetic_history(), PhaseExplorer(synthetic_history(n_steps=9, window=None)))
    tokens = [one._history["tokens_seen"].values for one in (both.left, both.right)]
    both.clock = 3e6
    for explorer, seen in zip((both.left, both.right), tokens):
        assert explorer.step == explorer._steps[np.abs(seen - 3e6).argmin()]
    both.right.step = both.right._steps[2]
    assert both.clock == tokens[1][2]
    assert both.left.step == both.left._steps[np.abs(tokens[0] - tokens[1][2]).argmin()]
    assert both._left["step"] == both.left.step
    both._left = {**both._left, "head": [0, 1]}  # as the browser chooses
    assert both.left.head == (0, 1)


def test_a_comparison_holds_both_runs(tmp_path, monkeypatch):
    left, right = synthetic_history(), synthetic_history(n_steps=9, window=None)
    both = PhaseComparison(PhaseExplorer(left, phase=(8e6, 2e7)), right)
    for header, history in zip(both._header["sides"], (left, right)):
        arrays = unpack_arrays(header["arrays"], both._data[header["at"] :])
        np.testing.assert_array_equal(arrays["loss"], history["loss"].values)
    state = json.loads(script_text(both.save(tmp_path / "both.html").read_text(), "state"))
    assert state["_right"]["step"] == both.right.step and state["clock"] == both.clock
    sent = sent_by(both, monkeypatch)
    both._handle_custom_msg({"pattern": [1, 0, 0], "side": 1}, [])
    assert unpack_lower(np.frombuffer(sent[0][1][0], np.uint8)).tolist() == right["pattern"].values[1, 0, 0, 0].tolist()
    both.left.history = left.isel(step=slice(0, 4))
    assert both._header["sides"][0]["arrays"][0]["shape"] == [4]


@pytest.mark.parametrize("unknown", ["left", "right", "control"])
def test_the_clock_is_in_steps_where_tokens_are_unknown(unknown):
    sides = {"left": synthetic_history(), "right": synthetic_history(n_steps=9), "control": synthetic_history()}
    bare = sides[unknown].assign_coords(tokens_seen=sides[unknown]["tokens_seen"] * np.nan)
    left, right, control = (sides | {unknown: bare}).values()
    both = PhaseComparison(PhaseExplorer(left, control=control), right)
    steps = [one["step"].values for one in (left, right)]
    assert both.clock == max(seen[-1] for seen in steps)
    both.clock = 700.0
    for explorer, seen in zip((both.left, both.right), steps):
        assert explorer.step == seen[np.abs(seen - 700).argmin()]
    both.right.step = int(steps[1][2])
    assert both.clock == steps[1][2]


def test_the_figure_of_a_history_without_its_tokens_is_in_steps():
    history = synthetic_history().drop_vars("tokens_seen")
    explorer = PhaseExplorer(history, phase=(2000, 4000))
    explorer.step = explorer._steps[5]
    over_training = [ax for ax in explorer.to_figure().axes if "steps" in ax.get_xlabel()]
    assert len(over_training) == 4
    for ax in over_training:
        assert any(set(line.get_xdata()) == {explorer.step} for line in ax.lines)
    assert over_training[0].patches[0].get_x() == 2000, "the shaded window"
    rejected = dataclasses.replace(find_phase_change(history, n_resamples=0), found=False)
    figure = PhaseExplorer(history, phase=rejected).to_figure()
    assert not any(ax.patches for ax in figure.axes[:4])


def test_no_module_of_the_explorer_imports_one_that_imports_it():
    """Nor within a function, where it would stay unseen until the function is called."""
    folder = Path(widgets.__file__).parent
    imports = {path.stem: _imports(path) for path in folder.glob("*.py") if path.stem != "__init__"}
    TopologicalSorter(imports).prepare()  # raises CycleError
    assert "_phase_data" in imports["phase_explorer"] and "phase_explorer" in imports["phase_comparison"]


def _imports(path: Path) -> set[str]:
    """The modules of the same folder that a module imports, wherever in it."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    near = [node for node in found if node.level == 1]
    return {name for node in near for name in ([node.module] if node.module else [one.name for one in node.names])}


def test_the_figure_has_the_views_at_the_current_step():
    explorer = PhaseExplorer(synthetic_history(), phase=(8e6, 2e7))
    explorer.step = explorer._steps[5]
    figure = explorer.to_figure()
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[:4] == ["loss", "in-context-learning score", "loss slope along the context", "prefix matching"]
    loss = figure.axes[0]
    marked = [line.get_xdata()[0] for line in loss.lines if len(set(line.get_xdata())) == 1]
    assert marked == [explorer._history["tokens_seen"].values[5]]
    shown = [image.get_array() for ax in figure.axes for image in ax.images]
    assert any(np.array_equal(array, explorer._history["prefix_matching"][5]) for array in shown)
