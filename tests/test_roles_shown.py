"""One rule of roles wherever heads are named: along a run, in widgets, reports and tables of text."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inductionkit.phase.heads import head_roles, heads_text, roles_along
from inductionkit.report import write_report
from inductionkit.scores.roles import ROLES
from inductionkit.testing import synthetic_history
from inductionkit.widgets import HeadScan, PhaseExplorer
from inductionkit.widgets._payload import unpack_arrays


def with_lifts() -> xr.Dataset:
    """At the end 1.1 copies by later layers; 1.0 matches best and lowers what it matches on the direct path alone."""
    history = synthetic_history()
    shape = history["prefix_matching"].shape
    for name, values in (("direct_lift", {(1, 0): -0.3}), ("total_lift", {(1, 1): 1.2})):
        lift = np.zeros(shape)
        for head, value in values.items():
            lift[(-1, *head)] = value
        history[name] = (("step", "layer", "head"), lift)
    return history


@pytest.mark.parametrize("make", [synthetic_history, with_lifts])
def test_roles_along_a_run_are_those_of_each_step(make):
    history = make()
    roles = roles_along(history)
    for index in range(history.sizes["step"]):
        table = head_roles(history.isel(step=index))
        assert roles[index].ravel().tolist() == table["role"].tolist()
    assert {"induction", ""} <= set(roles[-1].ravel())
    assert roles_along(history.drop_vars("copying")) is None


def test_an_explorer_carries_the_role_of_every_head_and_opens_on_an_induction_head():
    history = with_lifts()
    explorer = PhaseExplorer(history)
    arrays = unpack_arrays(explorer._header["arrays"], explorer._data)
    assert np.array_equal(np.array(ROLES)[arrays["role"]], roles_along(history))
    assert head_roles(history.isel(step=-1))["role"].loc[[(1, 0), (1, 1)]].tolist() == ["prefix-matching", "induction"]
    assert explorer.head == (1, 1)
    # Without the lifts both copy, and 1.0 matches best.
    assert PhaseExplorer(synthetic_history()).head == (1, 0)


def test_a_scan_marks_by_the_lifts_where_they_are_known():
    scan = HeadScan(with_lifts().isel(step=-1))
    assert scan.heads == ((1, 1),) and scan._header["paths"][5] == "later layers"
    assert (scan.x, scan.y) == ("prefix_matching", "total_lift")
    assert scan._header["thresholds"] == {"prefix_matching": 0.3, "direct_lift": 0.1, "total_lift": 0.1}
    assert HeadScan(with_lifts().isel(step=-1), min_lift=2).heads == ()


def test_reports_and_tables_of_text_name_roles_and_paths(tmp_path):
    history = with_lifts()
    rows = write_report({"run": history}, tmp_path / "report.md").read_text().splitlines()
    assert any(row.startswith("| 1.1 | induction | later layers |") for row in rows)
    assert any(row.startswith("| 1.0 | prefix-matching |  |") for row in rows)
    header, *_, last = heads_text(history).splitlines()[1:]
    assert header.split() == ["role", "path", "prefix_matching", "copying", "direct_lift", "total_lift"]
    assert last.split()[:5] == ["1", "1", "induction", "later", "layers"]
    assert heads_text(history.isel(step=[0])) == "No induction heads at the last checkpoint."
