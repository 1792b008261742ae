"""The hero strip of PhaseExplorer: where it opens, that it plays once, and that its three parts move in step."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from browser.pages import WINDOW, check_accessibility, hostile_history, root
from playwright.sync_api import Page, expect

from inductionkit import example_history, find_phase_change
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseComparison, PhaseExplorer

HISTORY = synthetic_history()
TOKENS = HISTORY["tokens_seen"].values
STEPS = HISTORY["step"].values
HALF = 12
MIDDLE = int(np.abs(np.log(TOKENS) - np.log(WINDOW).mean()).argmin())
AFTER = int((TOKENS < WINDOW[1]).sum())
BEFORE = int((TOKENS <= WINDOW[0]).sum()) - 1


def still(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")


def watched(page: Page) -> None:
    """Have the page note every step that it shows."""
    page.add_init_script(
        "window.shown = []; new MutationObserver(() => { const root = document.querySelector('.ik-root');"
        "if (root?.dataset.step && root.dataset.step !== window.shown.at(-1)) window.shown.push(root.dataset.step); })"
        ".observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-step'] });"
    )


def told(page: Page) -> tuple[float, float, float]:
    """What the three parts show: the marked loss, attention on the arc and the probability beside the bar."""
    panel = page.locator('[data-panel="hero-text"]')
    loss = page.locator('[data-panel="hero-loss"] .ik-value').inner_text()
    return float(loss), *(float(panel.get_attribute(f"data-{name}")) for name in ("attention", "probability"))


def expected(index: int, query: int, history=HISTORY, head=(1, 0), text=0) -> tuple[float, float, float]:
    """The same from the history; in the synthetic text the second half repeats the first."""
    key = query - HALF + 1
    attention = history["pattern"].values[index, *head, text, query, key] / 255
    probability = np.exp(-float(history["text_loss"].values[index, text, query + 1]))
    return round(float(history["loss"].values[index]), 3), attention, probability


def step_to(page: Page, index: int) -> None:
    page.locator(".ik-slider").fill(str(index))
    expect(page.locator(".ik-root")).to_have_attribute("data-step", str(int(STEPS[index])))


@pytest.fixture
def hero(opened) -> Page:
    return opened(PhaseExplorer(HISTORY, phase=WINDOW), prepare=still)


def test_opens_in_the_middle_of_the_window_and_stays_where_motion_is_unwanted(hero):
    hero.wait_for_timeout(1000)
    assert root(hero, "step") == str(int(STEPS[MIDDLE]))
    assert WINDOW[0] < TOKENS[MIDDLE] < WINDOW[1]
    assert int(root(hero, "query")) >= HALF
    np.testing.assert_allclose(told(hero), expected(MIDDLE, int(root(hero, "query"))), atol=1e-3)


def test_plays_once_across_the_window_and_goes_back_to_its_middle(opened):
    page = opened(PhaseExplorer(HISTORY, phase=WINDOW), prepare=watched)
    expect(page.locator(".ik-root")).to_have_attribute("data-step", str(int(STEPS[AFTER])), timeout=8000)
    page.wait_for_timeout(5000)
    expected_steps = [MIDDLE, *range(BEFORE, AFTER + 1), MIDDLE]
    assert page.evaluate("window.shown") == [str(int(STEPS[at])) for at in expected_steps]
    assert page.locator(".ik-play").get_attribute("aria-label") == "Play"


@pytest.mark.parametrize("touch", ["pointer", "key", "slider"])
def test_a_touch_ends_the_play(opened, touch):
    acts: dict[str, Callable[[Page], None]] = {
        "pointer": lambda page: page.locator(".ik-hero-name").click(),
        "key": lambda page: page.locator(".ik-slider").press("Shift"),
        "slider": lambda page: page.locator(".ik-slider").fill("3"),
    }
    page = opened(PhaseExplorer(HISTORY, phase=WINDOW))
    acts[touch](page)
    at = root(page, "step")
    page.wait_for_timeout(4000)
    assert root(page, "step") == (str(int(STEPS[3])) if touch == "slider" else at)


def test_what_was_moved_before_does_not_play(opened):
    explorer = PhaseExplorer(HISTORY, phase=WINDOW)
    explorer.step = int(STEPS[5])
    page = opened(explorer)
    page.wait_for_timeout(1000)
    assert root(page, "step") == str(int(STEPS[5]))


def test_slider_and_arrow_keys_move_all_three(hero):
    query = int(root(hero, "query"))
    for index in (0, AFTER, 23):
        step_to(hero, index)
        np.testing.assert_allclose(told(hero), expected(index, query), atol=1e-3)
    hero.locator(".ik-slider").press("ArrowLeft")
    expect(hero.locator(".ik-root")).to_have_attribute("data-step", str(int(STEPS[22])))
    np.testing.assert_allclose(told(hero), expected(22, query), atol=1e-3)
    shown = f"{round(100 * expected(22, query)[2])} %"
    assert hero.locator(".ik-hero-likely").inner_text() == shown


def test_the_stripe_lights_up(hero):
    """Orange where induction points, at each query of the second half; bright only once the head has formed."""

    def stripe() -> np.ndarray:
        return np.array(
            hero.locator(".ik-hero-canvas").evaluate(
                """(canvas, [n, half]) => Array.from({length: n - half - 1}, (_, i) => {
                    const at = (place) => Math.floor(((place + 0.5) / n) * canvas.width);
                    const data = canvas.getContext("2d").getImageData(at(i + 2), at(i + half + 1), 1, 1).data;
                    return data[0] - data[2];
                })""",
                [24, HALF],
            )
        )

    step_to(hero, 0)
    before = stripe()
    step_to(hero, 23)
    assert (stripe() > before + 80).all()


def test_a_click_on_a_token_or_a_row_reads_it(hero):
    hero.locator('.ik-hero-token[data-position="15"]').click()
    expect(hero.locator('[data-panel="hero-text"]')).to_have_attribute("data-target", "4")
    assert hero.locator(".ik-hero-token.is-target").inner_text().strip() == "w4"
    assert hero.locator(".ik-hero-token.is-next").inner_text().strip() == "w4"
    box = hero.locator(".ik-hero-canvas").bounding_box()
    hero.mouse.click(box["x"] + 3, box["y"] + box["height"] * 20.5 / 24)
    expect(hero.locator(".ik-root")).to_have_attribute("data-query", "20")


def test_a_token_that_did_not_come_before_has_no_arc(hero):
    step_to(hero, 23)
    hero.locator('.ik-hero-token[data-position="8"]').click()
    expect(hero.locator(".ik-hero-says")).to_contain_text("has not come before in this text")
    assert hero.locator(".ik-hero-arc").is_hidden()


def test_the_verdict_is_heard_first_and_nothing_is_out_of_reach(hero):
    first = hero.locator(".ik-root").evaluate(
        "root => document.createTreeWalker(root, NodeFilter.SHOW_TEXT).nextNode().textContent"
    )
    assert (
        first
        == "The window between 8.0M and 20M tokens was marked by hand; no phase change was looked for in this model."
    )
    assert hero.locator(".ik-root h2").first.inner_text() == first
    check_accessibility(hero)


def test_every_panel_has_a_caption_and_a_definition(opened):
    history = example_history()
    page = opened(PhaseExplorer(history, phase=find_phase_change(history, n_resamples=8)), prepare=still)
    for panel in page.locator(".ik-panel").all():
        name = panel.get_attribute("data-panel")
        assert len(panel.locator(".ik-caption > span").inner_text()) > 20, name
        definition = panel.locator(".ik-help p")
        assert definition.is_hidden(), name
        panel.locator(".ik-help summary").click()
        assert definition.is_visible() and len(definition.inner_text()) > 40, name


def drop(*names: str) -> Callable:
    return lambda history: history.drop_vars(list(names))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (drop("tokens_seen"), ["hero-loss", "hero-pattern", "hero-text"]),
        (drop("token"), ["hero-loss", "hero-pattern", "hero-text"]),
        (drop("pattern"), ["hero-loss", "hero-text"]),
        (drop("text_loss"), ["hero-loss", "hero-pattern", "hero-text"]),
        (drop("pattern", "text_loss"), ["hero-loss"]),
        (drop("loss", "training_loss"), ["hero-pattern", "hero-text"]),
        (lambda history: history.isel(step=[-1]), ["hero-loss", "hero-pattern", "hero-text"]),
        (lambda _: hostile_history(), ["hero-loss", "hero-pattern", "hero-text"]),
    ],
    ids=["no tokens seen", "no tokens", "no patterns", "no text losses", "neither", "no loss", "one step", "hostile"],
)
@pytest.mark.parametrize("width", [390, 1300])
def test_any_history_has_a_hero(opened, change, shown, width):
    page = opened(PhaseExplorer(change(HISTORY)), width=width)
    panels = [panel.get_attribute("data-panel") for panel in page.locator(".ik-hero .ik-panel").all()]
    assert panels == shown
    assert page.locator(".ik-hero-verdict").inner_text() == "No phase change was looked for in this model."
    assert page.locator(".ik-hero .ik-window[width]").count() == 0, "nothing is shaded"


def test_a_run_without_a_phase_change_says_so_and_shades_nothing(opened):
    history = example_history("one-layer")
    page = opened(PhaseExplorer(history, phase=find_phase_change(history)))
    expect(page.locator(".ik-hero-verdict")).to_contain_text("No phase change was found in this model: no head's")
    assert page.locator(".ik-window[width]").count() == 0
    page.wait_for_timeout(800)
    assert root(page, "step") == str(int(history["step"][-1]))


def test_views_that_were_chosen_and_comparisons_have_no_hero(opened):
    for widget in (PhaseExplorer(HISTORY, views=["loss"]), PhaseComparison(HISTORY, HISTORY)):
        assert opened(widget).locator(".ik-hero").count() == 0


@pytest.mark.parametrize("width", [1300, 900, 600, 390])
def test_names_in_the_loss_chart_do_not_overlap(opened, width):
    history = example_history()
    phase = find_phase_change(history, n_resamples=8)
    page = opened(PhaseExplorer(history, phase=phase, control=example_history("one-layer")), width=width, prepare=still)
    boxes = [name.bounding_box() for name in page.locator(".ik-hero-names text").all()]
    assert len(boxes) == 4
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            apart = (
                one["x"] + one["width"] <= other["x"]
                or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"]
                or other["y"] + other["height"] <= one["y"]
            )
            assert apart
    assert re.search(r"args next with probability \d\d %", page.locator(".ik-hero-says").inner_text())
