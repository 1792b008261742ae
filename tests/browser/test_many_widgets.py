"""All widgets in one notebook of JupyterLab: each looks as it does alone, and lives on when the theme changes."""

from __future__ import annotations

import re

import pytest
from browser.hosts import RUN_MS, run_cell, wait_for_kernel
from playwright.sync_api import Page, expect

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
N_WIDGETS = 9
# What all elements of each widget look like beside the styles of the others, and with its own styles alone.
LOOKS = """() => {
    const names = ["display", "position", "width", "height", "padding", "margin", "border", "color", "background",
        "font", "fill", "stroke", "strokeWidth", "strokeDasharray", "opacity", "flex", "gap", "gridTemplateColumns",
        "zIndex", "pointerEvents", "cursor", "overflow", "whiteSpace", "textAlign", "maxWidth", "minWidth", "touchAction"];
    const looks = (root) => [root, ...root.querySelectorAll("*")].map((element) => {
        const style = getComputedStyle(element);
        return `${element.tagName} ${element.getAttribute("class")}: ` + names.map((name) => `${name} ${style[name]}`).join("; ");
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
    expect(visited.page.locator(".ik-root")).to_have_count(N_WIDGETS, timeout=RUN_MS)
    for root in visited.page.locator(".ik-root").all():
        expect(root.locator(":is(.ik-panel, .ik-circuitsvis)").first).to_be_visible()
    return visited.page


@pytest.mark.parametrize("order", ["widgets", "widgets[::-1]"], ids=["first to last", "last to first"])
def test_no_widget_changes_the_look_of_another(visit, lab, order):
    page = all_widgets(visit, lab, f"looks-{'reversed' if '-1' in order else 'ordered'}", order)
    assert page.evaluate(LOOKS) == []
