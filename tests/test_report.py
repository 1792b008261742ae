"""Reports: what they say is what the analysis says, they need nothing else, and hostile names stay text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgba

from inductionkit import example_history, find_phase_change, plots
from inductionkit.errors import HistoryError, InductionKitError
from inductionkit.report import write_report
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer

HOSTILE = "<img src=x onerror='alert(1)'> | `a` [b](c)"


def test_a_page_says_what_the_analysis_says(tmp_path):
    pyplot.close("all")
    histories = {"two": example_history(), "one": example_history("one-layer")}
    page = write_report(histories, tmp_path / "report.html").read_text()
    for history in histories.values():
        for line in repr(find_phase_change(history)).splitlines():
            assert line.strip().replace("->", "-&gt;").replace("'", "&#x27;") in page
    assert "<td>0.625</td>" in page, "the highest prefix matching stands in the table"
    assert page.count("data:image/png;base64,") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is fetched"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert not pyplot.get_fignums(), "no figure is left for a notebook to show"


def test_markdown_has_its_figures_beside_it(tmp_path):
    path = write_report({"run": synthetic_history()}, tmp_path / "report.md")
    text = path.read_text()
    [figure] = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    expected = find_phase_change(synthetic_history()).start / 1e6
    assert f"| window start (M tokens) | {expected:.4g} |" in rows
    assert all(line.endswith("|") for line in rows)


def test_what_is_unknown_is_said_to_be(tmp_path):
    """Tokens that are unknown make steps of the whole report; a verdict on too little is neither yes nor no."""
    bare = synthetic_history().assign_attrs(identical_weights="[[24, 33]]")
    bare = bare.assign_coords(tokens_seen=bare["tokens_seen"] * np.nan)
    short = synthetic_history().isel(step=slice(2))
    text = write_report({"bare": bare, "short": short}, tmp_path / "report.md").read_text()
    phase = find_phase_change(bare)
    assert f"Phase change from steps {phase.start:,.0f} to {phase.end:,.0f} (tokens unknown)" in text
    assert phase.notes[0].startswith("steps 24, 33 have identical weights:") and phase.notes[0] in text
    assert "Phase change unknown: 2 checkpoints" in text and "No phase change" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert f"| window start (steps) | {phase.start:.4g} |  |" in rows
    assert "| phase change | True | unknown |" in rows
    headers = [line.replace("\\", "") for line in rows if line.startswith("| head |")]
    first = "| head | role | path | prefix_matching |"
    assert len(headers) == 2 and all(header.startswith(first) for header in headers)


def test_hostile_names_stay_text(tmp_path):
    histories = {HOSTILE: synthetic_history().assign_attrs(model="</table><script>1</script>")}
    page = write_report(histories, tmp_path / "report.html").read_text()
    assert "<img src=x" not in page and "<script" not in page
    text = write_report(histories, tmp_path / "report.md").read_text()
    assert "<img src=x" not in text and "<script" not in text
    [head] = [line for line in text.splitlines() if line.startswith("| measurement")]
    assert len(re.findall(r"(?<!\\)\|", head)) == 3, "a bar in a name ends no cell"


def test_what_cannot_be_reported_is_refused(tmp_path):
    with pytest.raises(InductionKitError, match=r"must end in \.html or \.md"):
        write_report({"run": synthetic_history()}, tmp_path / "report.pdf")
    with pytest.raises(HistoryError, match="give the histories by name"):
        write_report(synthetic_history(), tmp_path / "report.html")
    with pytest.raises(HistoryError, match="run: "):
        write_report({"run": synthetic_history().drop_vars("loss")}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def rejected_history():
    """Prefix matching rises, but no in-context learning comes with it: the rule has a window and rejects it."""
    history = synthetic_history()
    history["icl_score"][:] = 0.0
    phase = find_phase_change(history, n_resamples=8)
    assert phase.window and not phase
    return history, phase


def test_a_rejected_window_is_in_no_report_figure_or_widget(tmp_path):
    history, phase = rejected_history()
    text = write_report({"run": history}, tmp_path / "report.md").read_text()
    assert "No phase change" in text
    windows = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| window ")]
    assert windows == [""] * 6
    explorer = PhaseExplorer(history, phase=phase)
    assert explorer._header["window"] is None and explorer._header["intervals"] is None
    for figure in (explorer.to_figure(), plots.plot_model_analysis({"run": history})):
        shaded = [patch for ax in figure.axes for patch in ax.patches if patch.get_facecolor() == to_rgba(plots.SHADE)]
        assert not shaded
        pyplot.close(figure)


def test_what_the_numbers_are_of_is_said_alike(tmp_path):
    history = example_history()
    said = "52 checkpoints, steps 0 to 3,906; 256 held-out examples; in-context-learning score: loss around token 500"
    assert said in write_report({"run": history}, tmp_path / "report.md").read_text()
    explorer = PhaseExplorer(history)
    assert explorer.to_figure().get_supxlabel().startswith(said)
    assert explorer._header["nExamples"] == 256
    pyplot.close("all")
