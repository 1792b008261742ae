"""A circuit as a Matplotlib figure: the browser's layout, in print."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plots
from ..scores.roles import ROLES, SIDES
from ._circuit_data import ABSENT, CircuitData
from ._circuit_layout import CAPACITIES, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = plots.COLOURS
# Marker and colour of each role; a head that only matches is hollow.
MARKS = {
    "previous-token": ("s", BLUE),
    "duplicate-token": ("D", SKY),
    "prefix-matching": ("o", GREEN),
    "induction": ("o", ORANGE),
    "copying": ("^", PINK),
    "anti-copying": ("v", YELLOW),
    "": ("o", plots.GREY),
}
PORTS = {"K": -0.04, "Q": 0.0, "V": 0.04}
NEGATIVE, LATTICE = "#b3261e", "#d5dae0"
# In inches; an edge's width and a head's diameter in points.
SLOT, ROW, MAX_DIAMETER, MIN_DIAMETER = 0.95, 0.62, 23.0, 7.0


def draw_circuit(circuit: CircuitData, index: int) -> Figure:
    """The circuit at one of its steps, on a page wide enough for its fullest layer."""
    fullest = max([0, *Counter(layer for layer, _ in circuit.nodes).values()])
    capacity = min(max(6, fullest), CAPACITIES.stop - 1)
    figure: Figure
    size = (SLOT * capacity + 0.5, circuit_height(circuit, capacity))
    figure, ax = plots.load_pyplot().subplots(figsize=size, layout="constrained")
    plot_circuit(circuit, index, ax, capacity)
    return figure


def circuit_height(circuit: CircuitData, capacity: int) -> float:
    """The height in inches that a drawing with `capacity` heads beside each other needs."""
    return ROW * (1 + _top(circuit.layout(capacity))) + 1


def plot_circuit(circuit: CircuitData, index: int, ax: Axes, capacity: int) -> None:
    """Plots the circuit at one of its steps on `ax`, with `capacity` of `CAPACITIES` heads beside each other."""
    layout = circuit.layout(capacity)
    _draw_lattice(ax, circuit, layout, capacity)
    for (sender, to, side), share in zip(circuit.edges, circuit.of_edges("share")[index]):
        if np.isfinite(share):
            ends = [circuit.nodes.index(node) for node in (sender, to)]
            role = ROLES[circuit.roles()[index, ends[0]]]
            places = [(float(layout.x[node]), float(layout.y[node])) for node in ends]
            _draw_edge(ax, places, SIDES[side], float(share), MARKS[role][1])
    _draw_nodes(ax, circuit, index, layout)
    taking_part = sorted({layer for layer, _ in circuit.nodes})
    ax.set_yticks(layout.layers[taking_part], [str(layer) for layer in taking_part])
    ax.set_ylabel("layer")
    ax.set_xticks([])
    ax.set_xlim(-0.3, capacity - 0.2)
    ax.set_ylim(-0.5, _top(layout) + 0.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _add_legend(ax, circuit, capacity)


def _top(layout: Layout) -> float:
    return float(max([1.0, *layout.y, *layout.layers]))


def _draw_lattice(ax: Axes, circuit: CircuitData, layout: Layout, capacity: int) -> None:
    """A dot for each head that takes no part, but for those below a node or its label."""
    n_heads = circuit.first.n_heads
    columns = np.linspace(0, capacity - 1, n_heads) if n_heads > 1 else [(capacity - 1) / 2]
    x, y = np.meshgrid(columns, layout.layers)
    covered = np.zeros(x.shape, bool)
    for left, height in zip(layout.x, layout.y):
        covered |= (np.abs(y - height) < 0.3) & (x > left - 0.2) & (x < left + 0.7)
    ax.plot(x[~covered], y[~covered], ".", color=LATTICE, markersize=2, zorder=0)


def _draw_nodes(ax: Axes, circuit: CircuitData, index: int, layout: Layout) -> None:
    from matplotlib.patheffects import withStroke

    sizes = None if circuit.size is None else np.abs(circuit.figures[circuit.size])
    largest = 0.0 if sizes is None else float(np.nanmax(sizes))
    for node, role in enumerate(circuit.roles()[index]):
        if role == ABSENT:
            continue
        name, place = ROLES[role], (float(layout.x[node]), float(layout.y[node]))
        share = np.nan_to_num(sizes[index, node] / largest) if sizes is not None and largest else 0.2
        diameter = max(MAX_DIAMETER * float(np.sqrt(share)), MIN_DIAMETER)
        ax.plot(*place, linestyle="none", markersize=diameter, markeredgewidth=1.5, zorder=3, **_mark(name))
        number, figure = "{}.{}".format(*circuit.nodes[node]), label_text(circuit, index, node, name)
        ax.annotate(
            f"{number}\n{figure}" if figure else number,
            place,
            xytext=(diameter / 2 + 3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            linespacing=1.1,
            zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _draw_edge(ax: Axes, ends: list[tuple[float, float]], side: str, share: float, colour: str) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x, y), (to_x, to_y) = ends
    reach, to_x = max((to_y - y) / 2, 0.4), to_x + PORTS[side]
    path = Path([(x, y), (x, y + reach), (to_x, to_y - reach), (to_x, to_y)], [1, 4, 4, 4])
    stroke = _stroke(side, share)
    colour = NEGATIVE if share < 0 else colour
    ax.add_patch(PathPatch(path, fill=False, edgecolor=colour, alpha=0.8, capstyle="round", zorder=1, **stroke))
    if share < 0:
        middle = ((x + to_x) / 2, (y + to_y) / 2)
        ax.plot(*middle, "o", color="white", markeredgecolor=NEGATIVE, markersize=6, zorder=2)
        ax.plot(*middle, "_", color=NEGATIVE, markersize=3.5, zorder=2)


def _mark(role: str) -> dict[str, Any]:
    marker, colour = MARKS[role]
    hollow = role == "prefix-matching"
    face, edge = ("white", colour) if hollow else (colour, "white")
    return {"marker": marker, "color": face, "markeredgecolor": edge}


def _stroke(side: str, share: float) -> dict[str, Any]:
    """As wide as the share; keys solid, queries dashed, values dotted."""
    dashes = {"K": "solid", "Q": (0, (3, 1.5)), "V": (0, (0.1, 2))}
    return {"linewidth": 0.9 + 4.5 * min(abs(share), 1.2), "linestyle": dashes[side]}


def label_text(circuit: CircuitData, index: int, node: int, role: str) -> str:
    """What stands below a head's name, such as ".91" after "prev", or "+1.8 nats"; empty if that is not known."""
    figure, before, after = circuit.label(role)
    value = float("nan") if figure is None else float(circuit.figures[figure][index, node])
    if not np.isfinite(value):
        return ""
    if after:
        number = f"{value:+.2f}" if abs(value) < 0.995 else f"{value:+.1f}"
        number = number if float(number) else "0.00"
    else:
        number = re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}")
    return f"{before}{number}{after}".replace("-", "\N{MINUS SIGN}")


def _add_legend(ax: Axes, circuit: CircuitData, capacity: int) -> None:
    """The roles and sides that the circuit has at any step, and the sign of negative shares."""
    from matplotlib.lines import Line2D

    keys = []
    for role in sorted(set(circuit.roles().ravel().tolist()) - {ABSENT}):
        name = ROLES[role]
        keys.append(Line2D([], [], label=name or "other", linestyle="none", markersize=7, **_mark(name)))
    for side in sorted({side for *_, side in circuit.edges}):
        stroke = _stroke(SIDES[side], 0.25)
        keys.append(Line2D([], [], color=plots.GREY, label=SIDES[side], dash_capstyle="round", **stroke))
    if (circuit.of_edges("share") < 0).any():
        keys.append(Line2D([], [], color=NEGATIVE, linewidth=1.5, label="negative share"))
    if keys:
        n_columns = max(capacity - 1, 2)
        ax.legend(
            handles=keys,
            frameon=False,
            fontsize=7,
            handlelength=2.4,
            ncols=n_columns,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
        )
