"""How fast the explorer is in Chromium: first paint after the data are there, and step to paint.

python benchmarks/explorer.py [path to Chromium]

Wanted: 154 checkpoints x 144 heads paint within 500 ms and step within 16 ms (95th percentile), 154 x 1,024 within
33 ms; 12 heads on 512 tokens take at most a fifteenth of the 43 MB of a CircuitsVis cell; the bundled run's page 2 MB.
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from playwright.sync_api import Page, sync_playwright

from inductionkit import example_history, find_phase_change
from inductionkit.testing import synthetic_history
from inductionkit.widgets.phase_explorer import PhaseExplorer
from inductionkit.widgets.views import AttentionPattern

N_STEPS = 154
SHAPES = {"154 x 144": (12, 12, 64), "154 x 1,024": (32, 32, 64), "154 x 144, 512 tokens": (12, 12, 512)}
WINDOW = (8e6, 2e7)
# The page's own script is read to its end, then times the first picture and sixty steps of the slider. Painting follows
# the frame's callbacks; a message posted in one arrives once it is done.
PAINT = "const painted = () => new Promise((done) => requestAnimationFrame(() => { const { port1, port2 } = \
new MessageChannel(); port1.onmessage = () => done(performance.now()); port2.postMessage(0); }));"
FIRST = f"""async () => {{ {PAINT}
    while (!document.querySelector(".ik-root[data-step]")) await new Promise((done) => setTimeout(done, 1));
    return await painted() - window.arrived;
}}"""
STEPS = f"""async () => {{ {PAINT}
    const slider = document.querySelector(".ik-slider");
    const times = [];
    for (let index = 40; index < 100; index++) {{
        await painted();
        const [start, work] = [performance.now(), []];
        const ask = window.requestAnimationFrame;
        window.requestAnimationFrame = (draw) => ask.call(window, (now) => {{
            const began = performance.now();
            draw(now);
            work.push(performance.now() - began);
        }});
        slider.value = index;
        slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
        window.requestAnimationFrame = ask;
        // From the frame's callbacks to the end of its painting: the wait for the frame itself is the screen's.
        const frame = await new Promise((done) => requestAnimationFrame((now) => done(performance.now())));
        const end = await new Promise((done) => {{
            const {{ port1, port2 }} = new MessageChannel();
            port1.onmessage = () => done(performance.now());
            port2.postMessage(0);
        }});
        times.push(work.reduce((sum, part) => sum + part, 0) + end - frame);
    }}
    return times;
}}"""


def history_of(n_layers: int, n_heads: int, n_tokens: int) -> xr.Dataset:
    """A run of `N_STEPS` checkpoints with scores, losses and, of its last checkpoints, patterns on one text."""
    history = synthetic_history(n_steps=N_STEPS, n_layers=n_layers, n_heads=n_heads, n_text_tokens=1).isel(text=[0])
    dims = ("step", "layer", "head", "text", "query", "key")
    # One pattern for all, as a view without strides: a scan's would fill the memory at the largest of these sizes.
    uniform = np.round(255 * np.tri(n_tokens) / np.arange(1, n_tokens + 1)[:, None]).astype(np.uint8)
    pattern = np.broadcast_to(uniform, (N_STEPS, n_layers, n_heads, 1, n_tokens, n_tokens))
    loss = np.random.default_rng(0).normal(4, 1, (N_STEPS, 1, n_tokens)).astype(np.float32)
    token = np.array([[f" w{index}" for index in range(n_tokens)]], dtype=object)
    return history.drop_vars(["pattern", "token", "text_loss", "ov_lift"]).assign(
        pattern=(dims, pattern), text_loss=(("step", "text", "query"), loss), token=(("text", "query"), token)
    )


def measure(page: Page, path: Path) -> tuple[float, list[float]]:
    """First paint after the data are there, and step to paint, in milliseconds."""
    # The data are there once the page asks to unpack them.
    page.add_init_script(
        "const stream = globalThis.DecompressionStream; globalThis.DecompressionStream = class extends stream "
        "{ constructor(kind) { super(kind); window.arrived = performance.now(); } };"
    )
    page.goto(path.as_uri(), wait_until="commit")
    first = page.evaluate(FIRST)
    page.wait_for_timeout(500)
    return first, page.evaluate(STEPS)


def main(chromium: str) -> None:
    print(f"{'history':24}{'page':>9}{'first paint':>13}{'step median':>13}{'step p95':>10}")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless=new", "--no-sandbox"])
        for name, shape in SHAPES.items():
            path = PhaseExplorer(history_of(*shape), phase=WINDOW).save(Path(folder) / "page.html")
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            first, steps = measure(page, path)
            page.close()
            size, median, late = path.stat().st_size / 1e6, np.median(steps), np.percentile(steps, 95)
            print(f"{name:24}{size:6.2f} MB{first:10.0f} ms{median:10.1f} ms{late:7.1f} ms")
        browser.close()
        bundled = example_history()
        path = PhaseExplorer(bundled, phase=find_phase_change(bundled)).save(Path(folder) / "page.html")
        print(f"the bundled run's page: {path.stat().st_size / 1e6:.2f} MB")
    view = AttentionPattern(history_of(1, 12, 512).isel(step=[-1]))
    n_bytes = len(base64.b64encode(view._data)) + len(view._esm)
    print(f"12 heads on 512 tokens in a notebook: {n_bytes / 1e6:.2f} MB, 1/{43e6 / n_bytes:.0f} of CircuitsVis' 43 MB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or "chromium")
