"""A real browser: the system's Chromium, kept off the network, with what it requests and complains of written down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import xarray as xr
from browser.hosts import LAB, NOTEBOOK, VOILA, Server, serve
from browser.pages import N_STEPS, WINDOW, at_end, check_finite, check_fits
from playwright.sync_api import Browser, Page, expect, sync_playwright

from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """An open page and what happened on it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check_quiet(self, excused: Sequence[str] = ()) -> None:
        """Nothing was complained of, no alert is up and no hostile name has run.

        `excused` are parts of what the host itself complains of.
        """
        assert [each for each in self.complaints if not any(part in each for part in excused)] == []
        assert self.page.locator(".ik-alert:visible").count() == 0
        assert self.page.evaluate("window.hurt") is None

    def hosts(self) -> set[str | None]:
        """The hosts of all requests but those for data that the page has in hand."""
        return {urlsplit(url).hostname for url in self.requests if urlsplit(url).scheme not in ("data", "blob")}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("INDUCTIONKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail(f"no browser: install one of {', '.join(NAMES)}, or name its path in INDUCTIONKIT_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open an address in a fresh profile: `visit(url, width=1200, color_scheme="light")`.

    `prepare` is called with the page before it goes there.
    """
    contexts = []

    def open_page(
        url: str,
        width: int = 1200,
        height: int = 2200,
        color_scheme: str = "light",
        prepare: Callable[[Page], None] = lambda page: None,
    ) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=color_scheme)
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("websocket", lambda socket: visit.requests.append(socket.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None
        )
        prepare(visit.page)
        visit.page.goto(url)
        return visit

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def opened(visit, tmp_path) -> Iterator[Callable[..., Page]]:
    """Open the page that a widget saves: `opened(widget, width=600)`.

    It must end quiet, having asked nobody for anything, with finite shapes and nothing beyond its edge.
    """
    visits = []

    def open_widget(widget, **how) -> Page:
        visits.append(visit(widget.save(tmp_path / f"{len(visits)}.html").as_uri(), **how))
        expect(
            visits[-1].page.locator(".ik-root[data-theme] :is(.ik-panel, .ik-circuitsvis, .ik-missing)").first
        ).to_be_visible()
        return visits[-1].page

    yield open_widget
    for visited in visits:
        visited.check_quiet()
        assert {urlsplit(url).scheme for url in visited.requests} <= {"file", "data", "blob"}
        check_finite(visited.page)
        check_fits(visited.page)


@pytest.fixture(scope="session")
def history() -> xr.Dataset:
    return synthetic_history(n_steps=N_STEPS)


@pytest.fixture
def explorer(opened, history) -> Page:
    """The saved page of the synthetic history, at its last step, from where nothing plays by itself."""
    return opened(at_end(PhaseExplorer(history, phase=WINDOW)))


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory) -> Iterator[Server]:
    with serve(LAB, tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def notebook_server(tmp_path_factory) -> Iterator[Server]:
    with serve(NOTEBOOK, tmp_path_factory.mktemp("notebook")) as server:
        yield server


@pytest.fixture(scope="session")
def voila_server(tmp_path_factory) -> Iterator[Server]:
    with serve(VOILA, tmp_path_factory.mktemp("voila")) as server:
        yield server


@pytest.fixture
def lab(lab_server) -> Iterator[Server]:
    """JupyterLab, which must have no kernel left over for the next test."""
    yield lab_server
    lab_server.shut_down_kernels()
