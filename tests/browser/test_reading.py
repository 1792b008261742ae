"""What a reader sees and presses on a saved page: frames, grid lines, names, curves, keys before and after a click."""

from __future__ import annotations

from itertools import pairwise

import pytest
from browser.pages import WINDOW, root
from playwright.sync_api import Locator, Page, expect

from inductionkit.superposition import example_superposition
from inductionkit.testing import synthetic_history
from inductionkit.widgets import AttentionPattern, HeadScan, PhaseDiagramView, PhaseExplorer, SuperpositionView

WITH_MAPS = {
    "explorer": lambda: PhaseExplorer(synthetic_history(), phase=WINDOW),
    "scan": lambda: HeadScan(synthetic_history().isel(step=-1)),
    "toy": lambda: SuperpositionView(example_superposition("geometry-3d")),
    "diagram": lambda: PhaseDiagramView(example_superposition("phase-diagram-3-2")),
}
# The first two marks of a frame that overlap, as boxes on the screen.
OVERLAPS = """names => {
    const shown = names.filter(name => name.checkVisibility() && name.textContent);
    const boxes = shown.map(name => [name.textContent, name.getBoundingClientRect()]);
    const along = (low, high, otherLow, otherHigh) => low < otherHigh - 1 && otherLow < high - 1;
    const over = (a, b) => along(a.left, a.right, b.left, b.right) && along(a.top, a.bottom, b.top, b.bottom);
    return boxes.flatMap(([one, a], at) =>
        boxes.slice(at + 1).filter(([, b]) => over(a, b)).map(([other]) => [one, other]));
}"""


@pytest.mark.parametrize("name", WITH_MAPS)
def test_a_press_of_the_mouse_draws_no_frame_and_a_key_does(opened, name):
    page = opened(WITH_MAPS[name]())
    for drawing in page.locator(".ik-root svg[tabindex]").all():
        drawing.click()
        expect(drawing).to_be_focused()
        assert outline(drawing) == "none"
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        expect(drawing).to_be_focused()
        assert outline(drawing) == "solid"


def outline(drawing: Locator) -> str:
    return drawing.evaluate("drawing => getComputedStyle(drawing).outlineStyle")


@pytest.mark.parametrize("name", ["explorer", "scan"])
def test_grid_lines_lie_under_the_dots(opened, name):
    """In the order of painting: the lines, the canvas or shapes of the dots."""
    page = opened(WITH_MAPS[name]())
    below = """panel => [...panel.querySelectorAll(".ik-tick line")].every(line =>
        [...panel.querySelectorAll(".ik-layer, .ik-plot")].every(marks =>
            line.compareDocumentPosition(marks) & Node.DOCUMENT_POSITION_FOLLOWING && !marks.contains(line)))"""
    assert page.locator('[data-panel="scatter"]').evaluate(below)


@pytest.mark.parametrize("n_tokens", [12, 24, 60])
def test_names_of_tokens_do_not_overlap(opened, n_tokens):
    page = opened(AttentionPattern(synthetic_history(n_text_tokens=n_tokens)))
    overlay = page.locator(".ik-overlay")
    overlay.focus()
    for key in ["ArrowUp"] * 3 + ["ArrowLeft"] * 4 + ["ArrowUp"] * 2:
        page.keyboard.press(key)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert overlay.locator("text").evaluate_all(OVERLAPS) == []


@pytest.mark.parametrize("width", [390, 1200])
def test_names_of_heads_do_not_overlap(opened, width):
    history = synthetic_history()
    page = opened(PhaseExplorer(history, phase=WINDOW), width=width)
    for pin in page.locator(".ik-pin:visible").all():
        if pin.get_attribute("aria-pressed") != "true":
            pin.click()
    for panel in ("scatter", "trajectories"):
        assert page.locator(f'[data-panel="{panel}"] .ik-head-name').evaluate_all(OVERLAPS) == []
    assert page.locator('[data-panel="scatter"] .ik-head-name.ik-strong').text_content() == root(page, "head")


def test_the_training_loss_lies_within_the_axis(opened, history):
    """Also where it is lower than all of the held-out loss."""
    low = history.copy()
    low["training_loss"] = low["training_loss"] - 2
    page = opened(PhaseExplorer(low, phase=WINDOW))
    line, plot = (page.locator(f'[data-panel="loss"] .ik-{name}') for name in ("line-log", "plot"))
    bottom = float(plot.get_attribute("viewBox").split()[3]) - 1
    places = [point.split(",") for point in line.get_attribute("d").replace("L", "M").split("M")[1:]]
    assert max(float(y) for _, y in places) <= bottom


def test_the_headline_of_a_phase_diagram_is_of_the_cell_pointed_at(opened):
    page = opened(PhaseDiagramView(example_superposition("phase-diagram-3-2")))
    headline, losses = page.locator(".ik-said"), page.locator('[data-panel="solutions"] .ik-value')
    chosen = headline.inner_text()
    page.locator('[data-map="best_state"]').hover(position={"x": 60, "y": 20})
    expect(page.locator(".ik-root")).not_to_have_attribute("data-hover", "")
    assert headline.inner_text() != chosen
    assert losses.inner_text() in headline.inner_text()
    page.mouse.move(2, 2)
    expect(headline).to_have_text(chosen)


def test_a_fresh_page_takes_its_keys(explorer, history):
    steps = [str(step) for step in history["step"].values]
    expect(explorer.locator(".ik-root")).to_have_attribute("data-step", steps[-1])
    for key, step in (("ArrowLeft", steps[-2]), ("ArrowLeft", steps[-3]), ("ArrowRight", steps[-2])):
        explorer.keyboard.press(key)
        expect(explorer.locator(".ik-root")).to_have_attribute("data-step", step)
    explorer.keyboard.press("Space")
    expect(explorer.locator(".ik-root")).to_have_attribute("data-step", steps[-1])
    expect(explorer.get_by_role("button", name="Play")).to_be_visible()


@pytest.mark.parametrize("name", ["explorer", "toy"])
def test_keys_step_after_a_press_on_a_curve(opened, name):
    page = opened(WITH_MAPS[name]())
    page.locator('[data-panel="loss"] .ik-chart').click(position={"x": 200, "y": 60})
    seen = [root(page, "step")]
    for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        expect(page.locator(".ik-root")).not_to_have_attribute("data-step", seen[-1])
        seen.append(root(page, "step"))
    assert all(int(left) < int(was) for was, left in pairwise(map(int, seen[:3]))) and seen[3] == seen[1]


def test_keys_stay_with_what_takes_them(explorer: Page):
    """Arrows in a search field move its caret, in a choice the choice."""
    step = root(explorer, "step")
    explorer.locator(".ik-search").fill("1.")
    explorer.keyboard.press("ArrowLeft")
    explorer.locator('[data-choice="score"]').first.focus()
    explorer.keyboard.press("ArrowRight")
    explorer.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert root(explorer, "step") == step
