"""CircuitView on its saved page, and the explorer's circuit: pointer, keys, steps, places, colours."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from browser.pages import HOSTILE, check_accessibility, check_fits, root, settled_box
from drawn_circuits import assembling_circuits, circuit_of, language_model_circuit, large_circuit
from playwright.sync_api import Locator, Page, expect

from inductionkit.testing import synthetic_history
from inductionkit.widgets import CircuitView, PhaseExplorer

WIDTHS = [1300, 900, 390]


def node(page: Page, name: str) -> Locator:
    return page.locator(f'.ik-node[data-head="{name}"]')


def edge(page: Page, name: str) -> Locator:
    return page.locator(f'.ik-edge[data-edge="{name}"]')


def card(page: Page) -> dict[str, str]:
    """What the card says: its title, and each name with its value."""
    shown = page.locator(".ik-card")
    expect(shown).to_be_visible()
    rows = dict(zip(shown.locator("dt").all_inner_texts(), shown.locator("dd").all_inner_texts()))
    return {"title": shown.locator("p").first.inner_text(), **rows}


def lit(page: Page, kind: str) -> set[str]:
    return set(
        page.locator(f".{kind}.is-lit").evaluate_all("all => all.map(one => one.dataset.head ?? one.dataset.edge)")
    )


class TestPointer:
    def test_a_head_shows_its_figures_and_its_edges(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        node(page, "18.6").hover()
        shown = card(page)
        assert shown["title"] == "18.6 induction"
        assert shown["prefix matching"] == ".91" and shown["total lift"] == "+2.11 nats"
        assert shown["loss without it (estimated)"] == "+2.38 nats"
        assert shown["16.0 K"] == ".44 (measured .71)" and shown["24.4 V"] == "−.14"
        assert lit(page, "ik-edge") == {
            "16.0 18.6 K", "17.8 18.6 Q", "1.4 18.6 Q", "3.2 18.6 Q", "18.6 23.7 V", "18.6 24.4 V", "18.6 23.2 V",
            "18.6 20.6 Q", "18.6 28.6 V",
        }  # fmt: skip
        assert lit(page, "ik-node") == {"18.6", "16.0", "17.8", "1.4", "3.2", "23.7", "24.4", "23.2", "20.6", "28.6"}
        page.locator(".ik-sentence").hover()
        expect(page.locator(".ik-card")).to_be_hidden()
        assert lit(page, "ik-edge") == set()

    def test_an_edge_shows_its_share(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        page.mouse.move(*point_on(edge(page, "16.0 17.3 K")))
        assert card(page) == {
            "title": "16.0 → 17.3 K: its keys",
            "share of the score gap": ".78",
            "measured by ablation": ".74",
        }
        assert lit(page, "ik-node") == {"16.0", "17.3"}
        page.mouse.move(*point_on(edge(page, "23.7 24.4 V")))
        assert card(page) == {
            "title": "23.7 → 24.4 V: its values",
            "share of the sender's lift": "−.22",
            "measured by ablation": "no",
        }

    def test_a_click_opens_a_heads_attention(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        assert root(page, "head") == "18.6"
        page.locator(".ik-overlay").focus()
        assert page.locator(".ik-readout code").all_inner_texts() == ["·and", "·the"]
        node(page, "16.0").click()
        expect(page.locator(".ik-root")).to_have_attribute("data-head", "16.0")
        expect(node(page, "16.0")).to_have_attribute("aria-pressed", "true")
        expect(page.locator('[data-panel="pattern"] .ik-value')).to_have_text("head 16.0")
        assert page.locator(".ik-readout code").all_inner_texts() == ["·and", "·slow"], "the previous token"

    def test_shares_below_zero_have_a_sign(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        signed = page.locator(".ik-edge:has(.ik-edge-minus:visible)").evaluate_all(
            "all => all.map(e => e.dataset.edge)"
        )
        assert set(signed) == {"17.8 20.6 Q", "18.6 24.4 V", "20.6 24.4 V", "23.7 24.4 V"}

    def test_a_wider_edge_has_the_larger_share_and_sides_differ_in_their_dashes(self, opened):
        circuit = language_model_circuit()
        page = opened(CircuitView(circuit))
        widths = {}
        for row in circuit.edges.itertuples():
            name = f"{row.from_layer}.{row.from_head} {row.to_layer}.{row.to_head} {row.side}"
            line = edge(page, name).locator(".ik-edge-line")
            widths[name] = (abs(row.share), float(line.get_attribute("stroke-width")))
            assert (line.get_attribute("stroke-dasharray") == "none") == (row.side == "K")
            assert line.get_attribute("stroke-dasharray").startswith("0 ") == (row.side == "V")
        shares, drawn = zip(*sorted(widths.values()))
        assert list(drawn) == sorted(drawn) and drawn[0] >= 1
        assert len(set(drawn)) == len(set(shares))


def point_on(place: Locator) -> tuple[float, float]:
    """A place on the page at which the pointer meets this edge and no node or other edge."""
    found = place.locator(".ik-edge-hit").evaluate(
        """path => {
            const length = path.getTotalLength(), matrix = path.getScreenCTM();
            for (let part = 0.2; part < 0.9; part += 0.02) {
                const { x, y } = path.getPointAtLength(part * length).matrixTransform(matrix);
                if (document.elementFromPoint(x, y) === path) return [x, y];
            }
            return null;
        }"""
    )
    assert found, "no part of the edge can be pointed at"
    return tuple(found)


class TestKeys:
    def test_arrows_go_through_all_heads(self, opened):
        circuit = language_model_circuit()
        page = opened(CircuitView(circuit))
        expect(page.locator('.ik-node[tabindex="0"]')).to_have_count(1)
        page.locator('.ik-node[tabindex="0"]').focus()
        page.keyboard.press("Home")
        seen = [focused(page)]
        for _ in range(len(circuit.nodes) - 1):
            page.keyboard.press("ArrowRight")
            seen.append(focused(page))
        assert set(seen) == {f"{layer}.{head}" for layer, head in circuit.nodes.index}
        layers = [int(name.split(".")[0]) for name in seen]
        assert layers == sorted(layers), "row by row upwards"
        page.keyboard.press("ArrowRight")
        assert focused(page) == seen[-1]
        page.keyboard.press("ArrowDown")
        assert int(focused(page).split(".")[0]) == 27
        assert card(page)["title"].startswith(focused(page))
        page.keyboard.press("Enter")
        expect(page.locator(".ik-root")).to_have_attribute("data-head", "27.0")
        page.keyboard.press("Escape")
        expect(page.locator(".ik-card")).to_be_hidden()

    def test_up_and_down_go_to_the_next_layer_that_takes_part(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        node(page, "3.2").focus()
        page.keyboard.press("ArrowUp")
        assert focused(page) == "11.5"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert focused(page) == "1.4"

    def test_readers_hear_what_a_head_does(self, opened):
        page = opened(CircuitView(language_model_circuit()))
        told = node(page, "20.6").get_attribute("aria-label")
        assert told.startswith("20.6 +0.35 nats, induction: ")
        assert "prefix matching .61" in told and "loss without it (estimated) +0.35 nats" in told
        assert "from 16.0 K .24 (measured .33), 18.6 Q .11, 17.8 Q −.09; to 24.4 V −.08" in told


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.dataset.head")


class TestSteps:
    def test_heads_grow_and_edges_appear_where_they_stay(self, opened):
        circuits = assembling_circuits()
        view = CircuitView(circuits)
        view.head = "16.0"
        page = opened(view)
        assert root(page, "step") == "1600"
        places = node_places(page)
        last = size(node(page, "16.0"))
        page.locator(".ik-slider").focus()
        for step, circuit in reversed(list(circuits.items())[:-1]):
            page.keyboard.press("ArrowLeft")
            expect(page.locator(".ik-root")).to_have_attribute("data-step", str(step))
            present = page.locator(".ik-node:not(.is-absent)").evaluate_all("all => all.map(one => one.dataset.head)")
            assert set(present) == {f"{layer}.{head}" for layer, head in circuit.nodes.index}
            assert page.locator(".ik-edge:not(.is-absent)").count() == len(circuit.edges)
            assert node_places(page) == places
            assert size(node(page, "16.0")) < last
            last = size(node(page, "16.0"))
        assert page.locator('.ik-node[tabindex="0"]').count() <= 1

    def test_it_plays(self, opened):
        view = CircuitView(assembling_circuits())
        view.step = 0
        page = opened(view)
        page.get_by_role("button", name="Play").click()
        expect(page.locator(".ik-root")).to_have_attribute("data-step", "1600")
        expect(page.get_by_role("button", name="Play")).to_be_visible()

    def test_one_circuit_has_no_slider(self, opened):
        assert opened(CircuitView(language_model_circuit())).locator(".ik-slider, .ik-play").count() == 0

    def test_a_step_is_painted_within_a_frame(self, opened):
        page = opened(CircuitView(assembling_circuits(range(40))))
        spent = page.evaluate(
            """async () => {
                const slider = document.querySelector(".ik-slider"), spent = [];
                const frame = () => new Promise(done => requestAnimationFrame(done));
                for (let step = 0; step < 40; step++) {
                    slider.value = step;
                    const start = performance.now();
                    slider.dispatchEvent(new Event("input"));
                    await frame();
                    document.querySelector(".ik-circuit").getBoundingClientRect();
                    spent.push(performance.now() - start);
                    await frame();
                }
                return spent.sort((one, other) => one - other)[20];
            }"""
        )
        assert spent < 33, f"{spent:.0f} ms from the slider to the end of its frame"


def node_places(page: Page) -> dict[str, str]:
    return dict(
        page.locator(".ik-node").evaluate_all("all => all.map(e => [e.dataset.head, e.getAttribute('transform')])")
    )


def size(place: Locator) -> float:
    return float(re.search(r"scale\(([\d.]+)\)", place.locator(".ik-node-mark").get_attribute("style"))[1])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("make", [language_model_circuit, large_circuit])
def test_nothing_lies_on_another_head_or_label(opened, make, width):
    circuit = make()
    page = opened(CircuitView(circuit), width=width)
    settled_box(page.locator(".ik-circuit"))
    boxes = page.locator(".ik-node").evaluate_all(
        """all => all.flatMap(node => [...node.querySelectorAll(".ik-node-mark, text")].map(part => {
            const { left, right, top, bottom } = part.getBoundingClientRect();
            return [node.dataset.head, left, right, top, bottom];
        }))"""
    )
    assert len({name for name, *_ in boxes}) == len(circuit.nodes)
    edges_of_svg = page.locator(".ik-circuit").bounding_box()
    for name, left, right, top, bottom in boxes:
        assert edges_of_svg["x"] <= left and right <= edges_of_svg["x"] + edges_of_svg["width"] + 1, name
        for other, from_x, to_x, from_y, to_y in boxes:
            if other < name:
                assert right <= from_x or to_x <= left or bottom <= from_y or to_y <= top, f"{name} and {other}"
    labels = page.locator(".ik-circuit .ik-axis text").evaluate_all(
        "all => all.map(text => text.getBoundingClientRect()).map(({ right, top, bottom }) => [right, top, bottom])"
    )
    tops = sorted((top, bottom) for _, top, bottom in labels)
    assert all(bottom <= top + 1 for (_, bottom), (top, _) in pairwise(tops)), "numbers of layers"
    assert max(right for right, _, _ in labels) <= min(left for _, left, *_ in boxes)
    curves = page.locator(".ik-edge-line").evaluate_all(
        "all => all.map(path => path.getBBox()).map(({ x, width }) => [x, x + width])"
    )
    assert min(np.ravel(curves)) >= 0 and max(np.ravel(curves)) <= edges_of_svg["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_contrast_with_the_ground_in_both_themes(opened, scheme):
    page = opened(CircuitView(assembling_circuits()), color_scheme=scheme)
    check_accessibility(page)
    colours = page.evaluate(
        """() => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const rgb = colour => {
                canvas.fillStyle = colour;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const style = (element, name) => getComputedStyle(element)[name];
            const all = (selector, use) => [...document.querySelectorAll(selector)].map(use);
            const fill = e => e.classList.contains("ik-role-prefix-matching") ? "stroke" : "fill";
            const ground = rgb(style(document.querySelector(".ik-root"), "backgroundColor"));
            return {
                ground,
                nodes: all(".ik-circuit .ik-node-mark", e => rgb(style(e, fill(e)))),
                edges: all(".ik-circuit .ik-edge-line", e => rgb(style(e, "stroke")).map((own, channel) => {
                    const opacity = Number(style(e, "strokeOpacity"));
                    return own * opacity + ground[channel] * (1 - opacity);
                })),
            };
        }"""
    )
    for kind in ("nodes", "edges"):
        worst = min(contrast(colour, colours["ground"]) for colour in colours[kind])
        assert worst >= 3, f"{kind}: {worst:.2f}"
    assert len({tuple(colour) for colour in colours["nodes"]}) == 7


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[float]) -> float:
        share = np.array(colour) / 255
        return float(
            np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_names_of_strangers_are_data(opened):
    circuit = language_model_circuit(len(HOSTILE) + 1)
    tokens = ["\n", *HOSTILE][: len(circuit.tokens)]
    page = opened(CircuitView(replace(circuit, tokens=tokens, model="".join(HOSTILE))), width=390)
    expect(page.locator(".ik-token")).to_have_count(len(tokens))
    assert page.locator(".ik-root :is(img, script)").count() == 0
    node(page, "16.0").hover()
    check_fits(page)


def test_an_empty_circuit_says_so(opened):
    page = opened(CircuitView(circuit_of([], [], 2, 2)))
    expect(page.locator(".ik-missing")).to_have_text("no head takes part in an induction circuit")
    check_accessibility(page)


def test_a_card_is_not_cut_off_where_the_circuit_is_lower(opened):
    view = CircuitView(replace(language_model_circuit(), n_layers=30))
    page = opened(view, width=390)
    node(page, "28.6").hover()
    box, svg = page.locator(".ik-card").bounding_box(), page.locator(".ik-circuit").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] >= svg["y"]


class TestExplorer:
    @pytest.fixture
    def explorer(self, opened, monkeypatch) -> Page:
        history = synthetic_history(n_steps=6)
        shape = history.sizes["layer"], history.sizes["head"]
        nodes = [("0.1", "previous-token", 0, 0.9, 0, 0, 1, 3), ("1.0", "induction", 0.8, 0, 0, 0.5, 2, 1.5)]
        whole = circuit_of(nodes, [("0.1", "1.0", "K", 0.7, np.nan)], *shape)
        found = [*[circuit_of([], [], *shape)] * 3, *[whole] * 3]
        monkeypatch.setattr("inductionkit.widgets._circuit_data.circuits_of", lambda history: found)
        return opened(PhaseExplorer(history.assign(edge_share=(("step", "edge"), np.ones((6, 1))))))

    def test_the_circuit_shares_the_slider_and_the_head(self, explorer):
        expect(explorer.locator(".ik-node:not(.is-absent)")).to_have_count(2)
        node(explorer, "0.1").click()
        expect(explorer.locator(".ik-root")).to_have_attribute("data-head", "0.1")
        expect(explorer.locator('[data-panel="pattern"] .ik-value')).to_have_text("head 0.1")
        explorer.locator(".ik-slider").fill("2")
        expect(explorer.locator(".ik-node:not(.is-absent)")).to_have_count(0)
        expect(explorer.locator(".ik-edge:not(.is-absent)")).to_have_count(0)

    def test_a_head_pointed_at_elsewhere_is_brought_out_without_a_card(self, explorer):
        x, y = (float(explorer.locator('[data-panel="grid"] .ik-cell-chosen').get_attribute(name)) for name in "xy")
        explorer.locator('[data-panel="grid"] .ik-cells').hover(position={"x": x + 5, "y": y + 5})
        expect(node(explorer, root(explorer, "head"))).to_have_class(re.compile("is-lit"))
        expect(explorer.locator(".ik-card")).to_be_hidden()

    def test_a_card_of_a_low_circuit_lies_on_the_view_below(self, explorer):
        node(explorer, "1.0").hover()
        seen = explorer.locator(".ik-card").evaluate(
            """card => {
                card.style.pointerEvents = "auto";
                const { left, right, bottom } = card.getBoundingClientRect();
                return card.contains(document.elementFromPoint((left + right) / 2, bottom - 4));
            }"""
        )
        assert seen
        check_accessibility(explorer)
