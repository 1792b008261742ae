"""Widgets live in JupyterLab: the browser moves the view, and Python and other cells follow; also without a kernel."""

from __future__ import annotations

import os
import signal

import pytest
from browser.hosts import (
    RUN_MS,
    cell,
    printed,
    rerun_until_printed,
    run_cell,
    shut_kernel_down,
    wait_for_kernel,
)
from browser.pages import go_to, settled_box
from playwright.sync_api import Locator, Page, expect

from inductionkit.testing import synthetic_history

STEPS = [str(step) for step in synthetic_history()["step"].values]
EXPLORER = """
from inductionkit.testing import synthetic_history
from inductionkit.widgets import *
explorer = PhaseExplorer(synthetic_history(), phase=(8e6, 2e7))
explorer.step = explorer._steps[-1]
explorer
"""


@pytest.fixture
def live(visit, lab, request):
    """A notebook of these cells, open with an idle kernel; it must end quiet, having asked none but the server."""
    visits = []

    def open_notebook(*cells: str) -> Page:
        visits.append(visit(lab.address(request.node.name, cells), height=1400))
        wait_for_kernel(visits[-1].page)
        return visits[-1].page

    yield open_notebook
    for visited in visits:
        visited.check_quiet(lab.host.complaints)
        assert visited.hosts() == {"127.0.0.1"}


def widget(page: Page, number: int) -> Locator:
    """What a cell shows, run now."""
    run_cell(page, number)
    root = cell(page, number).locator(".ik-root")
    expect(root).to_be_visible(timeout=RUN_MS)
    return root


def test_browser_and_python_move_together(live):
    page = live(
        EXPLORER,
        "print('python has', explorer.step, explorer.head, explorer.text)",
        "explorer.step = explorer._steps[4]; explorer.head = (0, 2); explorer.text = 1",
    )
    root = widget(page, 0)
    expect(root).to_have_attribute("data-step", STEPS[-1])
    canvas = root.locator(".ik-canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    go_to(page, 6)
    expect(root).to_have_attribute("data-step", STEPS[6])
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
    page.locator('[data-choice="head"]').select_option("1.1")
    rerun_until_printed(page, 1, f"python has {STEPS[6]} (1, 1) repeated words")
    run_cell(page, 2)
    for name, now in {"step": STEPS[4], "head": "0.2", "text": "1"}.items():
        expect(root).to_have_attribute(f"data-{name}", now)
    assert page.locator('[data-choice="text"] option:checked').inner_text() == "again"


def test_keys_belong_to_the_widget_that_has_the_focus(live):
    """And not to the notebook's command mode."""
    page = live(EXPLORER, "1", "2")
    root = widget(page, 0)
    go_to(page, 6)
    page.locator(".ik-slider").focus()
    page.keyboard.press("ArrowRight")
    expect(root).to_have_attribute("data-step", STEPS[7])
    for name in ("Pause", "Play"):
        page.keyboard.press("Space")
        expect(page.locator(".ik-play")).to_have_attribute("aria-label", name)
    for key in "bdd":
        page.keyboard.press(key)
    expect(page.locator(".jp-CodeCell")).to_have_count(3)


def test_python_is_not_told_of_what_plays_by_itself(live):
    page = live(EXPLORER.replace("explorer.step = explorer._steps[-1]\n", ""), "print('python has', explorer.step)")
    root = widget(page, 0)
    expect(root).to_have_attribute("data-step", STEPS[18], timeout=RUN_MS)
    rerun_until_printed(page, 1, f"python has {STEPS[16]}")
    expect(root).to_have_attribute("data-step", STEPS[16])
    root.locator(".ik-slider").fill("5")
    rerun_until_printed(page, 1, f"python has {STEPS[5]}")


def test_an_open_explorer_follows_a_history_that_grows(live):
    """Standing at its last step, it stays at the last."""
    page = live(
        EXPLORER,
        "explorer.history = explorer.history.isel(step=slice(0, 5)); explorer.step = explorer._steps[-1]",
        "explorer.head = (0, 2); explorer.history = synthetic_history()",
    )
    root, slider = widget(page, 0), page.locator(".ik-slider")
    run_cell(page, 1)
    expect(slider).to_have_attribute("max", "4")
    expect(root).to_have_attribute("data-step", STEPS[4])
    run_cell(page, 2)
    expect(slider).to_have_attribute("max", str(len(STEPS) - 1))
    expect(root).to_have_attribute("data-step", STEPS[-1])
    expect(root).to_have_attribute("data-head", "0.2")
    expect(page.locator(".ik-root")).to_have_count(1)


def test_it_follows_jupyters_theme_and_window(live):
    page = live(EXPLORER)
    root = widget(page, 0)
    expect(root).to_have_attribute("data-theme", "dark")
    page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    expect(root).to_have_attribute("data-theme", "light")
    page.set_viewport_size({"width": 600, "height": 900})
    columns = "grid => getComputedStyle(grid).gridTemplateColumns.split(' ').length"
    page.wait_for_function(f"({columns})(document.querySelector('.ik-grid')) === 1")
    box = settled_box(root)
    assert box["x"] + box["width"] <= 600
    assert root.evaluate("root => root.scrollWidth <= root.clientWidth"), "nothing overflows the widget"
    chart, panel = (settled_box(root.locator(f'[data-panel="loss"]{part}')) for part in (" svg >> nth=0", ""))
    assert panel["x"] <= chart["x"] and chart["x"] + chart["width"] <= panel["x"] + panel["width"] + 1
    go_to(page, 3)
    expect(root).to_have_attribute("data-step", STEPS[3])


def test_views_of_two_cells_are_linked(live):
    """The second asks the kernel for patterns that did not come along."""
    page = live(
        EXPLORER,
        "from inductionkit.widgets import _pattern_series\n"
        "_pattern_series.BUDGET_BYTES = 10_000  # less than one series\n"
        "pattern, losses = AttentionPattern(explorer.history), LossView(explorer.history)\n"
        "explorer.link(pattern); pattern.link(losses)\n"
        "pattern",
        "losses",
        "print(pattern.step, pattern.head, explorer.heads, pattern.heads, losses.step)",
    )
    root, pattern, losses = (widget(page, number) for number in range(3))
    expect(pattern).to_have_attribute("data-step", STEPS[-1])
    root.locator(".ik-slider").fill("5")
    for each in (root, pattern, losses):
        expect(each).to_have_attribute("data-step", STEPS[5])
    expect(pattern.locator(".ik-overlay")).to_have_attribute("data-shown", "5/4/0", timeout=RUN_MS)
    root.locator('[data-choice="head"]').select_option("1.3")
    expect(pattern.locator(".ik-overlay")).to_have_attribute("data-shown", "5/7/0", timeout=RUN_MS)
    root.get_by_role("button", name="Highlight head 0.1").click()
    rerun_until_printed(page, 3, f"{STEPS[5]} (1, 3) ((0, 1),) ((0, 1),) {STEPS[5]}")
    losses.locator(".ik-slider").fill("8")
    for each in (root, pattern, losses):
        expect(each).to_have_attribute("data-step", STEPS[8])


def test_a_comparison(live):
    page = live(
        EXPLORER.replace("\nexplorer\n", "\nboth = PhaseComparison(explorer, synthetic_history(n_steps=9))\nboth\n"),
        "print(both.left.step, both.right.step, both.right.head)",
        "both.right.step = both.right._steps[4]",
    )
    other = [str(step) for step in synthetic_history(n_steps=9)["step"].values]
    root = widget(page, 0)
    expect(root).to_have_attribute("data-step2", other[-1])
    root.locator(".ik-slider").fill("0")
    expect(root).to_have_attribute("data-step", STEPS[0])
    expect(root).to_have_attribute("data-step2", other[0])
    root.locator('[data-choice="head"]').nth(1).select_option(label="0.3")
    rerun_until_printed(page, 1, f"{STEPS[0]} {other[0]} (0, 3)")
    run_cell(page, 2)
    expect(root).to_have_attribute("data-step2", other[4])
    tokens = synthetic_history()["tokens_seen"].values
    clock = float(synthetic_history(n_steps=9)["tokens_seen"][4])
    expect(root).to_have_attribute("data-step", STEPS[int(abs(tokens - clock).argmin())])


def test_stepping_goes_on_when_the_kernel_dies(live):
    page = live(EXPLORER, "import os; print(os.getpid())")
    root = widget(page, 0)
    run_cell(page, 1)
    os.kill(int(printed(page, 1)), signal.SIGKILL)
    page.get_by_role("dialog").get_by_role("button", name="Ok").click(timeout=RUN_MS)
    go_to(page, 5)
    expect(root).to_have_attribute("data-step", STEPS[5])
    page.locator('[data-choice="head"]').select_option(label="0.3")
    expect(root.locator(".ik-overlay")).to_have_attribute("data-shown", "5/3/0")
    shut_kernel_down(page)
    go_to(page, 7)
    expect(root).to_have_attribute("data-step", STEPS[7])
    page.locator(".ik-slider").press("End")
    expect(root).to_have_attribute("data-step", STEPS[-1])


def test_a_pattern_that_did_not_come_along_is_missed_when_the_kernel_is_gone(live):
    page = live(
        "from inductionkit.widgets import _pattern_series\n"
        f"_pattern_series.BUDGET_BYTES = 10_000  # less than one series\n{EXPLORER}"
    )
    root = widget(page, 0)
    shut_kernel_down(page)
    root.locator('[data-choice="head"]').select_option("1.2")
    expect(root.locator(".ik-overlay")).to_have_attribute("data-shown", "absent", timeout=RUN_MS)
    root.locator(".ik-slider").fill("5")
    expect(root).to_have_attribute("data-step", STEPS[5])


def test_a_hostile_history_does_nothing(live):
    page = live(
        "from browser.pages import hostile_history\n"
        "from inductionkit.widgets import *\n"
        "PhaseExplorer(hostile_history(), control=hostile_history())"
    )
    root = widget(page, 0)
    tokens = root.locator('[data-panel="text"] .ik-token')
    expect(tokens).to_have_count(6)
    for position in range(6):
        tokens.nth(position).hover()
    root.locator('[data-choice="text"]').select_option(index=1)
    root.locator('[data-panel="grid"] select').select_option("logit_lift")
    expect(root.locator('[data-panel="grid"] .ik-value')).to_contain_text("⟨U+202E⟩<img src=x")
    go_to(page, 3)
    assert root.locator("img, script, b").count() == 0


def test_circuitsvis_is_loaded_once_for_two_views(live):
    page = live(
        "import torch\n"
        "from inductionkit.testing import perfect_induction_model\n"
        "from inductionkit.widgets.attention_view import AttentionView\n"
        "view = AttentionView(perfect_induction_model(), torch.arange(20))\n"
        "view",
        "view",
        "print('python has', view.head)",
        "view.head = (0, 1)",
    )
    page.evaluate(
        """() => {
            const make = URL.createObjectURL;
            window.bundles = 0;
            URL.createObjectURL = (blob) => { if (blob.size > 1e6) window.bundles++; return make(blob); };
        }"""
    )
    views = [widget(page, number) for number in range(2)]
    for view in views:
        expect(view).to_have_attribute("data-shown", "1.1", timeout=RUN_MS)
    assert page.evaluate("window.bundles") == 1
    views[0].locator('[data-choice="head"]').select_option(label="1.0")
    expect(views[1]).to_have_attribute("data-shown", "1.0")
    rerun_until_printed(page, 2, "python has (1, 0)")
    run_cell(page, 3)
    for view in views:
        expect(view).to_have_attribute("data-shown", "0.1", timeout=RUN_MS)
    expect(page.locator(".ik-circuitsvis canvas")).to_have_count(2)
