"""HeadScan's saved page: a head chosen anywhere, the table's order and search, the marks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from browser.pages import HOSTILE, check_accessibility, check_fits
from playwright.sync_api import Page, expect

from inductionkit.widgets.head_scan_view import HeadScan

PER_HEAD = ("layer", "head")


def some_scores(**renamed: str) -> xr.Dataset:
    """Heads 1.0 and 0.2 have both properties; 1.1 matches without copying; 0.1 is not scored."""
    prefix = [[0.05, np.nan, 0.4], [0.9, 0.7, 0.01]]
    copying = [[-0.85, np.nan, 0.1], [0.5, -0.8, -0.9]]
    lift = [[0.5, np.nan, 2.0], [6.0, 0.25, -3.0]]
    rng = np.random.default_rng(0)
    scores = xr.Dataset(
        {
            "prefix_matching": (PER_HEAD, prefix),
            "copying": (PER_HEAD, copying),
            "logit_lift": (PER_HEAD, lift, {"units": "nats"}),
            "prefix_matching_null": (("null", *PER_HEAD), rng.uniform(0, 0.1, (5, 2, 3))),
            "copying_null": (("null", *PER_HEAD), rng.uniform(-0.9, -0.8, (5, 2, 3))),
        },
        {"layer": [0, 1], "head": [0, 1, 2]},
        {"model": "some model"},
    )
    return scores.rename(renamed)


def order(page: Page) -> list[str]:
    return page.locator(".ik-table tbody tr").evaluate_all("rows => rows.map(row => row.dataset.head)")


def dot(page: Page, head: str) -> tuple[float, float]:
    """Where a head's dot lies in the scatter; the head is chosen."""
    page.locator(f'.ik-table tr[data-head="{head}"] .ik-head-button').click()
    expect(page.locator(".ik-root")).to_have_attribute("data-head", head)
    return tuple(float(page.locator(".ik-dot-chosen").get_attribute(name)) for name in ("cx", "cy"))


def click_dot(page: Page, head: str) -> None:
    """Choose another head, then a head by its dot on the canvas, where it must be drawn."""
    x, y = dot(page, head)
    page.locator('.ik-table tr[data-head="1.2"] .ik-head-button').click()
    expect(page.locator(".ik-root")).to_have_attribute("data-head", "1.2")
    canvas = page.locator('[data-panel="scatter"] .ik-layer')
    drawn = """(canvas, place) => canvas.getContext("2d").getImageData(
        ...place.map(at => (at + 7) * devicePixelRatio), 1, 1).data[3]"""
    assert canvas.evaluate(drawn, [x, y]) > 0
    canvas.click(position={"x": x + 7, "y": y + 7}, force=True)


def root(page: Page):
    return page.locator(".ik-root")


class TestHeadScan:
    def test_a_head_chosen_anywhere_is_chosen_everywhere(self, opened):
        page = opened(HeadScan(some_scores()))
        expect(root(page)).to_have_attribute("data-head", "1.0")
        expect(root(page)).to_have_attribute("data-heads", "0.2 1.0")
        page.locator('.ik-table tr[data-head="1.1"] .ik-head-button').click()
        expect(root(page)).to_have_attribute("data-head", "1.1")
        expect(page.locator('.ik-map[data-score="copying"] .ik-value')).to_have_text("−0.80")
        expect(page.locator('[data-panel="scatter"] .ik-value')).to_have_text("head 1.1, prefix-matching: 0.70, −0.80")
        expect(page.locator(".ik-sr")).to_contain_text("head 1.1, prefix-matching: prefix matching 0.70, copying −0.80")

        click_dot(page, "0.2")
        expect(root(page)).to_have_attribute("data-head", "0.2")
        expect(page.locator(".ik-table tr.is-chosen")).to_have_attribute("data-head", "0.2")
        # The map of the second score, its first cell.
        page.locator('.ik-map[data-score="copying"] .ik-cells').click(position={"x": 45, "y": 35})
        expect(root(page)).to_have_attribute("data-head", "0.0")

    def test_hovering_shows_a_head_without_choosing_it(self, opened):
        page = opened(HeadScan(some_scores()))
        page.locator('.ik-table tr[data-head="1.2"]').hover()
        expect(page.locator('.ik-map[data-score="logit_lift"] .ik-value')).to_have_text("−3.00")
        expect(page.locator('[data-panel="maps"] .ik-head .ik-value')).to_have_text("head 1.2")
        expect(root(page)).to_have_attribute("data-head", "1.0")

    def test_keys_move_the_choice(self, opened):
        page = opened(HeadScan(some_scores()))
        page.locator('.ik-map[data-score="prefix_matching"] .ik-cells').focus()
        for key, head in [("ArrowRight", "1.1"), ("ArrowUp", "0.1"), ("ArrowUp", "0.1"), ("ArrowRight", "0.2")]:
            page.keyboard.press(key)
            expect(root(page)).to_have_attribute("data-head", head)
        page.locator('.ik-table tr[data-head="0.2"] .ik-head-button').focus()
        page.keyboard.press("ArrowDown")
        expect(root(page)).to_have_attribute("data-head", "0.0")
        expect(page.locator('.ik-table tr[data-head="0.0"] .ik-head-button')).to_be_focused()

    def test_the_table_sorts_with_unknown_heads_last(self, opened):
        page = opened(HeadScan(some_scores()))
        assert order(page) == ["1.0", "1.1", "0.2", "0.0", "1.2", "0.1"]
        header = page.locator('th[data-column="logit_lift"]')
        header.locator("button").click()
        assert order(page) == ["1.0", "0.2", "0.0", "1.1", "1.2", "0.1"]
        expect(header).to_have_attribute("aria-sort", "descending")
        header.locator("button").click()
        assert order(page) == ["1.2", "1.1", "0.0", "0.2", "1.0", "0.1"]
        expect(header).to_have_attribute("aria-sort", "ascending")
        page.locator('th[data-column="head"] button').click()
        assert order(page) == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]

    @pytest.mark.parametrize(
        ("search", "heads"),
        [
            ("1.1", ["1.1"]),
            ("layer 0", ["0.2", "0.0", "0.1"]),
            ("1.", ["1.0", "1.1", "1.2"]),
            ("head 2; 0.0", ["0.2", "0.0", "1.2"]),
            ("marked", ["1.0", "0.2"]),
            ("nothing", []),
            ("1", ["1.0", "1.1", "1.2"]),
            ("2", ["0.2", "1.2"]),
            ("induction", ["1.0", "0.2"]),
            ("> 0.5", ["1.0", "1.1"]),
            ("<0.04", ["1.2"]),
            ("copying > 0, prefix matching <= .06", ["1.0", "0.2", "0.0", "1.2"]),
            ("logit_lift >= 6", ["1.0"]),
            ("previous", []),
        ],
    )
    def test_the_table_is_searched(self, opened, search, heads):
        page = opened(HeadScan(some_scores()))
        page.locator(".ik-search").fill(search)
        assert order(page) == heads

    def test_heads_are_marked_and_unmarked(self, opened):
        page = opened(HeadScan(some_scores()))
        expect(page.locator(".ik-ring")).to_have_count(2)
        page.locator('.ik-table tr[data-head="1.1"] input').check()
        expect(root(page)).to_have_attribute("data-heads", "0.2 1.0 1.1")
        expect(page.locator(".ik-ring")).to_have_count(3)
        page.locator('[data-mark="none"]').click()
        expect(root(page)).to_have_attribute("data-heads", "")
        page.locator('[data-mark="induction"]').click()
        expect(root(page)).to_have_attribute("data-heads", "0.2 1.0")
        expect(page.locator('[data-panel="table"] .ik-head .ik-value')).to_have_text("2 marked of 6")

    def test_axes_and_thresholds(self, opened):
        page = opened(HeadScan(some_scores(), min_prefix_matching=0.45))
        expect(page.locator(".ik-threshold")).to_have_count(2)
        x = float(page.locator(".ik-threshold").first.get_attribute("x1"))
        dots = [dot(page, head)[0] for head in ("0.2", "1.1")]
        page.locator('.ik-table tr[data-head="1.0"] .ik-head-button').click()
        # 0.45 between 0.4 and 0.7 on one linear axis.
        assert x == pytest.approx(dots[0] + (dots[1] - dots[0]) * 0.05 / 0.3, abs=0.1)
        page.locator('[data-choice="up"]').select_option(label="logit lift")
        expect(page.locator(".ik-threshold")).to_have_count(1)
        expect(page.locator('[data-panel="scatter"] .ik-value')).to_have_text("head 1.0, induction: 0.90, 6.00")

    def test_names_of_strangers_and_numbers_beyond_numbers(self, opened):
        scores = some_scores(logit_lift=HOSTILE[0], copying=HOSTILE[2])
        scores[HOSTILE[0]][0, 0] = np.inf
        scores.attrs |= {"model": HOSTILE[1], "unscored": json.dumps({HOSTILE[3]: HOSTILE[1]})}
        page = opened(HeadScan(scores), width=600)
        expect(page.locator(".ik-map")).to_have_count(3)
        check_fits(page)
        assert "⟨U+202E⟩" in page.locator(".ik-maps").inner_text()

    def test_one_head_of_one_score(self, opened):
        page = opened(HeadScan(some_scores().isel(layer=[1], head=[0])[["logit_lift"]]))
        expect(page.locator('[data-panel="scatter"]')).to_have_count(0)
        assert order(page) == ["1.0"]

    def test_is_accessible(self, opened):
        check_accessibility(opened(HeadScan(some_scores())))
