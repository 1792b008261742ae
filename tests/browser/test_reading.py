"""What a reader sees and presses on a saved page: frames, grid lines, names, curves, keys before and after a click."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from browser.pages import WINDOW, at_end, root
from playwright.sync_api import Locator, Page, expect

from inductionkit.ablation import scan_ablations
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.superposition import example_superposition
from inductionkit.testing import perfect_induction_model, synthetic_history
from inductionkit.widgets import (
    AblationView,
    AttentionPattern,
    HeadScan,
    PhaseDiagramView,
    PhaseExplorer,
    SuperpositionView,
)

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


N_LAYERS, N_HEADS = 24, 3


def deep_history() -> xr.Dataset:
    """24 layers of 3 heads: in the end 1.2 and 23.0 match prefixes, 23.0 copies; 0.1 attends to the previous token."""
    history = synthetic_history(n_layers=N_LAYERS, n_heads=N_HEADS)
    low = np.full((N_LAYERS, N_HEADS), 0.01)
    prefix, copying, previous = low.copy(), low - 0.9, low.copy()
    prefix[1, 2], prefix[23, 0], copying[23, 0], previous[0, 1] = 0.45, 0.9, 0.2, 0.8
    for name, values in (("prefix_matching", prefix), ("copying", copying), ("previous_token", previous)):
        history[name][:] = low
        history[name][-1] = values
    lifts = [name for name in ("direct_lift", "total_lift") if name in history]
    return history.drop_vars(lifts)


@pytest.mark.parametrize(
    ("search", "heads"),
    [
        ("23", {"23.0", "23.1", "23.2"}),
        ("1", {"1.0", "1.1", "1.2"}),
        ("1.2", {"1.2"}),
        ("head 2, 1.", {f"{layer}.2" for layer in range(N_LAYERS)} | {"1.0", "1.1"}),
        ("induction", {"23.0"}),
        ("previous", {"0.1"}),
        ("previous-token", {"0.1"}),
        (">0.5", {"23.0"}),
        ("previous_token > 0.5; prefix matching >= .4", {"0.1", "1.2", "23.0"}),
        ("99", set()),
    ],
)
def test_the_same_search_finds_the_same_heads_in_explorer_and_scan(opened, search, heads):
    history = deep_history()
    explorer = opened(PhaseExplorer(history, views=["trajectories"]))
    explorer.locator(".ik-search").fill(search)
    rows = explorer.locator(".ik-head-row:visible")
    expect(rows).to_have_count(min(len(heads), 24))
    names = set(rows.locator(".ik-pick span:first-child").all_inner_texts())
    assert names == heads if len(heads) <= 24 else names <= heads
    scan = opened(HeadScan(history.isel(step=-1)))
    scan.locator(".ik-search").fill(search)
    assert set(scan.locator(".ik-table tbody tr").evaluate_all("rows => rows.map(row => row.dataset.head)")) == heads


def test_a_search_by_score_is_of_the_checkpoint(opened):
    page = opened(PhaseExplorer(deep_history(), views=["trajectories"]))
    page.locator(".ik-search").fill("induction")
    expect(page.locator(".ik-head-row:visible")).to_have_count(1)
    page.locator(".ik-slider").fill("0")
    expect(page.get_by_text("no such head")).to_be_visible()


def rgb(colour: str) -> np.ndarray:
    return np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chosen_has_one_colour_that_no_layer_has(opened, scheme):
    makers = [WITH_MAPS["explorer"], WITH_MAPS["scan"], WITH_MAPS["diagram"]]
    pages = [opened(make(), color_scheme=scheme) for make in makers]
    selectors = [".ik-cell-chosen, .ik-dot-chosen, .ik-cell", ".ik-cell-chosen, .ik-dot-chosen", ".ik-chosen-cell + *"]
    strokes = [
        stroke
        for page, selector in zip(pages, selectors)
        for stroke in page.locator(selector).evaluate_all("all => all.map(one => getComputedStyle(one).stroke)")
    ]
    assert len(set(strokes)) == 1 and len(strokes) > 5
    layers = (
        pages[0]
        .locator(".ik-root")
        .evaluate("root => [0, 1].map(n => getComputedStyle(root).getPropertyValue(`--ik-layer-${n}`))")
    )
    chosen = rgb(strokes[0])
    for layer in layers:
        own = np.array([int(layer[at : at + 2], 16) for at in (1, 3, 5)])
        assert np.abs(own - chosen).sum() > 100, "a layer is not taken for the choice"
        blue, orange = np.array([54, 125, 184]), np.array([214, 116, 28])
        assert min(np.abs(own - blue).sum(), np.abs(own - orange).sum()) > 100, "nor for better or worse"


def test_worse_is_orange_and_better_is_blue_in_every_widget(opened):
    """Without a head that is needed the loss is higher; a text that was learnt has a lower one."""
    model, tokens = perfect_induction_model(), repeated_random_tokens(40, 0, PromptSettings(2))
    page = opened(AblationView(scan_ablations(model, tokens, progress=False)))
    worse = page.locator(".ik-stage .ik-layer").first.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(4, 4, 1, 1).data]"
    )
    assert page.locator('[data-panel="maps"] .ik-map .ik-value').inner_text() > "0.5"
    assert worse[0] > worse[2] + 60, "more red than blue"
    history = synthetic_history()
    history["text_loss"][:] = np.linspace(9, 1, history.sizes["step"])[:, None, None]
    better = opened(at_end(PhaseExplorer(history, phase=WINDOW))).locator('[data-panel="text"] .ik-token').nth(5)
    colour = rgb(better.evaluate("token => token.style.background"))
    assert colour[2] > colour[0] + 60
