"""HeadScan, AttentionView and AblationView in a real browser: saved pages, and AttentionView live in JupyterLab."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
import torch
import xarray as xr
from ipywidgets.embed import dependency_state, embed_data
from nbformat.sign import NotebookNotary
from playwright.sync_api import Page, expect
from tokenizers import Tokenizer, models

import inductionkit.widgets
from inductionkit.ablation import ablate_heads, compare_with_random_heads
from inductionkit.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model, perfect_induction_model
from inductionkit.widgets.ablation_view import AblationView
from inductionkit.widgets.attention_view import AttentionView
from inductionkit.widgets.head_scan_view import HeadScan

AXE = Path(inductionkit.widgets.__file__).parent / "frontend/node_modules/axe-core/axe.min.js"
PER_HEAD = ("layer", "head")
HOSTILE = [
    "<img src=x onerror=window.hurt=1>",
    "</script><script>window.hurt=1</script>",
    "\u202eabc\u2066",
    "x" * 10_000,
]


@pytest.fixture
def opened(visit, tmp_path):
    """Open the page that a widget saves; it must end without complaint, request or script of a stranger."""
    visits = []

    def open_page(widget, width: int = 1200) -> Page:
        visited = visit(widget.save(tmp_path / "page.html").as_uri(), width=width)
        expect(visited.page.locator(".ik-root[data-theme]")).to_be_visible()
        visits.append(visited)
        return visited.page

    yield open_page
    for visited in visits:
        assert visited.page.evaluate("window.hurt") is None
        assert visited.page.locator(".ik-alert").is_hidden()
        assert visited.complaints == []
        assert {urlsplit(url).scheme for url in visited.requests} <= {"file", "data", "blob"}


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


def root(page: Page):
    return page.locator(".ik-root")


def check_accessibility(page: Page) -> None:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run('.ik-root').then(({ violations }) => violations)")
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


class TestHeadScan:
    def test_a_head_chosen_anywhere_is_chosen_everywhere(self, opened):
        page = opened(HeadScan(some_scores()))
        expect(root(page)).to_have_attribute("data-head", "1.0")
        expect(root(page)).to_have_attribute("data-heads", "0.2 1.0")
        page.locator('.ik-table tr[data-head="1.1"] .ik-head-button').click()
        expect(root(page)).to_have_attribute("data-head", "1.1")
        expect(page.locator('.ik-map[data-score="copying"] .ik-value')).to_have_text("−0.80")
        expect(page.locator('[data-panel="scatter"] .ik-value')).to_have_text("head 1.1: 0.70, −0.80")
        dot, chosen = page.locator('.ik-dot[data-head="1.1"]'), page.locator(".ik-dot-chosen")
        assert [dot.get_attribute(name) for name in ("cx", "cy")] == [chosen.get_attribute(n) for n in ("cx", "cy")]
        expect(page.locator(".ik-sr")).to_contain_text("head 1.1: prefix matching 0.70, copying −0.80")

        page.locator('.ik-dot[data-head="0.2"]').click()
        expect(root(page)).to_have_attribute("data-head", "0.2")
        expect(page.locator(".ik-table tr.is-chosen")).to_have_attribute("data-head", "0.2")
        # The map of the second score, its first cell.
        page.locator('.ik-map[data-score="copying"] .ik-overlay').click(position={"x": 40, "y": 10})
        expect(root(page)).to_have_attribute("data-head", "0.0")

    def test_hovering_shows_a_head_without_choosing_it(self, opened):
        page = opened(HeadScan(some_scores()))
        page.locator('.ik-table tr[data-head="1.2"]').hover()
        expect(page.locator('.ik-map[data-score="logit_lift"] .ik-value')).to_have_text("−3.00")
        expect(page.locator('[data-panel="maps"] .ik-head .ik-value')).to_have_text("head 1.2")
        expect(root(page)).to_have_attribute("data-head", "1.0")

    def test_keys_move_the_choice(self, opened):
        page = opened(HeadScan(some_scores()))
        page.locator('.ik-map[data-score="prefix_matching"] .ik-overlay').focus()
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
        page.locator('[data-mark="meets"]').click()
        expect(root(page)).to_have_attribute("data-heads", "0.2 1.0")
        expect(page.locator('[data-panel="table"] .ik-head .ik-value')).to_have_text("2 marked of 6")

    def test_axes_and_thresholds(self, opened):
        page = opened(HeadScan(some_scores(), min_prefix_matching=0.45))
        expect(page.locator(".ik-threshold")).to_have_count(2)
        x = float(page.locator(".ik-threshold").first.get_attribute("x1"))
        dots = [float(page.locator(f'.ik-dot[data-head="{head}"]').get_attribute("cx")) for head in ("0.2", "1.1")]
        # 0.45 between 0.4 and 0.7 on one linear axis.
        assert x == pytest.approx(dots[0] + (dots[1] - dots[0]) * 0.05 / 0.3, abs=0.1)
        page.locator('[data-choice="up"]').select_option(label="logit lift")
        expect(page.locator(".ik-threshold")).to_have_count(1)
        expect(page.locator('[data-panel="scatter"] .ik-value')).to_have_text("head 1.0: 0.90, 6.00")

    def test_names_of_strangers_and_numbers_beyond_numbers(self, opened):
        scores = some_scores(logit_lift=HOSTILE[0], copying=HOSTILE[2])
        scores[HOSTILE[0]][0, 0] = np.inf
        scores.attrs |= {"model": HOSTILE[1], "unscored": json.dumps({HOSTILE[3]: HOSTILE[1]})}
        page = opened(HeadScan(scores), width=600)
        expect(page.locator(".ik-map")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        assert "⟨U+202E⟩" in page.locator(".ik-maps").inner_text()

    def test_one_head_of_one_score(self, opened):
        page = opened(HeadScan(some_scores().isel(layer=[1], head=[0])[["logit_lift"]]))
        expect(page.locator('[data-panel="scatter"]')).to_have_count(0)
        assert order(page) == ["1.0"]

    def test_is_accessible(self, opened):
        check_accessibility(opened(HeadScan(some_scores())))


class TestAttentionView:
    def test_each_head_is_drawn_by_circuitsvis(self, opened):
        model = perfect_induction_model()
        tokens = repeated_random_tokens(40, 0, PromptSettings(1, n_distinct=10, n_repeats=2))[0]
        page = opened(AttentionView(model, tokens))
        expect(root(page)).to_have_attribute("data-shown", "1.1")
        page.locator('[data-choice="head"]').select_option(label="1.0")
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

    def test_tokens_of_strangers_are_data(self, opened):
        model = hand_built_model([["idle"]])
        tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(HOSTILE)}, HOSTILE[0]))
        page = opened(AttentionView(model, list(range(len(HOSTILE))), tokenizer=tokenizer.to_str()), width=600)
        expect(root(page)).to_have_attribute("data-shown", "0.0")
        page.locator(".ik-circuitsvis canvas").hover()
        assert page.locator(".ik-circuitsvis img, .ik-circuitsvis script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 600

    def test_is_accessible(self, opened):
        page = opened(AttentionView(perfect_induction_model(), torch.arange(12)))
        expect(root(page)).to_have_attribute("data-shown", "1.1")
        check_accessibility(page)


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
    kinds = {kind: ablate_heads(model, tokens, kind=kind, progress=False) for kind in ("full", "pattern_preserving")}
    sets = ablate_heads(model, tokens, [[(0, 0), (1, 0)], [(0, 1)], [(1, 1)]], progress=False)
    return {**kinds, "sets": sets, "random": compare_with_random_heads(model, tokens, [(1, 0)], progress=False)}


class TestAblationView:
    def test_both_kinds_of_a_chosen_head(self, opened, ablations):
        page = opened(AblationView(ablations["full"], ablations["pattern_preserving"], random=ablations["random"]))
        expect(root(page)).to_have_attribute("data-unit", "1.0")
        page.locator('[data-kind="full"] .ik-overlay').focus()
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
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        check_accessibility(page)

    def test_missing_and_infinite_changes(self, opened, ablations):
        full = ablations["full"].copy(deep=True)
        full["icl_score_change"][0, 0], full["loss_by_position"][1, 0, 4] = np.nan, np.inf
        full.attrs["model"] = HOSTILE[0]
        page = opened(AblationView(full))
        expect(page.locator(".ik-line-baseline")).to_have_attribute("d", re.compile("^M"))


ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"
START_S = 60
RUN_MS = 60_000
CELLS = [
    "import torch\n"
    "from inductionkit.testing import perfect_induction_model\n"
    "from inductionkit.widgets.attention_view import AttentionView\n"
    "view = AttentionView(perfect_induction_model(), torch.arange(20))\n"
    "view",
    "view",
    "print('python has', view.head)",
    "view.head = (0, 1)",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab server on loopback that asks the network for nothing, with one notebook."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "attention.ipynb")
    (folder / "data").mkdir()
    saved = saved_notebook()
    nbformat.write(saved, folder / "saved.ipynb")
    # Jupyter shows the widgets of notebooks that it trusts.
    NotebookNotary(data_dir=str(folder / "data")).sign(saved)
    settings = folder / "config/labconfig/page_config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"disabledExtensions": {ANNOUNCEMENTS: True}}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    packages = [str(Path(inductionkit.widgets.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    homes = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
        env={**os.environ, **homes, "PYTHONPATH": os.pathsep.join(filter(None, packages))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < until and server.poll() is None, "JupyterLab does not answer"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree"
    finally:
        server.terminate()
        server.wait(15)


def saved_notebook() -> nbformat.NotebookNode:
    """A notebook with one output of each widget, saved with its widgets' state by a kernel long gone."""
    tokens = repeated_random_tokens(40, 0, PromptSettings(2))
    model = perfect_induction_model()
    widgets = [
        HeadScan(some_scores()),
        AttentionView(model, tokens[0]),
        AblationView(ablate_heads(model, tokens, progress=False)),
    ]
    state = embed_data(views=widgets, state=dependency_state(widgets, drop_defaults=False))
    cells = [nbformat.v4.new_code_cell("raise RuntimeError('not to be run')", execution_count=1) for _ in widgets]
    for cell, view in zip(cells, state["view_specs"]):
        data = {"application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, **view}}
        cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state["manager_state"]}
    return notebook


def run_cell(page: Page, number: int) -> None:
    """Run a cell; while JupyterLab still builds its window it may drop the keys, so until the prompt moves on."""
    cell = page.locator(".jp-CodeCell").nth(number)
    before = cell.locator(".jp-InputPrompt").inner_text()
    for _ in range(10):
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(700)
        if cell.locator(".jp-InputPrompt").inner_text() != before:
            return
    pytest.fail(f"cell {number} does not run; its prompt stays {before}")


def test_attention_in_jupyterlab(visit, lab):
    visited = visit(f"{lab}/attention.ipynb", height=1400)
    page = visited.page
    expect(page.locator(".jp-CodeCell").nth(3)).to_be_visible(timeout=RUN_MS)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first).to_be_visible(timeout=RUN_MS)
    page.evaluate(
        """() => {
            const make = URL.createObjectURL;
            window.bundles = 0;
            URL.createObjectURL = (blob) => { if (blob.size > 1e6) window.bundles++; return make(blob); };
        }"""
    )
    run_cell(page, 0)
    views = page.locator(".ik-root")
    expect(views.first).to_have_attribute("data-shown", "1.1", timeout=RUN_MS)
    run_cell(page, 1)
    expect(views).to_have_count(2)
    expect(views.nth(1)).to_have_attribute("data-shown", "1.1", timeout=RUN_MS)
    assert page.evaluate("window.bundles") == 1, "CircuitsVis is loaded once for both views"

    views.first.locator('[data-choice="head"]').select_option(label="1.0")
    expect(views.nth(1)).to_have_attribute("data-shown", "1.0")
    run_cell(page, 2)
    expect(page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-output")).to_contain_text(
        "python has (1, 0)", timeout=RUN_MS
    )
    run_cell(page, 3)
    expect(views.first).to_have_attribute("data-shown", "0.1", timeout=RUN_MS)
    expect(page.locator(".ik-circuitsvis canvas")).to_have_count(2)

    assert page.locator(".ik-alert:visible").count() == 0
    assert visited.complaints == []
    hosts = {urlsplit(url).hostname for url in visited.requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}


def test_a_saved_notebook_shows_them_without_its_kernel(visit, lab):
    visited = visit(f"{lab}/saved.ipynb", height=2400)
    page = visited.page
    expect(page.locator(".ik-root")).to_have_count(3, timeout=RUN_MS)
    scan, attention, ablations = (page.locator(".ik-root").nth(index) for index in range(3))
    expect(attention).to_have_attribute("data-shown", "1.1", timeout=RUN_MS)
    attention.locator('[data-choice="head"]').select_option(label="1.0")
    expect(attention).to_have_attribute("data-shown", "1.0")
    scan.locator('.ik-table tr[data-head="1.1"] .ik-head-button').click()
    expect(scan).to_have_attribute("data-head", "1.1")
    expect(ablations).to_have_attribute("data-unit", "1.0")
    assert page.locator(".ik-alert:visible").count() == 0
    assert visited.complaints == []
