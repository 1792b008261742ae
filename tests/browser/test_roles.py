"""Roles of heads, and where no preference lies, as HeadScan and PhaseExplorer show them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import expect

from inductionkit.phase import head_roles, induction_heads
from inductionkit.testing import synthetic_history
from inductionkit.widgets import HeadScan, PhaseExplorer

# prefix matching, copying, direct and total lift, previous token; heads 0.0 to 1.2.
FIGURES = {
    "0.0": (0.02, -0.86, 0.0, 0.0, 0.91), "0.1": (0.02, -0.9, 0.0, 0.0, 0.1), "0.2": (0.81, -0.4, 0.0, -0.22, 0.0),
    "1.0": (0.91, -0.9, 0.18, 2.11, 0.0), "1.1": (0.45, -0.08, 0.34, -0.02, 0.0),
    "1.2": (0.48, -1.0, -0.38, -0.65, 0.0),
}  # fmt: skip
ROLES = {
    "0.0": "previous-token", "0.1": "", "0.2": "prefix-matching", "1.0": "induction", "1.1": "copying",
    "1.2": "anti-copying",
}  # fmt: skip
NAMES = ("prefix_matching", "copying", "direct_lift", "total_lift", "previous_token")


def a_run() -> xr.Dataset:
    """Nothing before the last step; there the figures above."""
    history = synthetic_history(n_steps=4, n_layers=2, n_heads=3)
    for place, name in enumerate(NAMES):
        values = np.full((4, 2, 3), -0.9 if name == "copying" else 0.0)
        values[-1] = np.array([figures[place] for figures in FIGURES.values()]).reshape(2, 3)
        history[name] = (("step", "layer", "head"), values)
    return history.assign_attrs(prompts_n_distinct=25)


def test_the_run_has_the_roles_that_its_figures_were_chosen_for():
    table = head_roles(a_run().isel(step=-1))
    assert {f"{layer}.{head}": role for (layer, head), role in table["role"].items()} == ROLES


def rows_of(page) -> dict[str, str]:
    return dict(
        page.locator(".ik-table tbody tr").evaluate_all(
            "rows => rows.map(row => [row.dataset.head, row.children[2].textContent])"
        )
    )


def test_the_table_of_a_scan_names_roles_and_paths(opened):
    page = opened(HeadScan(a_run().isel(step=-1)))
    assert rows_of(page) == ROLES
    paths = page.locator(".ik-table tbody tr").evaluate_all(
        "rows => rows.map(row => [row.dataset.head, row.children[3].textContent])"
    )
    assert {head: path for head, path in paths if path} == {"1.0": "later layers", "1.1": "direct, undone"}
    expect(page.locator(".ik-root")).to_have_attribute("data-heads", "1.0 1.1")
    chosen = page.locator('[data-choice="up"]').evaluate("select => select.selectedOptions[0].textContent")
    assert chosen == "total lift"  # what copying comes to, by whichever path


@pytest.mark.parametrize(
    ("role", "heads"),
    [
        ("induction", "1.0 1.1"), ("copying", "1.1"), ("previous-token", "0.0"), ("anti-copying", "1.2"),
        ("prefix-matching", "0.2"), ("none", ""),
    ],
)  # fmt: skip
def test_heads_are_marked_by_role(opened, role, heads):
    page = opened(HeadScan(a_run().isel(step=-1)))
    page.locator(f'[data-mark="{role}"]').click()
    expect(page.locator(".ik-root")).to_have_attribute("data-heads", heads)


@pytest.mark.parametrize("search", ["induction", "copying", "previous", "anti-copying", "prefix"])
def test_a_search_by_role_finds_the_same_heads_in_both(opened, search):
    found = {
        "induction": {f"{layer}.{head}" for layer, head in induction_heads(a_run().isel(step=-1)).index},
        "copying": {"1.1"},
        "previous": {"0.0"},
        "anti-copying": {"1.2"},
        "prefix": {"0.2"},
    }[search]
    scan = opened(HeadScan(a_run().isel(step=-1)))
    scan.locator(".ik-search").fill(search)
    assert set(rows_of(scan)) == found
    explorer = opened(PhaseExplorer(a_run(), views=["trajectories"]))
    explorer.locator(".ik-search").fill(search)
    names = explorer.locator(".ik-head-row:visible .ik-pick span:first-child")
    assert set(names.all_inner_texts()) == found
    explorer.locator(".ik-slider").fill("1")
    expect(explorer.get_by_text("no such head")).to_be_visible()


def test_the_list_of_heads_names_the_roles_of_the_checkpoint(opened):
    page = opened(PhaseExplorer(a_run(), views=["trajectories"]))
    rows = page.locator(".ik-head-row:visible")
    spans = "all => all.map(row => [...row.querySelectorAll('.ik-pick span')].map(span => span.innerText))"
    assert {head: role for head, role, _ in rows.evaluate_all(spans)} == ROLES
    page.locator(".ik-slider").fill("0")
    expect(page.get_by_text("previous-token")).to_have_count(0)


def test_a_scan_shows_where_no_preference_lies(opened):
    page = opened(HeadScan(a_run().isel(step=-1)))
    legend = page.locator('[data-panel="maps"] .ik-legend')
    expect(legend).to_contain_text("no preference: copying −0.85")
    # On a scale from -1 to 1.
    notch = page.locator('[data-score="copying"] .ik-notch').get_attribute("style")
    assert float(notch.split(":")[1].rstrip("%; ")) == pytest.approx(100 * (4 / 26) / 2)
    expect(page.locator(".ik-map .ik-notch")).to_have_count(1)
    page.locator('[data-choice="up"]').select_option(label="copying")
    page.locator('[data-choice="across"]').select_option(label="prefix matching")
    line = page.locator('[data-panel="scatter"] .ik-neutral')
    expect(line).to_have_count(1)
    expect(page.locator(".ik-neutral-name")).to_have_text("no preference")
    places = {}
    for head in ("0.0", "1.1"):
        page.locator(f'.ik-table tr[data-head="{head}"] .ik-head-button').click()
        expect(page.locator(".ik-root")).to_have_attribute("data-head", head)
        places[head] = float(page.locator(".ik-dot-chosen").get_attribute("cy"))
    # Between the copying of 0.0 (-0.86) and of 1.1 (-0.08), on a straight line.
    share = (4 / 26 - 1 + 0.86) / (-0.08 + 0.86)
    assert float(line.get_attribute("y1")) == pytest.approx(
        places["0.0"] + share * (places["1.1"] - places["0.0"]), abs=0.1
    )


def test_an_explorer_shows_where_no_preference_lies(opened):
    page = opened(PhaseExplorer(a_run(), views=["grid", "scatter"]))
    page.locator('[data-panel="grid"] select').select_option("copying")
    expect(page.locator('[data-panel="grid"] .ik-bar')).to_contain_text("no preference −0.85")
    page.locator('[data-panel="grid"] select').select_option("prefix_matching")
    expect(page.locator('[data-panel="grid"] .ik-bar')).not_to_contain_text("no preference")
    page.locator('[data-panel="scatter"] select').nth(1).select_option("copying")
    expect(page.locator('[data-panel="scatter"] .ik-neutral-name')).to_have_text("no preference")
    without = a_run()
    del without.attrs["prompts_n_distinct"]
    page = opened(PhaseExplorer(without, views=["grid", "scatter"]))
    page.locator('[data-panel="grid"] select').select_option("copying")
    expect(page.locator('[data-panel="grid"] .ik-bar')).not_to_contain_text("no preference")
    expect(page.locator(".ik-neutral")).to_have_count(0)
