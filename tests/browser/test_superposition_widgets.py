"""The saved pages of the toy models' widgets: what moves, what turns, what is chosen, what stays quiet."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from browser.pages import HOSTILE_NAME, check_accessibility, panels, root, settled_box, value, vectors
from playwright.sync_api import Page, expect

from inductionkit.superposition import candidate_solutions, example_superposition
from inductionkit.superposition.history import labelled
from inductionkit.widgets.double_descent_view import DoubleDescentView
from inductionkit.widgets.phase_diagram_view import PhaseDiagramView
from inductionkit.widgets.superposition_view import SuperpositionView


@pytest.fixture(scope="module")
def flat() -> xr.Dataset:
    return example_superposition("geometry-2d")


@pytest.fixture(scope="module")
def descent() -> xr.Dataset:
    return example_superposition("double-descent")


def tip(page: Page, feature: int) -> tuple[float, float]:
    """Where the tip of a feature's vector is drawn, once it stays there."""
    box = settled_box(page.locator(f'[data-vector="{feature}"] circle'))
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_geometry_steps_through_training(opened, flat):
    page = opened(SuperpositionView(flat))
    page.locator('[data-choice="model"]').select_option("5")
    expect(page.locator(".ik-root")).to_have_attribute("data-instance", "5")
    assert value(page, "geometry") == "1 pentagon"
    scale = []
    for index in (57, 30):
        page.locator(".ik-slider").fill(str(index))
        expect(page.locator(".ik-root")).to_have_attribute("data-step", str(int(flat["step"][index])))
        drawn = vectors(page, "geometry")
        weight = flat["weight"].isel(instance=5, step=index).values
        tips = np.stack([drawn[str(feature)] for feature in range(5)], axis=1)
        scale.append(float((tips * weight).sum() / (weight**2).sum()))
        np.testing.assert_allclose(tips, scale[-1] * weight, atol=0.1)
        assert value(page, "loss") == f"{float(flat['loss'][5, index]):.4f}"
    assert scale[0] == pytest.approx(scale[1], rel=1e-3), "lengths can be compared from step to step"


def test_choosing_a_feature_shows_it_in_every_view(opened, flat):
    view = SuperpositionView(flat)
    view.instance = 5
    page = opened(view)
    page.mouse.move(*tip(page, 2))
    page.mouse.click(*tip(page, 2))
    expect(page.locator(".ik-root")).to_have_attribute("data-feature", "2")
    assert page.locator('[data-choice="feature"] option:checked').inner_text() == "2"
    expect(page.locator('.ik-features [data-feature="2"]')).to_have_class("is-strong")
    dimensionality = float(flat["feature_dimensionality"][5, -1, 2])
    assert value(page, "dimensionality") == f"feature 2: {dimensionality:.2f}, pentagon"
    # In a pentagon both neighbours overlap positively, both others negatively.
    page.mouse.move(5, 5)
    expect(page.locator(".ik-interference.is-positive")).to_have_count(2)
    expect(page.locator(".ik-interference.is-negative")).to_have_count(2)
    page.locator('[data-choice="feature"]').select_option("")
    expect(page.locator(".ik-interference")).to_have_count(0)
    assert root(page, "feature") == ""


def test_a_feature_can_be_chosen_while_its_vector_is_drawn_anew(opened, flat):
    view = SuperpositionView(flat)
    view.instance = 5
    page = opened(view)
    page.mouse.move(*tip(page, 2))
    page.mouse.down()
    page.locator(".ik-slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".ik-root")).not_to_have_attribute("data-step", "4000")
    page.mouse.up()
    expect(page.locator(".ik-root")).to_have_attribute("data-feature", "2")


def test_keys_step_and_play(opened, flat):
    page = opened(SuperpositionView(flat))
    page.locator(".ik-slider").focus()
    shown = page.locator(".ik-root")
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", -1)):
        page.keyboard.press(key)
        expect(shown).to_have_attribute("data-step", str(int(flat["step"][index])))
    page.keyboard.press("Space")
    expect(page.locator(".ik-play")).to_have_attribute("aria-label", "Pause")
    expect(shown).not_to_have_attribute("data-step", "4000")
    page.keyboard.press("Space")
    expect(page.locator(".ik-play")).to_have_attribute("aria-label", "Play")
    assert page.locator("output[aria-live=polite]").inner_text().startswith("step ")


def test_dragging_over_a_curve_moves_the_step(opened, flat):
    page = opened(SuperpositionView(flat))
    box = page.locator('[data-panel="loss"] .ik-chart').bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 46, box["y"] + 60, steps=3)
    page.mouse.up()
    expect(page.locator(".ik-root")).to_have_attribute("data-step", "0")


def test_three_dimensions_are_turned_by_keys_and_by_dragging(opened):
    history = example_superposition("geometry-3d")
    view = SuperpositionView(history)
    view.instance = 4
    page = opened(view)
    plot = page.locator('[data-panel="geometry"] .ik-vectors')
    before, turned = vectors(page, "geometry"), root(page, "turned")
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ik-root")).not_to_have_attribute("data-turned", turned)
    after = vectors(page, "geometry")
    assert max(np.abs(after[name] - before[name]).max() for name in before) > 3
    # An orthographic view: two views along the sphere's axes have the lengths of the vectors between them.
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    expect(page.locator(".ik-root")).to_have_attribute("data-turned", re.compile(r" 1\.57$"))
    above = vectors(page, "geometry")
    flat_lengths = np.linalg.norm(history["weight"].isel(instance=4, step=-1).values[:2], axis=0)
    drawn = np.array([np.linalg.norm(above[str(feature)]) for feature in range(8)])
    np.testing.assert_allclose(drawn / drawn.max(), flat_lengths / flat_lengths.max(), atol=0.01)
    page.keyboard.press("Home")
    expect(page.locator(".ik-root")).to_have_attribute("data-turned", turned)
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 80, box["y"] + 20, steps=3)
    page.mouse.up()
    expect(page.locator(".ik-root")).not_to_have_attribute("data-turned", turned)
    assert (root(page, "step"), root(page, "feature")) == ("4000", ""), "turning steps and chooses nothing"


def test_many_dimensions_show_the_matrix_and_a_gallery(opened):
    history = example_superposition("energy-levels").isel(instance=[0])
    page = opened(SuperpositionView(history), width=600)
    assert panels(page) == ["gram", "polytopes", "dimensionality", "loss"]
    cards = page.locator(".ik-card")
    assert cards.count() == 12
    assert value(page, "polytopes") == "12 digons, 24 not represented"
    assert cards.first.get_attribute("data-features") == "1,27"
    cards.first.click()
    expect(page.locator(".ik-root")).to_have_attribute("data-feature", "1")
    # The first two rows are the first digon: -1 off the diagonal.
    box = page.locator(".ik-gram").bounding_box()
    page.mouse.move(box["x"] + 1.5 * box["width"] / 48, box["y"] + 0.5 * box["height"] / 48)
    weight = history["weight"].values[0, -1]
    expected = f"{weight[:, 1] @ weight[:, 27]:.2f}".replace("-", "−")
    expect(page.locator('[data-panel="gram"] .ik-value')).to_have_text(f"1 as 27: {expected}")
    assert page.locator(".ik-jumps path").count() > 10
    page.locator(".ik-slider").fill("0")
    expect(page.locator(".ik-gram-canvas")).to_have_attribute("data-shown", "0/0")


def odd(change: str) -> xr.Dataset:
    angle = 2 * np.pi * np.arange(5) / 5
    weight = np.tile(np.stack([np.cos(angle), np.sin(angle)]), (2, 4, 1, 1)).astype(np.float32)
    loss = np.linspace([2, 1], [1, 1], 4).T.astype(np.float32)
    coords = {"step": np.arange(4), "density": np.ones((2, 5)), "importance": np.ones((2, 5)), "seed": [0, 1]}
    if change == "missing values":
        weight[0, 1] = np.nan
        weight[0, 2, 0, 3] = np.inf
        weight[1] = 0
        loss[0, 1:] = np.nan
    if change == "one dimension":
        weight = weight[:, :, :1]
    if change == "unequal importance":
        coords["importance"] = np.array([[1, 0.5, 0.1, 0, np.nan]] * 2)
    history = labelled({"weight": weight, "loss": loss}, coords, {})
    if change == "one of each":
        return history.isel(instance=[0], step=[0], feature=[0])
    if change == "weights alone":
        return history[["weight"]].drop_vars(["density", "importance", "seed"])
    if change == "hostile names":
        return history.assign_attrs(activation=HOSTILE_NAME, correlation=HOSTILE_NAME).assign_coords(
            branch=("instance", [HOSTILE_NAME, "x" * 5000])
        )
    return history


@pytest.mark.parametrize(
    "change",
    ["missing values", "one of each", "one dimension", "weights alone", "hostile names", "unequal importance"],
)
def test_odd_histories_are_shown(opened, change):
    history = odd(change)
    view = SuperpositionView(history)
    view.feature = 0
    page = opened(view, width=380)
    for index in range(history.sizes["step"] if history.sizes["step"] > 1 else 0):
        page.locator(".ik-slider").fill(str(index))
        expect(page.locator(".ik-root")).to_have_attribute("data-step", str(index))
    assert ("loss" in panels(page)) == (change != "weights alone")
    if change == "missing values":
        page.locator(".ik-slider").fill("1")
        expect(page.locator('[data-panel="loss"] .ik-value')).to_have_text("no data")
        page.locator('[data-choice="model"]').select_option("1")
        expect(page.locator('[data-panel="geometry"] .ik-value')).to_have_text("5 not represented")
    if change == "one of each":
        assert page.locator(".ik-slider").is_disabled() and page.locator(".ik-play").is_disabled()
    if change == "hostile names":
        assert page.locator(".ik-root img, .ik-root script").count() == 0
        assert "⟨U+202E⟩" in page.title() or "\u202e" in page.title()
    if change == "unequal importance":
        page.locator('[data-choice="colour"]').select_option("importance")
        expect(page.locator('[data-panel="geometry"] .ik-ramp')).to_have_count(5)


def test_a_cell_of_the_phase_diagram_is_chosen_by_keys_and_hovered(opened):
    diagram = example_superposition("phase-diagram-3-2")
    page = opened(PhaseDiagramView(diagram))
    assert panels(page) == ["maps", "solutions", "cell"]
    assert root(page, "cell") == "6,6"
    states = page.locator('[data-map="trained_state"] .ik-square').evaluate_all("all => all.map(s => s.style.fill)")
    number = {f"var(--ik-state-{i})": name for i, name in enumerate(("not represented", "superposed", "own dimension"))}
    assert [number[fill] for fill in states] == diagram["trained_state"].values.ravel().tolist()
    page.locator('[data-map="best_state"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".ik-root")).to_have_attribute("data-cell", "7,4")
    chosen = diagram.isel(sparsity=7, relative_importance=4)
    assert value(page, "cell") == str(chosen["trained_state"].values)
    said = page.locator("output[aria-live=polite]").inner_text()
    assert f"Closed form: {chosen['best_state'].values}" in said
    best = page.locator(".ik-solutions .is-best")
    losses = chosen["loss"].values
    assert best.locator("th").inner_text() == str(diagram["solution"].values[np.nanargmin(losses)])
    assert page.locator(".ik-solutions .is-trained").inner_text().split()[-1] == f"{float(chosen['trained_loss']):.5f}"
    weight = chosen["weight"].values
    drawn = vectors(page, "cell")
    tips = np.stack([drawn[name] for name in ("0", "1", "extra")], axis=1)
    np.testing.assert_allclose(tips, (tips * weight).sum() / (weight**2).sum() * weight, atol=0.1)
    square = page.locator('[data-map="best_state"] [data-cell="0"]')
    square.hover(force=True)
    expect(page.locator('[data-panel="cell"] .ik-value')).to_have_text(str(diagram["trained_state"].values[0, 0]))
    assert root(page, "cell") == "7,4", "hovering chooses nothing"
    square.click(force=True)
    expect(page.locator(".ik-root")).to_have_attribute("data-cell", "0,0")


def test_a_closed_form_by_itself_and_hostile_solutions(opened):
    diagram = candidate_solutions(1, [0.0, 0.9], [0.5, 1.0, 2.0])
    diagram = diagram.assign_coords(solution=[HOSTILE_NAME, "b", "c"])
    page = opened(PhaseDiagramView(diagram), width=380)
    assert panels(page) == ["maps", "solutions"]
    assert page.locator(".ik-map").count() == 1
    assert page.locator(".ik-solutions tr").count() == 3
    assert page.locator(".ik-root img, .ik-root script").count() == 0


def test_the_double_descent_curve_and_its_geometries(opened, descent):
    page = opened(DoubleDescentView(descent))
    peak = int(descent["n_points"][int(descent["test_loss"].values[:, 0].argmax())])
    assert root(page, "points") == str(peak)
    page.locator(".ik-slider").fill("0")
    expect(page.locator(".ik-root")).to_have_attribute("data-points", "3")
    tips = page.locator('[data-kind="points"] .ik-cloud .ik-tips').get_attribute("d")
    drawn = np.array([[float(x), -float(y)] for x, y in re.findall(r"M(\S+?),(\S+?)h0", tips)]).T
    hidden = descent["hidden_point"].values[0, 0, :, :3]
    np.testing.assert_allclose(drawn, (drawn * hidden).sum() / (hidden**2).sum() * hidden, atol=0.1)
    expect(page.locator('[data-kind="points"] h4')).to_contain_text("Data points 3")
    assert value(page, "losses").startswith(f"test {float(descent['test_loss'][0, 0]):.2f}")
    page.locator('[data-choice="seed"]').select_option("1")
    expect(page.locator(".ik-root")).to_have_attribute("data-seed", "1")
    heavy = page.locator('[data-panel="losses"] path:not(.is-other)[data-seed]')
    assert {line.get_attribute("data-seed") for line in heavy.all()} == {"1"}
    page.locator(".ik-slider").focus()
    page.keyboard.press("End")
    expect(page.locator(".ik-root")).to_have_attribute("data-points", "3200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_size_one_seed_and_missing_values(opened, descent, scheme):
    one = descent.isel(n_points=[4], seed=[2]).copy(deep=True)
    one["weight"].values[..., :5] = np.nan
    one["test_loss"].values[:] = np.nan
    page = opened(DoubleDescentView(one), width=380, color_scheme=scheme)
    assert page.locator(".ik-slider").is_disabled()
    assert value(page, "losses").startswith("test no data")
    expect(page.locator('[data-kind="features"] h4')).to_contain_text("Features 251")
    assert root(page, "theme") == scheme


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: SuperpositionView(example_superposition("geometry-2d")),
        lambda: SuperpositionView(example_superposition("geometry-3d")),
        lambda: SuperpositionView(example_superposition("energy-levels").isel(instance=[0])),
        lambda: PhaseDiagramView(example_superposition("phase-diagram-3-2")),
        lambda: DoubleDescentView(example_superposition("double-descent")),
    ],
    ids=["two dimensions", "three dimensions", "many dimensions", "phase diagram", "double descent"],
)
def test_no_serious_accessibility_violation(opened, make, scheme):
    check_accessibility(opened(make(), color_scheme=scheme))
