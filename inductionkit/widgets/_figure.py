"""The explorer's views as one Matplotlib figure, at one checkpoint."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .. import plots
from ..history import PATTERN_SCALE, measured_on
from ..phase import PhaseChange, token_loss_change
from ..phase.clock import elapsed
from ._circuit_data import CircuitData
from ._circuit_figure import circuit_height, plot_circuit
from ._phase_data import score_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLUMNS, HEIGHT = 2, 3.1  # in inches
TITLE_WIDTH = 96  # in characters
CAPACITY = 4  # heads of a circuit beside each other
OVER_TRAINING = ("loss", "icl", "slopes", "trajectories")


def draw_views(
    history: xr.Dataset,
    views: Sequence[str],
    phase: PhaseChange | None,
    step: int,
    head: tuple[int, int] | None,
    text: str | None,
    title: str = "",
) -> Figure:
    """A panel for each view, two in a row, under a title; a line marks `step` in those over training."""
    scores, seen = score_names(history), elapsed(history)
    draw: dict[str, tuple[str, Callable[[Axes], object]]] = {}
    if plots.is_measured(history, "loss"):
        draw["loss"] = "loss", lambda ax: plots.plot_loss(history, phase, ax)
    if plots.is_measured(history, "icl_score"):
        draw["icl"] = "in-context-learning score", lambda ax: plots.plot_icl_score(history, phase, ax)
    if plots.is_measured(history, "loss_by_position"):
        draw["slopes"] = "loss slope along the context", lambda ax: plots.plot_loss_slopes(history, phase, ax)
    if plots.is_measured(history, "prefix_matching"):
        draw["trajectories"] = "prefix matching", lambda ax: plots.plot_prefix_matching(history, phase, ax)
    if scores:
        draw["grid"] = f"heads at step {step:,}", lambda ax: plots.plot_head_scores(history, step, scores[0], ax=ax)
    if len(scores) > 1:
        draw["scatter"] = (
            f"heads at step {step:,}",
            lambda ax: plots.plot_head_scores(history, step, scores[0], scores[1], ax=ax),
        )
    height = HEIGHT
    if "circuit" in views:
        circuit, index = CircuitData.of_history(history), history["step"].values.tolist().index(step)
        draw["circuit"] = f"induction circuit at step {step:,}", lambda ax: plot_circuit(circuit, index, ax, CAPACITY)
        height = max(height, circuit_height(circuit, CAPACITY))
    if "pattern" in history and head is not None:
        draw["pattern"] = f"attention of {head[0]}.{head[1]}", lambda ax: _pattern(history, step, head, text, ax)
    if {"text_loss", "token"} <= set(history):
        draw["text"] = "loss of each token", lambda ax: _text_loss(history, step, phase, text, ax)
    shown = [view for view in views if view in draw]
    n_rows = -(-len(shown) // N_COLUMNS) or 1
    figure: Figure
    heights = [HEIGHT] * n_rows
    if "circuit" in shown:
        heights[shown.index("circuit") // N_COLUMNS] = height
    figure, axes = plots.load_pyplot().subplots(
        n_rows,
        min(N_COLUMNS, len(shown)) or 1,
        figsize=(10, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    if title:
        figure.suptitle(textwrap.fill(title, TITLE_WIDTH), parse_math=False)
    figure.supxlabel(measured_on(history), fontsize="small", color="0.35")
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, view in zip(axes.flat, shown):
        title, view_on = draw[view]
        view_on(ax)
        ax.set_title(title)
        if view in OVER_TRAINING:
            ax.axvline(seen[history["step"].values.tolist().index(step)], color="black", linewidth=1)
    return figure


def _pattern(history: xr.Dataset, step: int, head: tuple[int, int], text: str | None, ax: Axes) -> None:
    """Attention of one head on one text, query down, key across."""
    tokens = _tokens(history, text)
    pattern = history["pattern"].sel(step=step, layer=head[0], head=head[1]).values[_index(history, text)]
    weights = np.where(np.tri(len(tokens), dtype=bool), pattern[: len(tokens), : len(tokens)] * PATTERN_SCALE, np.nan)
    image = ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, pad=0.02).set_label("attention", fontsize="small")
    ax.set_xlabel("key")
    ax.set_ylabel("query")


def _text_loss(history: xr.Dataset, step: int, phase: PhaseChange | None, text: str | None, ax: Axes) -> None:
    """The change of each token's loss since the last checkpoint before the window, or else the first."""
    before = int((elapsed(history) <= phase.window[0]).sum()) - 1 if phase and phase.window else 0
    reference = int(history["step"].values[max(before, 0)])
    change = token_loss_change(history, _index(history, text), reference, step)["change"].values
    ax.bar(np.arange(len(change)), change, width=0.85, color=np.where(change < 0, plots.COLOURS[0], plots.COLOURS[1]))
    ax.axhline(0, color=plots.GREY, linewidth=0.8)
    ax.set_xlabel("token index")
    ax.set_ylabel(f"loss change since step {reference:,} (nats)")


def _index(history: xr.Dataset, text: str | None) -> int:
    names = [str(name) for name in history["text"].values] if "text" in history.coords else []
    return names.index(text) if text in names else 0


def _tokens(history: xr.Dataset, text: str | None) -> list[object]:
    tokens = history["token"].values[_index(history, text)].tolist() if "token" in history else []
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens or list(range(history.sizes["query"]))
