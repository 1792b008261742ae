"""What tests read off a widget's page, and the names and histories that must do nothing on one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import xarray as xr
from playwright.sync_api import Locator, Page, expect

import inductionkit.widgets
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer

WINDOW = (8e6, 2e7)
N_STEPS = 24
VIEWS = ["loss", "icl", "slopes", "trajectories", "grid", "scatter", "pattern", "text"]
AXE = Path(inductionkit.widgets.__file__).parent / "frontend/node_modules/axe-core/axe.min.js"

# Whatever runs of these sets `window.hurt`.
HOSTILE = [
    "<img src=x onerror='window.hurt = 1'>",
    "</script><script>window.hurt = 1</script>",
    "\u202eevil\u2066\u0007",
    "x" * 10_000,
]
HOSTILE_NAME = "".join(HOSTILE[:3])


def hostile_history() -> xr.Dataset:
    """A history of six tokens that each of its names tries to break out of."""
    image, script, bidi, long = HOSTILE
    tokens = [script, image, bidi, long, "a\u0301" * 300, "\n"]
    history = synthetic_history(n_text_tokens=len(tokens))
    history = history.assign(token=(("text", "query"), np.array([tokens, tokens], dtype=object)))
    history = history.assign_coords(text=["<b onclick='window.hurt = 1'>", f"</option>{script}"])
    history.attrs["model"] = f"</title>{script}"
    history["logit_lift"].attrs["units"] = f"\u202e{image}"
    return history


def at_end(explorer: PhaseExplorer) -> PhaseExplorer:
    """The explorer at its last step, where it opens without a window."""
    explorer.step = explorer._steps[-1]
    return explorer


def root(page: Page | Locator, name: str) -> str:
    return page.locator(".ik-root").get_attribute(f"data-{name}")


def panels(page: Page | Locator) -> list[str]:
    """The views by name, but for those of the hero strip."""
    return [panel.get_attribute("data-panel") for panel in page.locator(".ik-panel:not(.ik-hero *)").all()]


def value(page: Page | Locator, panel: str) -> str:
    return page.locator(f'[data-panel="{panel}"] .ik-value').inner_text()


def go_to(page: Page | Locator, index: int) -> None:
    """Move the explorer's slider, and wait until the pattern of its step is drawn."""
    page.locator(".ik-slider").fill(str(index))
    expect(page.locator(".ik-overlay")).to_have_attribute("data-shown", re.compile(rf"^{index}/"))


def axis_width(page: Page) -> float:
    """How wide the axes of the explorer's charts over training are, in the units of their shapes."""
    return (
        float(page.locator(".ik-window:not(.ik-hero *)").first.evaluate("r => r.ownerSVGElement.viewBox.baseVal.width"))
        - 14
    )


def marker_places(page: Page) -> list[float]:
    return [float(marker.get_attribute("data-x")) for marker in page.locator(".ik-marker:not(.ik-hero *)").all()]


def ink(page: Page | Locator, panel: str) -> int:
    """How many pixels of a view's canvas are drawn on."""
    return page.locator(f'[data-panel="{panel}"] .ik-layer').evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
            .reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0 ? 1 : 0), 0)"""
    )


def settled_box(place: Locator) -> dict[str, float]:
    """Where something is drawn, once it stands still from one frame to the next."""
    was, box = None, place.bounding_box()
    while box != was:
        place.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        was, box = box, place.bounding_box()
    return box


def vectors(page: Page, panel: str) -> dict[str, np.ndarray]:
    """From the origin to the tip of each vector, in pixels, up positive."""
    lines = page.locator(f'[data-panel="{panel}"] .ik-vector').evaluate_all(
        "all => all.map(g => [g.dataset.vector, ...['x1', 'y1', 'x2', 'y2']"
        ".map(name => +g.querySelector('line').getAttribute(name))])"
    )
    return {name: np.array([x2 - x1, y1 - y2]) for name, x1, y1, x2, y2 in lines}


def check_finite(page: Page) -> None:
    shapes = page.locator(".ik-root svg").evaluate_all("all => all.map(svg => svg.outerHTML).join()")
    assert not re.search(r'="[^"]*(NaN|Infinity|undefined)', shapes)


def check_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing overflows the page"


def check_accessibility(page: Page) -> None:
    """No serious violation of what axe-core knows."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run('.ik-root').then(({ violations }) => violations)")
    serious = [
        (violation["id"], [(node["target"], node["html"][:200]) for node in violation["nodes"]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
