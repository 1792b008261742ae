"""Scores as HTML: a small layer-by-head heat map each, beside a table of the strongest heads. No script, no network."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from html import escape
from importlib.resources import files

import numpy as np
from jaxtyping import Bool

from .score_maps import N_LEVELS, ScoreMap, ScoreMaps, printable

N_HEADS_OF_TABLE = 10
MAX_NAMED_CELLS = 12_000  # beyond, a name for every cell would make the page heavy
LEFT, RIGHT, TOP, BOTTOM = 34, 2, 2, 27  # pixels around the cells, for labels and half the width of a line
# Blue above zero, orange below, from one neutral: told apart by colour-blind readers; light and dark theme.
ABOVE = (
    ["#eef3f9", "#b7d1ea", "#4a8ec4", "#104e8b", "#082654"],
    ["#1d252f", "#1e4268", "#2f7ab5", "#6fb5e6", "#b9e0fa"],
)
BELOW = (
    ["#eef3f9", "#f3cda6", "#de8a3c", "#b05205", "#6e3003"],
    ["#1d252f", "#5a3512", "#b06a1f", "#f0a24e", "#ffd3a1"],
)


def render(maps: ScoreMaps, text: str, xarray_text: str) -> str:
    """The HTML of `maps`; `text` stands in for it where styles are stripped, xarray's view is folded away."""
    n_layers, n_heads = len(maps.layers), len(maps.heads)
    cell = int(np.clip(min(180 // n_heads, 288 // n_layers), 3, 22))
    width = max(LEFT + n_heads * cell + RIGHT, 160)
    named = len(maps.maps) * n_layers * n_heads <= MAX_NAMED_CELLS
    drawn = "".join(_figure(maps, score, cell, named) for score in maps.maps)
    lines = "\n".join(printable(line) for line in xarray_text.split("\n"))
    return (
        f"<div><style>{_style()}</style>"
        f'<pre class="ik-scores-text">{escape(text)}</pre>'
        f'<div class="ik-scores" style="display:none;--ik-map:{width}px">'
        f'<p class="ik-scores-head">{_strong(maps.model)}{maps.size}</p>'
        f'<div class="ik-scores-body"><div class="ik-scores-maps">{drawn}{_notes(maps)}</div>{_table(maps)}</div>'
        f"<details><summary>As xarray shows it</summary><pre>{escape(lines)}</pre></details>"
        "</div></div>"
    )


def _figure(maps: ScoreMaps, score: ScoreMap, cell: int, named: bool) -> str:
    width, height = len(maps.heads) * cell, len(maps.layers) * cell
    overlays = {
        "gaps": _gaps(maps, cell) if cell >= 6 else "",
        "hatch": _hatch(np.isnan(score.values), cell),
        "beyond": _outline(score.beyond, cell),
    }
    full_width, full_height = LEFT + width + RIGHT, TOP + height + BOTTOM
    return (
        f'<figure><figcaption title="{escape(score.long_name)}">{escape(_title(score))}{_unit(score)}</figcaption>'
        f'<div class="ik-scores-span">{score.span}</div>'
        f'<svg role="img" aria-label="{escape(_description(maps, score))}"'
        f' width="{full_width}" height="{full_height}" viewBox="{-LEFT} {-TOP} {full_width} {full_height}">'
        f'<g class="ik-scores-cells" transform="scale({cell}) translate(0 .5)">{_cells(maps, score, named)}</g>'
        + "".join(f'<path class="ik-scores-{name}" d="{path}"/>' for name, path in overlays.items() if path)
        + f"{_axes(maps, cell)}</svg>{_scale(score)}</figure>"
    )


def _description(maps: ScoreMaps, score: ScoreMap) -> str:
    """What a reader who does not see the map is told."""
    if not score.known.size:
        return f"{_title(score)} by layer and head: {score.span}"
    layer, head = map(int, np.unravel_index(np.nanargmax(score.values), score.values.shape))
    return f"{_title(score)} by layer and head: {score.span}, highest in head {maps.head_name(layer, head)}"


def _cells(maps: ScoreMaps, score: ScoreMap, named: bool) -> str:
    """Cells as horizontal strokes one unit high: each with its name, or all of one colour together."""
    classes = {index: _level_class(level) for index, level in np.ndenumerate(score.levels)}
    if named:
        return "".join(
            f'<path class="{level}" d="M{head} {layer}h1">'
            f"<title>{escape(maps.head_name(layer, head))}: {score.text(score.values.item(layer, head))}</title></path>"
            for (layer, head), level in classes.items()
        )
    together: dict[str, list[str]] = defaultdict(list)
    for (layer, head), level in classes.items():
        together[level].append(f"M{head} {layer}h1")
    return "".join(f'<path class="{level}" d="{"".join(strokes)}"/>' for level, strokes in together.items())


def _level_class(level: float) -> str:
    if np.isnan(level):
        return "x"
    return f"{'n' if level < 0 else 'p'}{abs(int(level))}"


def _gaps(maps: ScoreMaps, cell: int) -> str:
    n_layers, n_heads = len(maps.layers), len(maps.heads)
    across = "".join(f"M0 {y * cell}h{n_heads * cell}" for y in range(1, n_layers))
    return across + "".join(f"M{x * cell} 0v{n_layers * cell}" for x in range(1, n_heads))


def _hatch(missing: Bool[np.ndarray, "layer head"], cell: int) -> str:
    return "".join(f"M{head * cell} {(layer + 1) * cell}l{cell} {-cell}" for layer, head in np.argwhere(missing))


def _outline(chosen: Bool[np.ndarray, "layer head"], cell: int) -> str:
    """The border of the chosen cells: an edge wherever a chosen one meets another or the end."""
    padded = np.pad(chosen, 1)
    across = [f"M{x * cell} {y * cell}h{cell}" for y, x in np.argwhere(np.diff(padded, axis=0)[:, 1:-1])]
    down = [f"M{x * cell} {y * cell}v{cell}" for y, x in np.argwhere(np.diff(padded, axis=1)[1:-1])]
    return "".join(across + down)


def _axes(maps: ScoreMaps, cell: int) -> str:
    width, height = len(maps.heads) * cell, len(maps.layers) * cell
    heads = "".join(
        f'<text x="{(i + 0.5) * cell}" y="{height + 12}">{escape(maps.heads[i])}</text>'
        for i in _ticks(len(maps.heads), cell, 18)
    )
    layers = "".join(
        f'<text x="-5" y="{(i + 0.5) * cell + 3.5}">{escape(maps.layers[i])}</text>'
        for i in _ticks(len(maps.layers), cell, 13)
    )
    return (
        f'<g aria-hidden="true" text-anchor="middle">{heads}<text x="{width / 2}" y="{height + 24}">head</text>'
        f'<g text-anchor="end">{layers}</g>'
        f'<text transform="translate(-26 {height / 2}) rotate(-90)">layer</text></g>'
    )


def _ticks(n: int, cell: int, room: int) -> range:
    """Indices to label, at a step of 1, 2, 5, 10, …, so that each label has `room` pixels."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    return range(0, n, next(step for step in steps if step * cell >= room))


def _scale(score: ScoreMap) -> str:
    low, name = (-score.limit, "signed") if score.signed else (0.0, "unsigned")
    nulls = notch = ""
    if score.nulls.size:
        ends = np.array([score.nulls.min(), score.nulls.max()])
        start, end = 100 * np.clip((ends - low) / (score.limit - low), 0, 1)
        nulls = f'<i style="left:{start:.1f}%;width:{end - start:.1f}%"></i>'
    if score.no_preference is not None:
        notch = f'<u style="left:{100 * (score.no_preference - low) / (score.limit - low):.1f}%"></u>'
    return (
        f'<div class="ik-scores-scale ik-scores-{name}" aria-hidden="true"><b>{notch}</b>{nulls}'
        f"<span>{score.text(low)}</span><span>{score.text(score.limit)}</span></div>"
    )


def _notes(maps: ScoreMaps) -> str:
    notes = ""
    if any(np.isnan(score.values).any() for score in maps.maps):
        reasons = f" ({'; '.join(maps.unscored)})" if maps.unscored else ""
        notes += _note("hatch", "M0 11L11 0M0 5.5L5.5 0M5.5 11L11 5.5", f"not scored{reasons}")
    if any(score.nulls.size for score in maps.maps):
        about = "beyond every null value, bold in the table; the line under a scale shows where null values lie"
        notes += _note("beyond", "M1 1h9v9h-9z", about)
    for score in maps.maps:
        if score.no_preference is not None:
            notes += _note("beyond", "M5.5 0v11", f"no preference: {_title(score)} {score.no_preference_text}")
    return f'<p class="ik-scores-notes">{notes}</p>' if notes else ""


def _note(name: str, path: str, text: str) -> str:
    mark = f'<svg viewBox="0 0 11 11" aria-hidden="true"><path class="ik-scores-{name}" d="{path}"/></svg>'
    return f"<span>{mark}{escape(text)}</span>"


def _table(maps: ScoreMaps) -> str:
    shown = maps.strongest(N_HEADS_OF_TABLE)
    which = "Heads" if len(shown) == maps.n_heads else f"The first {len(shown)} of {maps.n_heads} heads"
    header = "".join(
        f'<th scope="col" title="{escape(score.long_name)}">{escape(score.name).replace("_", "<br>")}</th>'
        for score in maps.maps
    )
    columns = [[_table_cell(score.values[i], score.beyond[i], score) for i in shown] for score in maps.maps]
    rows = "".join(
        f'<tr><th scope="row">{escape(maps.head_name(*index))}</th>{"".join(cells)}</tr>'
        for index, *cells in zip(shown, *columns)
    )
    return (
        f'<div class="ik-scores-heads"><table><caption>{which} in order of {escape(_title(maps.first))}</caption>'
        f'<thead><tr><th scope="col">head</th>{header}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _table_cell(value: float, beyond: bool, score: ScoreMap) -> str:
    bold = ' class="b"' if beyond else ""
    return f"<td{bold}>{'–' if np.isnan(value) else score.text(value)}</td>"


def _strong(text: str) -> str:
    return f"<strong>{escape(text)}</strong>" if text else ""


def _title(score: ScoreMap) -> str:
    return score.name.replace("_", " ")


def _unit(score: ScoreMap) -> str:
    return f"<span>{escape(score.units)}</span>" if score.units else ""


@cache
def _style() -> str:
    sheet = files(__package__).joinpath("heat_maps.css").read_text(encoding="utf-8")
    cells = [
        f".ik-scores .{sign}{level}{{stroke:{_colour(ramps, level / N_LEVELS)}}}"
        for sign, ramps in (("p", ABOVE), ("n", BELOW))
        for level in range(N_LEVELS + 1)
    ]
    above = [_colour(ABOVE, at) for at in np.linspace(0, 1, len(ABOVE[0]))]
    below = [_colour(BELOW, at) for at in np.linspace(1, 0, len(BELOW[0]))]
    bars = [
        f".ik-scores-{name}{{--ik-ramp:linear-gradient(90deg,{','.join(colours)})}}"
        for name, colours in (("unsigned", above), ("signed", below + above[1:]))
    ]
    return "".join([sheet, *cells, *bars])


def _colour(ramps: tuple[list[str], list[str]], at: float) -> str:
    """CSS of the colour at 0 to 1 along the light theme's ramp and the dark theme's."""
    return f"light-dark({','.join(_between(ramp, at) for ramp in ramps)})"


def _between(ramp: list[str], at: float) -> str:
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ramp])
    mixed = [np.interp(at, np.linspace(0, 1, len(stops)), channel) for channel in stops.T]
    return "#" + "".join(f"{round(value):02x}" for value in mixed)
