"""The documentation: it builds without a warning, describes every public name, and its links work."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

import inductionkit
from inductionkit import plots, train

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PATHS = ("benchmarks", "docs", "examples", "inductionkit", "tests")  # a name in backticks that begins so is a path


class Links(HTMLParser):
    """The anchors of a page, and where it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given[name] for name in ("href", "src") if given.get(name)]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The documentation as pages; a warning of any kind is an error."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run([*command, DOCS, folder / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(built) -> dict[Path, Links]:
    return {page: Links(page) for page in built.rglob("*.html")}


@pytest.fixture(scope="module")
def documented(built) -> dict[str, object]:
    """What has an entry, by its full name."""
    inventory = InventoryFile.loads((built / "objects.inv").read_bytes(), uri="").data
    names = [name for kind, entries in inventory.items() if kind.startswith("py:") for name in entries]
    return {name: resolve(name) for name in names}


def resolve(name: str) -> object:
    """The object of a full name: of a module, or in one, or in a class in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def parameters(function: object) -> list[str]:
    """Names of the parameters that a caller gives."""
    given = list(inspect.signature(function).parameters.values())
    return [each.name for each in given if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


def untold(names: list[str], text: str | None) -> list[str]:
    return [name for name in names if not re.search(rf"\b{name}\b", text or "")]


def test_it_builds_without_a_warning(built):
    assert (built / "index.html").is_file()


def test_every_public_name_has_an_entry(documented):
    """In the module that has it; a name that the top level has too, there."""
    everything = {name: getattr(inductionkit, name) for name in inductionkit.__all__}
    modules = [each for each in everything.values() if inspect.ismodule(each)]
    top = {name for name, each in everything.items() if not inspect.ismodule(each)}
    assert len(modules) == 4
    public = {
        *(f"inductionkit.{name}" for name in top),
        *(f"{module.__name__}.{name}" for module in (*modules, train) for name in set(module.__all__) - top),
        *(f"inductionkit.plots.{name}" for name, each in vars(plots).items() if defined_in(plots, name, each)),
        "inductionkit.report.write_report",
    }
    assert len(public) > 90
    assert public - documented.keys() == set()


def defined_in(module: object, name: str, each: object) -> bool:
    return inspect.isfunction(each) and each.__module__ == module.__name__ and not name.startswith("_")


def test_every_parameter_of_a_function_is_told(documented):
    functions = {name: each for name, each in documented.items() if inspect.isfunction(each)}
    assert len(functions) > 80
    names = {name: [one for one in parameters(each) if one != "self"] for name, each in functions.items()}
    missing = {name: untold(names[name], each.__doc__) for name, each in functions.items()}
    assert {name: each for name, each in missing.items() if each} == {}


def test_every_parameter_of_a_class_is_told(documented):
    """In its own docstring, or in that of the class whose parameters they are."""
    classes = {name: each for name, each in documented.items() if inspect.isclass(each)}
    assert len(classes) > 30
    missing = {}
    for name, each in classes.items():
        maker = next(base for base in each.__mro__ if "__init__" in vars(base))
        if not issubclass(each, Exception):
            missing[name] = untold(parameters(maker.__init__)[1:], f"{each.__doc__} {maker.__doc__}")
    assert {name: each for name, each in missing.items() if each} == {}


def test_every_public_member_of_a_class_is_told(documented):
    missing = [
        f"{name}.{member}"
        for name, each in documented.items()
        if inspect.isclass(each)
        for member, value in vars(each).items()
        if not member.startswith("_") and isinstance(value, property | classmethod | staticmethod | type(resolve))
        if not inspect.getdoc(getattr(each, member))
    ]
    assert missing == []


def test_no_sentence_is_taken_for_a_type(built):
    """As napoleon does with what stands before a colon in the first line of a property."""
    mistaken = [page.name for page in built.rglob("reference/*.html") if ">Type<" in page.read_text(encoding="utf-8")]
    assert mistaken == []


def test_every_field_of_a_dataclass_is_told(documented):
    classes = {name: each for name, each in documented.items() if dataclasses.is_dataclass(each)}
    assert len(classes) > 10
    missing = {
        name: untold([field.name for field in dataclasses.fields(each)], each.__doc__) for name, each in classes.items()
    }
    assert {name: each for name, each in missing.items() if each} == {}


def test_links_lead_to_files_and_anchors_that_exist(built, pages):
    n_links, broken = 0, []
    for page, parsed in pages.items():
        for link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            n_links += 1
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchors = pages[target].anchors if target in pages else {""}
            if not target.is_file() or (target.suffix == ".html" and unquote(parts.fragment) not in anchors):
                broken.append(f"{page.relative_to(built)}: {link}")
    assert n_links > 1000
    assert broken == []


def test_paths_that_the_pages_name_exist():
    texts = {page.relative_to(DOCS): page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")}
    named = [
        (page, path)
        for page, text in texts.items()
        if page.parts[0] not in ("_made", "tutorials")
        for path in re.findall(rf"`((?:{'|'.join(PATHS)})/[^`\s]*)`", text)
    ]
    assert len(named) > 5
    assert [(page, path) for page, path in named if not (ROOT / path).exists()] == []


def test_every_tutorial_is_a_page(built):
    tutorials = {path.stem for path in (ROOT / "examples").glob("*.ipynb")}
    assert tutorials and {path.stem for path in (built / "tutorials").glob("*.html")} == tutorials
