"""All widgets in one notebook of JupyterLab: each looks as it does alone, and lives on when the theme changes."""

from __future__ import annotations

import operator
import time

import pytest
from browser.hosts import RUN_MS, run_cell, wait_for_kernel
from playwright.sync_api import Locator, Page, expect

SETUP = """
import torch
from IPython.display import display
from inductionkit.ablation import scan_ablations
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.superposition import example_superposition
from inductionkit.testing import perfect_induction_model, synthetic_history
from inductionkit.widgets import *
from drawn_circuits import language_model_circuit

history, model = synthetic_history(), perfect_induction_model()
tokens = repeated_random_tokens(40, 0, PromptSettings(2))
widgets = [
    PhaseExplorer(history, phase=(8e6, 2e7)),
    PhaseComparison(history, synthetic_history(n_steps=9, window=None)),
    HeadScan(history.isel(step=-1)),
    AttentionView(model, torch.arange(12)),
    AblationView(scan_ablations(model, tokens, progress=False)),
    SuperpositionView(example_superposition("geometry-2d")),
    PhaseDiagramView(example_superposition("phase-diagram-3-2")),
    DoubleDescentView(example_superposition("double-descent")),
    CircuitView(language_model_circuit()),
]
"""
NAMES = ["explorer", "comparison", "scan", "attention", "ablation", "toy", "diagram", "descent", "circuit"]
# What all elements of each widget look like beside the styles of the others, and with its own styles alone.
LOOKS = """() => {
    const names = ["display", "position", "width", "height", "padding", "margin", "border", "color", "background",
        "font", "fill", "stroke", "strokeWidth", "strokeDasharray", "opacity", "flex", "gap", "gridTemplateColumns",
        "zIndex", "pointerEvents", "cursor", "overflow", "whiteSpace", "textAlign", "maxWidth", "minWidth",
        "touchAction"];
    const looks = (root) => [root, ...root.querySelectorAll("*")].map((element) => {
        const style = getComputedStyle(element);
        const look = names.map((name) => `${name} ${style[name]}`).join("; ");
        return `${element.tagName} ${element.getAttribute("class")}: ${look}`;
    });
    const roots = [...document.querySelectorAll(".ik-root")];
    const sheets = roots.map((root) => root.parentElement.querySelector("style").sheet);
    return roots.flatMap((root, own) => {
        const together = looks(root);
        sheets.forEach((sheet, other) => (sheet.disabled = other !== own));
        const alone = looks(root);
        sheets.forEach((sheet) => (sheet.disabled = false));
        return alone.flatMap((look, index) => (look === together[index] ? [] : [[look, together[index]]])).slice(0, 3);
    });
}"""


def all_widgets(visit, lab, name: str, order: str) -> Page:
    visited = visit(lab.address(name, [SETUP, f"display(*{order})"]))
    wait_for_kernel(visited.page)
    run_cell(visited.page, 0)
    run_cell(visited.page, 1)
    expect(visited.page.locator(".ik-root")).to_have_count(len(NAMES), timeout=RUN_MS)
    for root in visited.page.locator(".ik-root").all():
        expect(root.locator(":is(.ik-panel, .ik-circuitsvis)").first).to_be_visible()
    return visited.page


@pytest.mark.parametrize("order", ["widgets", "widgets[::-1]"], ids=["first to last", "last to first"])
def test_no_widget_changes_the_look_of_another(visit, lab, order):
    page = all_widgets(visit, lab, f"looks-{'reversed' if '-1' in order else 'ordered'}", order)
    assert page.evaluate(LOOKS) == []


# What JupyterLab does when it swaps themes: the page is hidden, and its sheets are gone, until the new ones are loaded.
CHANGE_THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })"


def test_all_widgets_move_after_a_change_of_theme(visit, lab):
    page = all_widgets(visit, lab, "themes", "widgets")
    roots = page.locator(".ik-root")
    for theme, kind in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
        before = [drawn(root) for root in roots.all()]
        page.evaluate(CHANGE_THEME, theme)
        for root in roots.all():
            expect(root).to_have_attribute("data-theme", kind)
        page.wait_for_function("getComputedStyle(document.body).visibility === 'visible'")
        for name, root, was in zip(NAMES, roots.all(), before):
            if was:
                expect_drawn_anew(root, was, f"{name}: nothing is drawn in the theme's colours")
        explorer, toy = roots.nth(0), roots.nth(5)
        for root in (explorer, toy):
            # The hero strip begins shortly before the window, later than these steps.
            marker = root.locator('.ik-panel:not([data-panel="hero-loss"]) .ik-marker').first
            was = marker.get_attribute("data-x")
            root.locator(".ik-slider").fill("4" if kind == "light" else "7")
            expect(marker).not_to_have_attribute("data-x", was)


def drawn(root: Locator) -> list[str]:
    """The pixels of the canvases of a widget that are not blank; CircuitsVis draws on white whatever the theme is."""
    return root.locator("canvas:not(.ik-circuitsvis *)").evaluate_all(
        """all => all.filter(canvas => canvas.width && canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)).map(canvas => canvas.toDataURL())"""
    )


def expect_drawn_anew(root: Locator, was: list[str], message: str) -> None:
    until = time.monotonic() + 5
    while (seen := drawn(root)) == was or len(seen) != len(was) or any(map(operator.eq, seen, was)):
        assert time.monotonic() < until, message
        time.sleep(0.05)


def test_keys_stay_in_the_widget_after_a_press_on_a_curve(visit, lab):
    cells = ["from inductionkit.testing import synthetic_history", "from inductionkit.widgets import *"]
    page = visit(lab.address("keys", [*cells, "PhaseExplorer(synthetic_history(), phase=(8e6, 2e7))", "1"])).page
    wait_for_kernel(page)
    for number in range(3):
        run_cell(page, number)
    root = page.locator(".ik-root")
    expect(root.locator(".ik-panel").first).to_be_visible(timeout=RUN_MS)
    root.locator('[data-panel="loss"] .ik-chart').click(position={"x": 200, "y": 60})
    active = "window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    was = page.evaluate(active)
    for key in ("ArrowLeft", "ArrowRight", "ArrowLeft"):
        step = root.get_attribute("data-step")
        page.keyboard.press(key)
        expect(root).not_to_have_attribute("data-step", step)
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        assert page.evaluate(active) == was
