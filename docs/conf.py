"""How the documentation is built: `make docs`. What the code knows already is generated from it, not written by hand.

Before each build the tutorials and the picture are copied from `examples/`, the gallery is written, and two tables
are made: the variables of a history from their definitions, the command line from its commands. What is made here stays
out of git.
"""

from __future__ import annotations

import dataclasses
import inspect
import runpy
import shutil
from collections.abc import Iterator
from importlib.metadata import version as version_of
from pathlib import Path

import typer
from docutils import nodes
from docutils.utils import unescape
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode
from traitlets import HasTraits

from inductionkit.cli import app as command_line
from inductionkit.history import VARIABLES, Variable
from inductionkit.scan import heads  # noqa: F401  importing it registers the head scores
from inductionkit.scores.score import SCORES

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PUBLIC = ("inductionkit", "inductionkit.phase", "inductionkit.ablation", "inductionkit.widgets")

project = "inductionkit"
release = version = version_of(project)
copyright = "the authors of inductionkit, MIT licence"
language = "en_GB"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_made"]
default_role = "name"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
# A notebook keeps no state of its widgets, so there is nothing to draw: the page shows a widget's text instead.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_attr_annotations = False
napoleon_google_docstring = False

html_theme = "furo"
html_title = f"inductionkit {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_extra_path = ["_made/extra"]
html_copy_source = False
html_show_sphinx = False


class NameRole(XRefRole):
    """A name in backticks: a link if an object has that name, code otherwise, and in both cases as it is written.

    With `warn_dangling` an object must have the name, and the link may show another text.
    """

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        refnode.update_all_atts({"refdomain": "py", "reftype": "obj"}, replace=True)
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        if self.warn_dangling:
            return title, target
        written = unescape(self.text)
        return written, written.removesuffix("()")


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.TextElement
) -> nodes.Element | None:
    """The public object of that name, for a name that does not belong to the module whose text names it."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    for place in PUBLIC:
        if found := objects.get(f"{place}.{node['reftarget']}"):
            return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, shown)
    return None


def readable_signature(app: Sphinx, what: str, name: str, obj: object, options: object, given: str, returns: str):
    """A signature with the parameters that a user passes.

    Widgets take theirs in `__init__`, behind a metaclass whose signature is `*args`; dataclasses show a default that is
    made for each instance as `<factory>`.
    """
    if what == "class" and issubclass(obj, HasTraits):
        taken = signature_of(obj.__init__, bound_method=True)
        given = stringify_signature(taken, show_return_annotation=False, unqualified_typehints=True)
    return given and given.replace("<factory>", "..."), returns


def copy_examples(folder: Path, made: Path) -> None:
    """Copy all tutorials into `folder`, and the picture of the explorer into `made`."""
    notebooks = sorted(EXAMPLES.glob("*.ipynb"))
    folder.mkdir(exist_ok=True)
    for stale in {path.name for path in folder.iterdir()} - {path.name for path in notebooks}:
        (folder / stale).unlink()
    for path in notebooks:
        shutil.copy2(path, folder)
    shutil.copy2(EXAMPLES / "explorer.png", made)


def variables_table() -> Iterator[str]:
    """The variables of a history as a Markdown table: the head scores, their nulls, then the rest."""
    scores = {name: score.variable for name, score in SCORES.items()}
    nulls = {f"{name}_null": null_of(name, variable) for name, variable in scores.items()}
    yield "| variable | dimensions | units | what | source |"
    yield "|---|---|---|---|---|"
    for name, variable in (scores | nulls | VARIABLES).items():
        cells = (f"`{name}`", ", ".join(variable.dims), variable.units, variable.long_name, variable.reference)
        yield f"| {' | '.join(cells)} |"


def null_of(name: str, variable: Variable) -> Variable:
    """The null distribution of a head score."""
    dims, what = ("null", *variable.dims[1:]), f"`{name}` on models whose matrices are drawn at random"
    return dataclasses.replace(variable, dims=dims, long_name=what)


def command_sections(app: typer.Typer) -> Iterator[str]:
    """Every command with the text of its `--help`."""
    group = typer.main.get_command(app)
    context = group.context_class(group, info_name=project)
    yield from command_section(context)
    for name in group.list_commands(context):
        yield f"## {name}"
        yield from command_section(context.__class__(group.get_command(context, name), info_name=name, parent=context))


def command_section(context: object) -> Iterator[str]:
    usage = context.command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc(context.command.help or "")
    rows = [parameter.get_help_record(context) for parameter in context.command.get_params(context)]
    described = [f"| `{names}` | {meaning} |" for names, meaning in filter(None, rows)]
    yield "\n".join(["| parameter | meaning |", "|---|---|", *described])


def write_made(path: Path, lines: Iterator[str], between: str) -> None:
    """Write what is made for a build, unless it is there already: an unchanged page is not built again."""
    text = between.join(lines) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    made = HERE / "_made"
    made.mkdir(exist_ok=True)
    copy_examples(HERE / "tutorials", made)
    runpy.run_path(str(EXAMPLES / "gallery.py"))["write_gallery"](made / "extra" / "gallery")
    write_made(made / "variables.md", variables_table(), "\n")
    write_made(made / "commands.md", command_sections(command_line), "\n\n")
    app.add_role("name", NameRole())
    app.add_role("ik", NameRole(warn_dangling=True))
    app.connect("missing-reference", find_public_name)
    app.connect("autodoc-process-signature", readable_signature)
