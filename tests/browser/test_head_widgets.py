"""AttentionView and AblationView on their saved pages."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
import xarray as xr
from browser.pages import HOSTILE, check_accessibility, check_fits
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from tokenizers import Tokenizer, models

from inductionkit.ablation import compare_with_random_heads, scan_ablations
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model, perfect_induction_model
from inductionkit.widgets.ablation_view import AblationView
from inductionkit.widgets.attention_view import AttentionView


def root(page: Page) -> Locator:
    return page.locator(".ik-root")


class TestAttentionView:
    def test_each_head_is_drawn_by_circuitsvis(self, opened):
        model = perfect_induction_model()
        tokens = repeated_random_tokens(40, 0, PromptSettings(1, n_distinct=10, n_repeats=2))[0]
        page = opened(AttentionView(model, tokens))
        # It opens on the head that matches what repeats.
        expect(root(page)).to_have_attribute("data-shown", "1.0")
        induction = rows_attended(page, len(tokens))
        # From its second copy on, the induction head attends to the follower of a token's first copy.
        assert induction[11:] == [query - 9 for query in range(11, len(tokens))]
        page.get_by_role("button", name="Next head").click()
        expect(root(page)).to_have_attribute("data-shown", "1.1")
        expect(page.get_by_role("button", name="Next head")).to_be_disabled()
        page.locator('[data-choice="head"]').select_option(label="0.0")
        expect(root(page)).to_have_attribute("data-shown", "0.0")
        assert rows_attended(page, len(tokens))[1:] == list(range(len(tokens) - 1)), "the previous token"
        expect(page.locator(".ik-circuitsvis canvas")).to_have_count(1)
        expect(page.locator('[role="status"]')).to_contain_text("head 0.0: most attention")

    def test_all_heads_are_shown_small(self, opened):
        model = perfect_induction_model()
        tokens = repeated_random_tokens(40, 0, PromptSettings(1, n_distinct=10, n_repeats=2))[0]
        page = opened(AttentionView(model, tokens))
        expect(root(page)).to_have_attribute("data-thumbnails", "square root")
        rows = page.locator(".ik-thumb-row")
        assert [row.locator(".ik-thumb").count() for row in rows.all()] == [2, 2]
        n = len(tokens)
        seen = [attended(page.locator(".ik-thumb").nth(place), n) for place in range(4)]
        assert seen[0][1:] == list(range(n - 1)), "0.0: the previous token"
        assert seen[2][11:] == [query - 9 for query in range(11, n)], "1.0: what followed the earlier copy"
        expect(page.get_by_role("button", name="Head 1.0")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Head 0.0").hover()
        expect(root(page)).to_have_attribute("data-shown", "0.0")
        expect(root(page)).to_have_attribute("data-head", "1.0")
        page.mouse.move(700, 5)
        expect(root(page)).to_have_attribute("data-shown", "1.0")
        page.get_by_role("button", name="Head 0.1").click()
        expect(root(page)).to_have_attribute("data-head", "0.1")
        page.mouse.move(700, 5)
        for key, head in (("ArrowDown", "1.1"), ("ArrowDown", "1.1"), ("ArrowLeft", "1.0"), ("ArrowUp", "0.0")):
            page.keyboard.press(key)
            expect(root(page)).to_have_attribute("data-head", head)
        expect(root(page)).to_have_attribute("data-shown", "0.0")

    def test_the_first_token_is_hidden_and_the_scale_is_chosen(self, opened):
        page = opened(AttentionView(perfect_induction_model(), torch.arange(12)))
        expect(root(page)).to_have_attribute("data-thumbnails", "square root")
        thumb = page.get_by_role("button", name="Head 0.1")
        roots = pixels_of(thumb)
        # Even attention: a weaker row is nearer to the ground, and by its square root less so.
        page.get_by_role("button", name="linear").click()
        expect(root(page)).to_have_attribute("data-thumbnails", "linear")
        linear = pixels_of(thumb)
        assert linear[62, 2, 2] > roots[62, 2, 2] and (linear[62, 2] != roots[62, 2]).any()
        assert linear[62, 2, 3] == 255
        page.get_by_label("hide the first token").check()
        expect(root(page)).to_have_attribute("data-thumbnails", "linear, first hidden")
        hidden = pixels_of(thumb)
        assert (hidden[:, :5, 3] == 0).all() and (hidden[62, 6:62, 3] == 255).all()

    def test_there_is_no_white_slab_in_the_dark(self, opened):
        page = opened(AttentionView(perfect_induction_model(), torch.arange(12)), color_scheme="dark")
        expect(root(page)).to_have_attribute("data-shown", "1.1")
        expect(root(page)).to_have_attribute("data-theme", "dark")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        image = np.asarray(Image.open(io.BytesIO(page.locator(".ik-circuitsvis").screenshot())).convert("L"))
        assert np.median(image) < 40
        assert image.max() > 150, "labels and strong attention stand out"

    def test_tokens_of_strangers_are_data(self, opened):
        model = hand_built_model([["idle"]])
        tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(HOSTILE)}, HOSTILE[0]))
        page = opened(AttentionView(model, list(range(len(HOSTILE))), tokenizer=tokenizer.to_str()), width=600)
        expect(root(page)).to_have_attribute("data-shown", "0.0")
        page.locator(".ik-circuitsvis canvas").hover()
        assert page.locator(".ik-circuitsvis img, .ik-circuitsvis script").count() == 0
        check_fits(page)

    def test_is_accessible(self, opened):
        page = opened(AttentionView(perfect_induction_model(), torch.arange(12)))
        expect(root(page)).to_have_attribute("data-shown", "1.1")
        check_accessibility(page)


def pixels_of(thumb: Locator) -> np.ndarray:
    """Rows, columns, channels of a small pattern."""
    side, data = thumb.locator("canvas").evaluate(
        """canvas => [canvas.width, [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.width).data]]"""
    )
    return np.array(data).reshape(side, side, 4)


def attended(thumb: Locator, n_tokens: int) -> list[int]:
    """The key that each query attends to most: in the light theme the darkest of its row."""
    pixels = pixels_of(thumb)
    middles = ((np.arange(n_tokens) + 0.5) * len(pixels) / n_tokens).astype(int)
    red = np.where(pixels[..., 3] > 0, pixels[..., 0], 256)[middles][:, middles]
    return red.argmin(1).tolist()


def rows_attended(page: Page, n_tokens: int) -> list[int]:
    """The key that each query attends to most, read off CircuitsVis' canvas; its plot is found by its blue cells."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    pixels = page.locator(".ik-circuitsvis canvas").evaluate(
        """canvas => {
            const { width, height } = canvas;
            return [width, height, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
        }"""
    )
    image = np.array(pixels[2], np.int64).reshape(pixels[1], pixels[0], 4)
    blue = (image[..., 3] > 0) & (image[..., 2] - image[..., 0] > 60)
    down, across = np.nonzero(blue.any(1))[0], np.nonzero(blue.any(0))[0]
    # The first query attends to itself, the last one stands in the last row, so blue cells span the plot's height.
    size = (down[-1] + 1 - down[0]) / n_tokens
    middles = ((np.arange(n_tokens) + 0.5) * size).astype(int)
    return [int(np.argmax(blue[down[0] + y, across[0] + middles[: query + 1]])) for query, y in enumerate(middles)]


@pytest.fixture(scope="module")
def ablations() -> dict[str, xr.Dataset]:
    model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
    tokens = repeated_random_tokens(40, 0, PromptSettings(4))
    kinds = {kind: scan_ablations(model, tokens, kind=kind, progress=False) for kind in ("full", "pattern_preserving")}
    sets = scan_ablations(model, tokens, [[(0, 0), (1, 0)], [(0, 1)], [(1, 1)]], progress=False)
    return {**kinds, "sets": sets, "random": compare_with_random_heads(model, tokens, [(1, 0)], progress=False)}


class TestAblationView:
    def test_both_kinds_of_a_chosen_head(self, opened, ablations):
        page = opened(AblationView(ablations["full"], ablations["pattern_preserving"], random=ablations["random"]))
        expect(root(page)).to_have_attribute("data-unit", "1.0")
        page.locator('[data-kind="full"] .ik-cells').focus()
        page.keyboard.press("ArrowUp")
        expect(root(page)).to_have_attribute("data-unit", "0.0")
        for kind in ("full", "pattern_preserving"):
            change = float(ablations[kind]["icl_score_change"][0, 0])
            text = page.locator(f'[data-kind="{kind}"] .ik-value').inner_text().replace("−", "-")
            assert float(text) == pytest.approx(change, abs=0.006)
        # The previous-token head serves the induction head's pattern alone.
        assert (
            page.locator('[data-kind="pattern_preserving"] .ik-value').inner_text()
            != page.locator('[data-kind="full"] .ik-value').inner_text()
        )
        expect(page.locator('[data-panel="positions"] .ik-value')).to_have_text("without 0.0")
        assert page.locator(".ik-line-kind-0").get_attribute("d") != page.locator(".ik-line-kind-1").get_attribute("d")
        page.locator('[data-choice="show"]').select_option(label="Change of mean loss")
        expect(root(page)).to_have_attribute("data-metric", "loss_change")
        expect(page.locator('[data-panel="random"] .ik-value')).to_have_text(re.compile(r"^1\.00, p 0\.\d{3}$"))
        expect(page.locator(".ik-draw")).to_have_count(ablations["random"].sizes["draw"])
        check_accessibility(page)

    def test_steps(self, opened, ablations):
        full = ablations["full"]
        half = (full * 0.5).assign(baseline_loss_by_position=full["baseline_loss_by_position"])
        series = xr.concat([full * 0, half, full], dim="step", combine_attrs="override")
        series = series.assign_coords(step=[0, 64, 128], tokens_seen=("step", [0, 6400, 12800]))
        page = opened(AblationView(series))
        expect(root(page)).to_have_attribute("data-step", "128")
        before = page.locator(".ik-line-kind-0").get_attribute("d")
        page.locator(".ik-slider").focus()
        page.keyboard.press("ArrowLeft")
        expect(root(page)).to_have_attribute("data-step", "64")
        expect(page.locator(".ik-slider")).to_have_attribute("aria-valuetext", "step 64, 6.4k tokens")
        change = float(page.locator('[data-kind="full"] .ik-value').inner_text())
        assert change == pytest.approx(float(full["icl_score_change"][1, 0]) / 2, abs=0.006)
        assert page.locator(".ik-line-kind-0").get_attribute("d") != before
        expect(page.locator('[data-panel="training"] .ik-heads path')).to_have_count(4)
        page.locator('[data-panel="training"] .ik-chart').click(position={"x": 56, "y": 40})
        expect(root(page)).to_have_attribute("data-step", "0")
        check_accessibility(page)

    def test_sets_of_heads(self, opened, ablations):
        labels = ["0.0 + 1.0", HOSTILE[1], HOSTILE[3]]
        page = opened(AblationView(ablations["sets"].assign_coords(ablation=labels)), width=600)
        expect(root(page)).to_have_attribute("data-unit", "0.0 + 1.0")
        page.locator('[data-unit="0.0 + 1.0"].ik-set-row').focus()
        page.keyboard.press("ArrowDown")
        expect(page.locator(".ik-set-row").nth(1)).to_be_focused()
        expect(page.locator(".ik-set-row").nth(1)).to_have_attribute("aria-pressed", "true")
        check_fits(page)
        check_accessibility(page)

    def test_missing_and_infinite_changes(self, opened, ablations):
        full = ablations["full"].copy(deep=True)
        full["icl_score_change"][0, 0], full["loss_by_position"][1, 0, 4] = np.nan, np.inf
        full.attrs["model"] = HOSTILE[0]
        page = opened(AblationView(full))
        expect(page.locator(".ik-line-baseline")).to_have_attribute("d", re.compile("^M"))
