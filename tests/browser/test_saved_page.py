"""The page that PhaseExplorer.save writes, opened from disk: what moves, what is chosen, what stays quiet."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser.pages import (
    N_STEPS,
    VIEWS,
    WINDOW,
    at_end,
    axis_width,
    check_fits,
    go_to,
    hostile_history,
    ink,
    marker_places,
    panels,
    root,
    settled_box,
)
from playwright.sync_api import Page, expect

from inductionkit.history import head_scores
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer

HALF = 12
SCORES = head_scores(synthetic_history())


def pixels(page: Page, n_tokens: int) -> np.ndarray:
    """Brightness at the middle of each cell of the pattern, 0 … 255, and 0 where nothing is drawn."""
    values = page.locator(".ik-canvas").evaluate(
        """(canvas, n) => {
            const draw = canvas.getContext("2d");
            const at = (i) => Math.floor(((i + 0.5) / n) * canvas.width);
            return Array.from({length: n * n}, (_, i) => {
                const [r, g, b, a] = draw.getImageData(at(i % n), at(Math.floor(i / n)), 1, 1).data;
                return a ? (r + g + b) / 3 : 0;
            });
        }""",
        n_tokens,
    )
    return np.array(values).reshape(n_tokens, n_tokens)


def dot(page: Page) -> tuple[float, float]:
    """Where the chosen head's dot lies in the scatter."""
    circle = page.locator(".ik-dot-chosen")
    return float(circle.get_attribute("cx")), float(circle.get_attribute("cy"))


def choose_head(page: Page, head: str) -> None:
    page.locator('[data-choice="head"]').select_option(label=head)
    expect(page.locator('[data-panel="scatter"]')).to_have_attribute("data-head", head)


def test_opens_at_the_last_step_with_every_view(explorer, history):
    assert root(explorer, "step") == str(int(history["step"][-1]))
    assert root(explorer, "head") == "1.0"
    assert panels(explorer) == VIEWS
    assert explorer.locator(".ik-alert").is_hidden()


def test_the_slider_moves_every_view(explorer, history):
    last = {
        "dot": dot(explorer),
        "pixels": pixels(explorer, 24),
        "strip": explorer.locator('[data-panel="pattern"] .ik-token').nth(12),
        "change": explorer.locator('[data-panel="text"] .ik-token').nth(20).get_attribute("style"),
    }
    last_shade = last["strip"].evaluate("token => token.style.background")
    go_to(explorer, 2)
    assert root(explorer, "step") == str(int(history["step"][2]))
    # Checkpoints lie evenly in log tokens, so the marker of the third stands 2/23 of the way along each chart.
    np.testing.assert_allclose(marker_places(explorer), [axis_width(explorer) * 2 / (N_STEPS - 1)] * 4, atol=0.6)
    zero = explorer.locator('[data-panel="scatter"] .ik-zero').get_attribute("d")
    plot_width = float(re.search(r"H([\d.]+)", zero)[1])
    prefix = float(history["prefix_matching"][2, 1, 0])
    assert dot(explorer)[0] == pytest.approx(prefix * plot_width, abs=0.6)
    assert explorer.locator('[data-panel="grid"] .ik-value').inner_text() == f"1.0: {prefix:.2f}"
    assert explorer.locator('[data-panel="text"] .ik-token').nth(20).get_attribute("style") != last["change"]
    assert last["dot"][0] == pytest.approx(float(history["prefix_matching"][-1, 1, 0]) * plot_width, abs=0.6)
    assert (pixels(explorer, 24) != last["pixels"]).any()
    assert last["strip"].evaluate("token => token.style.background") != last_shade
    values = {panel: explorer.locator(f'[data-panel="{panel}"] .ik-value').inner_text() for panel in ("loss", "icl")}
    assert values["loss"] == f"{float(history['loss'][2]):.3f}"
    assert values["icl"] == f"{float(history['icl_score'][2]):.3f}".replace("-", "−")


def test_the_step_is_read_out(explorer, history):
    go_to(explorer, 10)
    output = explorer.locator(".ik-toolbar output[aria-live=polite]")
    assert f"step {int(history['step'][10]):,}" in output.inner_text()
    assert "2.02M tokens" in output.inner_text()
    assert explorer.locator(".ik-slider").get_attribute("aria-valuetext") == "step 492, 2.02M tokens"


def test_the_pattern_is_drawn_query_by_key(explorer):
    """After the change, head 1.0 attends from each query of the second half to the follower of its earlier copy."""
    drawn = pixels(explorer, 24)
    assert (drawn[np.triu_indices(24, 1)] == 0).all(), "nothing above the diagonal"
    for query in range(HALF, 24):
        assert drawn[query, : query + 1].argmin() == query - HALF + 1
    go_to(explorer, 0)
    before = pixels(explorer, 24)[23, :24]
    assert np.ptp(before) < 25, "before it, attention is all but uniform"


def test_a_head_chosen_in_the_scatter_is_chosen_everywhere(explorer):
    before = pixels(explorer, 24)
    choose_head(explorer, "1.1")
    other = dot(explorer)
    choose_head(explorer, "1.0")
    plot = explorer.locator('[data-panel="scatter"] .ik-plot').bounding_box()
    explorer.mouse.click(plot["x"] + 7 + other[0], plot["y"] + 7 + other[1])
    for panel in ("trajectories", "grid", "scatter", "pattern"):
        expect(explorer.locator(f'[data-panel="{panel}"]')).to_have_attribute("data-head", "1.1")
    assert root(explorer, "head") == "1.1"
    assert explorer.locator('[data-choice="head"] option:checked').inner_text() == "1.1"
    assert dot(explorer) == other
    assert (pixels(explorer, 24) != before).any()


def test_a_head_is_chosen_by_its_line_or_by_name(explorer):
    choose_head(explorer, "1.1")
    box = explorer.locator(".ik-head-chosen").bounding_box()
    choose_head(explorer, "1.0")
    explorer.mouse.move(box["x"] + box["width"] - 2, box["y"] + 1)
    expect(explorer.locator('[data-panel="trajectories"] .ik-head-name').filter(has_text="1.1")).to_have_count(1)
    explorer.mouse.down()
    explorer.mouse.up()
    expect(explorer.locator(".ik-root")).to_have_attribute("data-head", "1.1")
    assert root(explorer, "step") == "24414", "choosing a line moves no step"
    explorer.locator('[data-choice="head"]').select_option(label="0.3")
    expect(explorer.locator(".ik-root")).to_have_attribute("data-head", "0.3")


def test_dragging_on_a_curve_moves_the_step(explorer, history):
    box = explorer.locator('[data-panel="loss"] .ik-window').bounding_box()
    explorer.mouse.move(box["x"] - 60, box["y"] + 40)
    explorer.mouse.down()
    explorer.mouse.move(box["x"], box["y"] + 40, steps=4)
    explorer.mouse.up()
    nearest = np.abs(np.log(history["tokens_seen"].values / WINDOW[0])).argmin()
    expect(explorer.locator(".ik-root")).to_have_attribute("data-step", str(int(history["step"][nearest])))


def test_keys(explorer, history):
    steps = [str(int(step)) for step in history["step"]]
    shown = explorer.locator(".ik-root")
    explorer.locator(".ik-slider").focus()
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2)):
        explorer.keyboard.press(key)
        expect(shown).to_have_attribute("data-step", steps[index])
    explorer.keyboard.press("Home")
    explorer.keyboard.press("Space")
    expect(explorer.locator(".ik-play")).to_have_attribute("aria-label", "Pause")
    expect(shown).not_to_have_attribute("data-step", steps[0])
    explorer.keyboard.press("Space")
    expect(explorer.locator(".ik-play")).to_have_attribute("aria-label", "Play")
    stopped_at = root(explorer, "step")
    explorer.wait_for_timeout(400)
    assert root(explorer, "step") == stopped_at


def test_a_cell_is_read_out(explorer, history):
    box = explorer.locator(".ik-canvas").bounding_box()
    query, key = 20, 9
    explorer.mouse.move(box["x"] + (key + 0.5) * box["width"] / 24, box["y"] + (query + 0.5) * box["height"] / 24)
    expect(explorer.locator(".ik-root")).to_have_attribute("data-query", str(query))
    value = int(history["pattern"][-1, 1, 0, 0, query, key]) / 255
    lift = float(history["ov_lift"][-1, 1, 0, 0, key])
    expect(explorer.locator('[data-panel="pattern"] .ik-readout')).to_have_text(
        f"query {query}·w8→key {key}·w9{value:.2f}OV logit lift {lift:.2f} nats"
    )
    named = explorer.locator(".ik-token-names:not(.ik-axis) text").all_text_contents()
    assert named == ["·w8", "·w9"], "both tokens are named on their axes"
    strip = explorer.locator('[data-panel="pattern"] .ik-strip')
    assert strip.locator(".is-query").get_attribute("data-position") == str(query)
    strip.locator(".ik-token").nth(5).hover()
    expect(explorer.locator(".ik-root")).to_have_attribute("data-query", "5")


def test_hostile_tokens_are_shown_and_do_nothing(opened):
    history = hostile_history()
    page = opened(PhaseExplorer(history, control=history))
    tokens = page.locator('[data-panel="pattern"] .ik-token')
    expect(tokens).to_have_count(6)
    expect(page.locator('[data-panel="text"] .ik-token')).to_have_count(6)
    for position in range(6):
        page.locator('[data-panel="text"] .ik-token').nth(position).hover()
        tokens.nth(position).hover()
    page.locator('[data-panel="grid"] select').select_option("logit_lift")
    expect(page.locator('[data-panel="grid"] .ik-value')).to_contain_text("⟨U+202E⟩<img src=x")
    assert page.locator(".ik-root img, .ik-root script, .ik-root b").count() == 0
    assert tokens.nth(2).inner_text() == "⟨U+202E⟩evil⟨U+2066⟩␇"
    assert tokens.nth(3).inner_text() == "x" * 23 + "…"
    assert tokens.nth(3).get_attribute("title").endswith("x" * 10_000)
    assert tokens.nth(5).inner_text() == "⏎"


@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        (["pattern", "text_loss"], "loss icl slopes trajectories grid scatter"),
        (["training_loss", *SCORES[1:]], "loss icl slopes trajectories grid pattern text"),
        (SCORES, "loss icl slopes pattern text"),
        (["loss", "training_loss", "icl_score", "loss_by_position"], "trajectories grid scatter pattern text"),
    ],
)
def test_views_without_data_are_left_out(opened, history, missing, shown):
    page = opened(PhaseExplorer(history.drop_vars(missing, errors="ignore")), width=600)
    assert panels(page) == shown.split()
    page.locator(".ik-slider").fill("3")
    expect(page.locator(".ik-root")).to_have_attribute("data-step", str(int(history["step"][3])))


@pytest.mark.parametrize(
    "change",
    ["missing values", "one of each", "untrained checkpoint", "no tokens seen", "unknown tokens", "all missing"],
)
def test_odd_histories_draw_finite_shapes(opened, change):
    history = synthetic_history(n_steps=1, n_layers=1, n_heads=1) if change == "one of each" else synthetic_history()
    if change == "missing values":
        for name in (
            "loss",
            "icl_score",
            "prefix_matching",
            "copying",
            "training_loss",
            "text_loss",
            "loss_by_position",
        ):
            history[name].values[3:5] = np.nan
            history[name].values[7] = np.inf
            history[name].values[-1] = -np.inf
        history["pattern"].values[-1] = 0
    if change == "untrained checkpoint":
        history = history.assign_coords(tokens_seen=("step", np.r_[0, history["tokens_seen"].values[1:]]))
    if change == "no tokens seen":
        history = history.drop_vars("tokens_seen")
    if change == "unknown tokens":
        history = history.assign_coords(tokens_seen=("step", np.r_[np.nan, history["tokens_seen"].values[1:]]))
    if change == "all missing":
        history = history[["loss", "prefix_matching"]]
        history["loss"].values[:] = history["prefix_matching"].values[:] = np.nan
    page = opened(at_end(PhaseExplorer(history, phase=WINDOW)))
    expect(page.locator(".ik-root[data-step]")).to_be_visible()
    if change == "missing values":
        assert page.get_by_text("no data at this checkpoint").is_visible()
        assert ink(page, "slopes") > 0, "one missing checkpoint does not blank the map"
        assert page.locator('[data-panel="loss"] .ik-value').inner_text() == "no data"
    if change == "all missing":
        assert page.get_by_text("no data: this history has nothing to draw").is_visible()


def test_an_error_is_shown_under_the_widget(visit, tmp_path, history):
    path = PhaseExplorer(history).save(tmp_path / "page.html")
    path.write_text(path.read_text().replace('"layers":', '"layres":'))
    visited = visit(path.as_uri())
    expect(visited.page.get_by_role("alert")).to_contain_text("The widget failed:")


def test_the_page_s_policy_refuses_other_scripts_and_requests(visit, tmp_path, history):
    # The browser complains of what it refuses, so this page does not end quiet.
    page = visit(PhaseExplorer(history).save(tmp_path / "page.html").as_uri()).page
    refused = page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            return [window.hacked ?? null, await fetch("data:,x").then(() => "fetched", () => "refused")];
        }"""
    )
    assert refused == [None, "refused"]


@pytest.mark.parametrize("width", [1200, 600, 360])
def test_it_fits_its_width(opened, history, width):
    page = opened(PhaseExplorer(history, phase=WINDOW), width=width)
    check_fits(page)
    columns = page.locator(".ik-grid").evaluate("grid => getComputedStyle(grid).gridTemplateColumns.split(' ').length")
    assert columns == (2 if width == 1200 else 1)


def test_it_follows_the_theme(explorer):
    def ground() -> list[int]:
        colour = explorer.locator(".ik-root").evaluate("root => getComputedStyle(root).backgroundColor")
        return [int(part) for part in re.findall(r"\d+", colour)[:3]]

    light = pixels(explorer, 24)[23, 0]
    assert min(ground()) > 240
    explorer.emulate_media(color_scheme="dark")
    expect(explorer.locator(".ik-root")).to_have_attribute("data-theme", "dark")
    assert max(ground()) < 40
    assert pixels(explorer, 24)[23, 0] < light / 2, "the pattern is painted again"


def test_a_step_is_drawn_within_a_frame(opened):
    """The size of Pythia's public checkpoints on GPT-2 small's heads."""
    history = synthetic_history(n_steps=154, n_layers=12, n_heads=12, n_text_tokens=1).isel(text=[0])
    dims = ("step", "layer", "head", "text", "query", "key")
    token = ("text", "query"), np.array([["w"] * 64], dtype=object)
    pattern = dims, np.full((154, 12, 12, 1, 64, 64), 4, np.uint8)
    history = history.drop_vars(["pattern", "ov_lift", "token", "text_loss"]).assign(pattern=pattern, token=token)
    page = opened(PhaseExplorer(history, phase=WINDOW))
    settled_box(page.locator(".ik-root"))
    times = page.evaluate(
        """async () => {
            const [slider, root] = [".ik-slider", ".ik-root"].map((name) => document.querySelector(name));
            const ask = window.requestAnimationFrame.bind(window);
            const times = [];
            window.requestAnimationFrame = (draw) => ask((now) => {
                const start = performance.now();
                draw(now);
                root.getBoundingClientRect();  // has the layout done within what is timed
                times.push(performance.now() - start);
            });
            for (let index = 60; index < 100; index++) {
                slider.value = index;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
                await new Promise(ask);
            }
            return times;
        }"""
    )
    assert len(times) == 40
    print(f"median {sorted(times)[20]:.1f} ms, longest {max(times):.1f} ms")
    assert sorted(times)[20] < 16, "median, in milliseconds"
