"""Jupyter servers on loopback that ask the network for nothing, and what a test does with a notebook open in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from playwright.sync_api import Locator, Page, expect

import inductionkit

START_S = 60
RUN_MS = 60_000
# Announcements are fetched from the network, on a question that would lie over the notebook.
PAGE_CONFIG = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
THEME_SETTINGS = "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
JUPYTER_OPTIONS = {
    "ServerApp.ip": "127.0.0.1",
    "ServerApp.port_retries": 0,
    "ServerApp.open_browser": False,
    "ServerApp.allow_root": True,
    "ServerApp.disable_check_xsrf": True,
    "IdentityProvider.token": "",
    "LabApp.news_url": None,
    "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    "LabApp.extension_manager": "readonly",
}
UNANSWERED = "Canceled future for"  # Jupyter's own questions, when a kernel goes before it has answered them
NOT_SENT = "Could not send widget sync message"  # ipywidgets, when a widget moves and there is no kernel
UNKNOWN_SCHEMA = "of undefined (reading 'schema')"  # Notebook, when it opens any notebook at all
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True)
class Host:
    """A program that shows notebooks: the module it is started by, its options, and where it shows a notebook.

    `complaints` are parts of what it writes to the console by itself.
    """

    module: str
    address: str
    options: dict[str, object]
    complaints: tuple[str, ...] = (UNANSWERED, NOT_SENT)
    port: str = "ServerApp.port"
    root: str = "ServerApp.root_dir"


LAB = Host(
    "jupyterlab",
    # A workspace of its own, so that no earlier notebook is opened beside it.
    "lab/workspaces/{name}/tree/{name}.ipynb",
    JUPYTER_OPTIONS | {"LabApp.expose_app_in_browser": True},
)
NOTEBOOK = Host(
    "notebook",
    "notebooks/{name}.ipynb",
    JUPYTER_OPTIONS | {"JupyterNotebookApp.expose_app_in_browser": True},
    complaints=(UNANSWERED, NOT_SENT, UNKNOWN_SCHEMA),
)
VOILA = Host(
    "voila",
    "voila/render/{name}.ipynb",
    {
        "Voila.ip": "127.0.0.1",
        "Voila.port_retries": 0,
        "Voila.open_browser": False,
        # Notebook's own extension does not load there, and says so.
        "VoilaConfiguration.extension_denylist": ["@jupyter-notebook/lab-extension"],
    },
    port="Voila.port",
    root="Voila.root_dir",
)


@dataclass(frozen=True)
class Server:
    """A running host and the folder of its notebooks."""

    host: Host
    folder: Path
    url: str

    def address(self, name: str, notebook: nbformat.NotebookNode | Sequence[str]) -> str:
        """Where the server shows a notebook, or one of these cells, which it is given as `name`."""
        if not isinstance(notebook, nbformat.NotebookNode):
            notebook = notebook_of(notebook)
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        # Jupyter shows the widgets of notebooks that it trusts.
        NotebookNotary(data_dir=str(self.folder / "data")).sign(notebook)
        return f"{self.url}/{self.host.address.format(name=name)}"

    def shut_down_kernels(self) -> None:
        with urllib.request.urlopen(f"{self.url}/api/kernels", timeout=5) as answer:
            kernels = json.load(answer)
        for kernel in kernels:
            request = urllib.request.Request(f"{self.url}/api/kernels/{kernel['id']}", method="DELETE")
            urllib.request.urlopen(request, timeout=15).close()


@contextmanager
def serve(host: Host, folder: Path) -> Iterator[Server]:
    """The host, started over `folder`, with settings and data of its own and in the dark theme."""
    (folder / "data").mkdir()
    write_json(folder / "config/labconfig/page_config.json", PAGE_CONFIG)
    write_json(folder / "settings" / THEME_SETTINGS, {"theme": "JupyterLab Dark"})
    # The kernel imports the package that the tests import, and the tests' own helpers.
    packages = [Path(inductionkit.__file__).parents[1], Path(__file__).parents[1], os.environ.get("PYTHONPATH", "")]
    homes = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {**host.options, host.port: port, host.root: folder}
    path = folder / "server.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", host.module, *(f"--{name}={value}" for name, value in options.items())],
            env={**os.environ, **homes, "PYTHONPATH": os.pathsep.join(str(path) for path in packages if path)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_up(process, url, path)
            yield Server(host, folder, url)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(process: subprocess.Popen, url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"the server ended with status {process.returncode}:\n{log.read_text()}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not answer within {START_S} s:\n{log.read_text()}")


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def notebook_of(cells: Sequence[str], kernel: dict[str, str] = PYTHON) -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = kernel
    return notebook


def cell(page: Page, number: int) -> Locator:
    return page.locator(".jp-CodeCell").nth(number)


def wait_for_kernel(page: Page) -> None:
    """Until the notebook is open and its kernel answers; JupyterLab and Notebook alike."""
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady", timeout=RUN_MS)
    expect(cell(page, 0)).to_be_visible(timeout=RUN_MS)
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.ready")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel?.status === 'idle'",
        timeout=RUN_MS,
    )


def shut_kernel_down(page: Page) -> None:
    """As its menu does."""
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel")


def run_cell(page: Page, number: int) -> None:
    """Run a cell and wait until it has run, by the command that Shift+Enter stands for: no key can get lost."""
    done = page.evaluate(
        """async (number) => {
            const { commands, shell } = window.jupyterapp;
            shell.currentWidget.content.activeCellIndex = number;
            return await commands.execute("notebook:run-cell");
        }""",
        number,
    )
    assert done is not False, f"cell {number} does not run"


def printed(page: Page, number: int) -> str:
    """What a cell that has run printed."""
    output = cell(page, number).locator(".jp-OutputArea-output")
    expect(output).not_to_be_empty(timeout=RUN_MS)
    return output.inner_text().strip()


def rerun_until_printed(page: Page, number: int, text: str) -> None:
    """Run a cell until it prints `text`: ipywidgets holds a change back while the one before it is under way."""
    until = time.monotonic() + RUN_MS / 1000
    while True:
        run_cell(page, number)
        if (seen := printed(page, number)) == text:
            return
        assert time.monotonic() < until, f"cell {number} prints {seen!r}, not {text!r}"
