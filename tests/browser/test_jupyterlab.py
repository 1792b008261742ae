"""PhaseExplorer in a real JupyterLab on loopback: the browser moves the view, and Python's traits follow."""

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
import pytest
from playwright.sync_api import Page, expect

import inductionkit.widgets
from inductionkit.testing import synthetic_history

START_S = 60
RUN_MS = 60_000
ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"
THEME_SETTINGS = "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
CELLS = [
    "from inductionkit.testing import synthetic_history\n"
    "from inductionkit.widgets import PhaseExplorer\n"
    "explorer = PhaseExplorer(synthetic_history(), window=(8e6, 2e7))\n"
    "explorer",
    "print('python has', explorer.step, explorer.head, explorer.text)",
    "explorer.step = explorer._steps[4]; explorer.head = (0, 2); explorer.text = 1; print('python set it')",
    "explorer.history = explorer.history.isel(step=slice(0, 5)); explorer.step = explorer._steps[-1]; print('short')",
    "explorer.history = synthetic_history(); print('grown')",
    "from inductionkit.widgets import _films\n"
    "from inductionkit.widgets.views import AttentionPattern\n"
    "_films.BUDGET_BYTES = 10_000  # less than one film: the browser must ask for most patterns\n"
    "pattern = AttentionPattern(synthetic_history())\n"
    "explorer.link(pattern)\n"
    "pattern",
    "print('python has', pattern.step, pattern.head, explorer.heads, pattern.heads)",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab server that asks the network for nothing."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "explorer.ipynb")
    # Announcements are fetched from the network, on a question that would lie over the notebook.
    write_json(folder / "config/labconfig/page_config.json", {"disabledExtensions": {ANNOUNCEMENTS: True}})
    write_json(folder / "settings" / THEME_SETTINGS, {"theme": "JupyterLab Dark"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The kernel imports the package that the tests import.
    packages = [str(Path(inductionkit.widgets.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    homes = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    environment = {**os.environ, **homes, "PYTHONPATH": os.pathsep.join(filter(None, packages))}
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    log = (folder / "lab.log").open("wb")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(server, f"{url}/api", folder / "lab.log")
        yield f"{url}/lab/tree/explorer.ipynb"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def wait_until_up(server: subprocess.Popen, url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"JupyterLab ended with status {server.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer within {START_S} s:\n{log.read_text()}")


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def run_cell(page: Page, number: int) -> None:
    """Run a cell; while JupyterLab still builds its window it may drop the keys, so until the prompt moves on."""
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    for _ in range(10):
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(700)
        if prompt.inner_text() != before:
            return
    pytest.fail(f"cell {number} does not run; its prompt stays {before}")


def printed_text(page: Page, number: int) -> str:
    return page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea-output").inner_text().strip()


def printed(page: Page, number: int, text: str) -> None:
    expect(page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea-output")).to_contain_text(
        text, timeout=RUN_MS
    )


def test_browser_and_python_move_together(visit, lab):
    steps = [int(step) for step in synthetic_history()["step"]]
    visited = visit(lab, height=1400)
    page = visited.page
    expect(page.locator(".jp-CodeCell").nth(2)).to_be_visible(timeout=RUN_MS)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first).to_be_visible(timeout=RUN_MS)
    run_cell(page, 0)
    root = page.locator(".jp-CodeCell").nth(0).locator(".ik-root")
    expect(root).to_have_attribute("data-step", str(steps[-1]), timeout=RUN_MS)
    canvas = root.locator(".ik-canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")

    page.locator(".ik-slider").fill("6")
    expect(root).to_have_attribute("data-step", str(steps[6]))
    expect(root.locator(".ik-overlay")).to_have_attribute("data-shown", re.compile("^6/"))
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
    page.locator('[data-choice="head"]').select_option("1.1")
    # ipywidgets holds a change back while the one before it is under way, so Python may learn of it a cell later.
    for _ in range(5):
        run_cell(page, 1)
        printed(page, 1, "python has")
        page.wait_for_timeout(300)
        if "(1, 1)" in printed_text(page, 1):
            break
    assert printed_text(page, 1) == f"python has {steps[6]} (1, 1) repeated words"

    # Single keys belong to the widget while it has the focus, not to the notebook's command mode.
    page.locator(".ik-slider").focus()
    page.keyboard.press("ArrowRight")
    expect(root).to_have_attribute("data-step", str(steps[7]))
    page.keyboard.press("Space")
    expect(page.locator(".ik-play")).to_have_attribute("aria-label", "Pause")
    page.keyboard.press("Space")
    expect(page.locator(".ik-play")).to_have_attribute("aria-label", "Play")
    for key in "bdd":
        page.keyboard.press(key)
    expect(page.locator(".jp-CodeCell")).to_have_count(len(CELLS))

    run_cell(page, 2)
    printed(page, 2, "python set it")
    expect(root).to_have_attribute("data-step", str(steps[4]))
    expect(root).to_have_attribute("data-head", "0.2")
    expect(root).to_have_attribute("data-text", "1")
    assert page.locator('[data-choice="text"] option:checked').inner_text() == "again"

    # An open explorer follows a history that grows; standing at its last step, it stays at the last.
    run_cell(page, 3)
    printed(page, 3, "short")
    expect(page.locator(".ik-slider")).to_have_attribute("max", "4")
    expect(root).to_have_attribute("data-step", str(steps[4]))
    page.locator(".ik-slider").focus()
    run_cell(page, 4)
    printed(page, 4, "grown")
    expect(page.locator(".ik-slider")).to_have_attribute("max", str(len(steps) - 1))
    expect(root).to_have_attribute("data-step", str(steps[-1]))
    expect(root).to_have_attribute("data-head", "0.2")
    expect(page.locator(".ik-root")).to_have_count(1)

    expect(root).to_have_attribute("data-theme", "dark")
    page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    expect(root).to_have_attribute("data-theme", "light")

    # A view in another cell moves with the explorer, and asks the kernel for the patterns that did not come along.
    run_cell(page, 5)
    view = page.locator(".jp-CodeCell").nth(5).locator(".ik-root")
    expect(view).to_have_attribute("data-step", str(steps[-1]), timeout=RUN_MS)
    first = page.locator(".jp-CodeCell").nth(0)
    first.locator(".ik-slider").fill("5")
    expect(view).to_have_attribute("data-step", str(steps[5]))
    expect(view.locator(".ik-overlay")).to_have_attribute("data-shown", "5/2/1")
    first.locator('[data-choice="head"]').select_option("1.3")
    expect(view.locator(".ik-overlay")).to_have_attribute("data-shown", "5/7/1")
    first.get_by_role("button", name="Highlight head 0.1").click()
    for _ in range(5):
        run_cell(page, 6)
        page.wait_for_timeout(300)
        if "((0, 1),) ((0, 1),)" in printed_text(page, 6):
            break
    assert printed_text(page, 6) == f"python has {steps[5]} (1, 3) ((0, 1),) ((0, 1),)"

    for alert in page.locator(".ik-alert").all():
        assert alert.is_hidden()
    assert visited.complaints == []
    addresses = [urlsplit(url) for url in visited.requests]
    hosts = {address.hostname for address in addresses if address.scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}
