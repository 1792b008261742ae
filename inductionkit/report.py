"""A report of one or several histories as one file: verdict, table, figures, heads, settings, versions."""

from __future__ import annotations

import base64
import html
import io
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from . import plots
from .errors import InductionKitError
from .history import head_scores, measured_on
from .phase import find_phase_change, head_roles, model_analysis_table, naming
from .system.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_HEADS = 8
PACKAGES = ("inductionkit", "numpy", "pandas", "xarray", "matplotlib")
STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
pre, .table { overflow-x: auto; }
pre { white-space: pre-wrap; border-left: 3px solid #e6b84f; padding-left: 1rem; }
table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.2rem 0.8rem 0.2rem 0; overflow-wrap: anywhere;
  text-align: left; vertical-align: top; }
figure { margin: 1rem 0; background: white; border-radius: 4px; }
img { max-width: 100%; display: block; }
"""


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Sentence:
    text: str


@dataclass(frozen=True)
class Verbatim:
    text: str


@dataclass(frozen=True)
class Table:
    rows: pd.DataFrame


@dataclass(frozen=True)
class Picture:
    name: str
    says: str
    png: bytes


Block = Heading | Sentence | Verbatim | Table | Picture


def write_report(histories: Mapping[str, xr.Dataset], path: str | os.PathLike[str]) -> Path:
    """Write what `find_phase_change` and the rest of the analysis say about histories, by name, to `path`.

    `.html` is one file that needs nothing else; `.md` is Markdown, with its figures in a folder beside it. Both hold
    the verdict on each run, the model analysis table (O22), its figure, the heads that match prefixes best at the
    end, the settings of the scans and the versions of the packages. A verdict is "unknown" where too little is known to
    say, and a phase change that was not found is not shaded. Returns the path.

    Raises InductionKitError for another ending, HistoryError if a history lacks what `find_phase_change` needs.
    """
    path = Path(path)
    if path.suffix not in (".html", ".md"):
        raise InductionKitError(f"{path} must end in .html or .md: a report is one page, or Markdown with figures")
    blocks = list(_blocks(naming.named(histories, needs=("prefix_matching", "icl_score", "loss"))))
    title = f"Phase change: {', '.join(map(str, histories))}"
    if path.suffix == ".html":
        write_atomically(path, _as_html(title, blocks).encode())
        return path
    figures = path.with_name(f"{path.stem}_files")
    figures.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            write_atomically(figures / f"{block.name}.png", block.png)
    write_atomically(path, _as_markdown(title, blocks, figures.name).encode())
    return path


def _blocks(histories: Mapping[str, xr.Dataset]) -> Iterator[Block]:
    for name, history in histories.items():
        yield Heading(str(name))
        phase = find_phase_change(history)
        yield Sentence(phase.verdict)
        yield Verbatim(f"{phase!r}\n  measured on {measured_on(history)}")
    yield Heading("Measurements")
    yield Table(_measurements(histories).map(_cell))
    yield Picture(
        "measurements", "Each measurement along the training of each model", _png(plots.plot_model_analysis(histories))
    )
    for name, history in histories.items():
        yield Heading(f"Heads of {name} at the last checkpoint")
        yield Table(_best_heads(history))
    yield Heading("Settings")
    yield Table(pd.DataFrame({name: _settings(history) for name, history in histories.items()}).fillna(""))
    yield Heading("Versions")
    versions = {"Python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    yield Table(pd.DataFrame({"version": versions}))


def _measurements(histories: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The model analysis table, without the windows that were rejected: verdict and figure have none there either."""
    table = model_analysis_table(histories)
    for name in table.columns[[not found for found in table.loc["phase change"]]]:
        table.loc[table.index.str.startswith("window "), name] = float("nan")
    return table


def _best_heads(history: xr.Dataset) -> pd.DataFrame:
    scores = sorted(head_scores(history), key=lambda name: name != "prefix_matching")  # the one that ranks comes first
    last = history.isel(step=-1)
    told = ["role", "path"] if "copying" in scores else []
    table = head_roles(last) if told else last[scores].to_dataframe()
    at_end = table[told + scores].nlargest(N_HEADS, "prefix_matching")
    at_end.index = pd.Index([f"{layer}.{head}" for layer, head in at_end.index], name="head")
    return at_end.map(_cell)


def _settings(history: xr.Dataset) -> dict[str, str]:
    """The attributes of a history, but for the token ids of its texts, which nobody reads."""
    return {key: str(value) for key, value in history.attrs.items() if key != "texts"}


def _cell(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    plots.load_pyplot().close(figure)  # or a notebook would show it too
    return buffer.getvalue()


def _as_html(title: str, blocks: list[Block]) -> str:
    parts = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"<h2>{html.escape(text)}</h2>")
            case Sentence(text):
                parts.append(f"<p>{html.escape(text)}</p>")
            case Verbatim(text):
                parts.append(f"<pre>{html.escape(text)}</pre>")
            case Table(rows):
                parts.append(f'<div class="table">{rows.to_html(border=0)}</div>')
            case Picture(_, says, png):
                source = base64.b64encode(png).decode()
                parts.append(f'<figure><img alt="{html.escape(says)}" src="data:image/png;base64,{source}"></figure>')
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _as_markdown(title: str, blocks: list[Block], figures: str) -> str:
    parts = [f"# {_plain(title)}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {_plain(text)}")
            case Sentence(text):
                parts.append(_plain(text))
            case Verbatim(text):
                parts.append("\n".join(f"    {line}" for line in text.splitlines()))
            case Table(rows):
                lines = [[rows.index.name or "", *rows.columns], ["---"] * (1 + rows.shape[1])]
                lines += [[index, *row] for index, row in zip(rows.index, rows.values)]
                parts.append("\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines))
            case Picture(name, says, _):
                parts.append(f"![{says}]({figures}/{name}.png)")
    return "\n\n".join(parts) + "\n"


def _plain(value: object) -> str:
    """Text that stays one cell of a table, and text: no markup of its own."""
    escaped = html.escape(str(value), quote=False).replace("\\", "\\\\")
    for character in "|*_`[]":
        escaped = escaped.replace(character, f"\\{character}")
    return " ".join(escaped.split())
