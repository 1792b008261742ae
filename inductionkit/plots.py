"""Static figures for papers: what a history shows, with the phase window shaded.

Matplotlib is imported when a figure is first drawn. Each function draws on the axes given, or on new ones, and returns
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .errors import HistoryError, InductionKitError
from .history import validate
from .phase import PhaseChange, find_phase_change, loss_slope_map, token_loss_pca
from .phase.clock import AXIS_TITLES, clock_of, elapsed, on_one_clock
from .phase.drawing import PhaseLike, bump_chord, phase_to_draw
from .phase.naming import named
from .system.real_numbers import real_number
from .system.whole_numbers import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's: safe for any eye
GREY, SHADE = "#9a9a9a", "#f6dfb0"


def plot_loss(history: xr.Dataset, phase: PhaseLike = None, ax: Axes | None = None) -> Axes:
    """Mean loss on held-out text, in nats per token, over training; dashed where it leaves its convex envelope.

    Plots `history` on `ax`, or on new axes, against tokens seen, or against steps if `tokens_seen` is not known at
    every checkpoint. `phase`, what `find_phase_change` returns or a pair (start, end) in the same unit, is shaded if it
    was found.

    Raises HistoryError if `loss` is missing, or `phase` is in another unit.
    """
    seen, loss = _measured(history, "loss")
    ax, found = _along_training(history, phase, ax)
    ax.plot(seen, loss, color=COLOURS[0])
    if chord := bump_chord(history, found):
        ax.plot(*chord, "--", color=COLOURS[1], linewidth=1, label="convex envelope")
        ax.legend(frameon=False, fontsize="small", loc="upper right")
    ax.set_ylabel("loss (nats/token)")
    return ax


def plot_icl_score(history: xr.Dataset, phase: PhaseLike = None, ax: Axes | None = None) -> Axes:
    """In-context-learning score, in nats per token, over training; lower: more is learnt from the context.

    With the scores of single examples, a band of one standard error over them on either side. `history`, `phase` and
    `ax` are as in `plot_loss`.

    Raises HistoryError if `icl_score` is missing, or as `plot_loss` does.
    """
    seen, score = _measured(history, "icl_score")
    ax, _ = _along_training(history, phase, ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    if "example_icl_score" in history:
        at, examples = _measured(history, "example_icl_score")
        error = examples.std(1, ddof=1) / np.sqrt(examples.shape[1])
        middle = examples.mean(1)
        ax.fill_between(at, middle - error, middle + error, color=COLOURS[0], alpha=0.25, linewidth=0)
    ax.plot(seen, score, color=COLOURS[0])
    ax.set_ylabel("ICL score (nats/token)")
    return ax


def plot_prefix_matching(history: xr.Dataset, phase: PhaseLike = None, ax: Axes | None = None) -> Axes:
    """Prefix matching of each head, 0 to 1, over training; heads that form in the window are coloured and named.

    `history`, `phase` and `ax` are as in `plot_loss`.

    Raises HistoryError if `prefix_matching` is missing, or as `plot_loss` does.
    """
    seen, scores = _measured(history, "prefix_matching")
    ax, found = _along_training(history, phase, ax)
    forming = found.heads if found else ()
    layers, heads = (history[dim].values.tolist() for dim in ("layer", "head"))
    every = [(layer, head) for layer in layers for head in heads]
    for layer, head in [*(one for one in every if one not in forming), *forming]:
        place = forming.index((layer, head)) if (layer, head) in forming else None
        ax.plot(
            seen,
            scores[:, layers.index(layer), heads.index(head)],
            color=GREY if place is None else COLOURS[place % len(COLOURS)],
            linewidth=0.7 if place is None else 1.5,
            label=None if place is None else f"{layer}.{head}",
        )
    if forming:
        ax.legend(title="layer.head", frameon=False, fontsize="small", title_fontsize="small")
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("prefix matching")
    return ax


def plot_loss_slopes(history: xr.Dataset, phase: PhaseLike = None, ax: Axes | None = None, limit: float = 0.4) -> Axes:
    """The loss slope map: derivative of the loss by ln(token index), training across, token index upwards (O22).

    Blue: the loss goes on falling there along the context; white: it no longer does; red: it rises. Colours end at
    `limit` nats per e-fold of the index. `history`, `phase` and `ax` are as in `plot_loss`.

    Raises HistoryError if `loss_by_position` is missing, or as `plot_loss` does.
    """
    limit = real_number(limit, "limit", "(0, inf)", HistoryError)
    slopes = loss_slope_map(history)
    seen, values = _measured(slopes, "loss_slope")
    ax, _ = _along_training(history, phase, ax, shade=False)
    mesh = ax.pcolormesh(
        seen, slopes["position"].values, values.T, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest"
    )
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("loss slope (nats per e-fold)", fontsize="small")
    ax.set_yscale("log")
    ax.set_ylabel("token index")
    return ax


def plot_head_scores(
    history: xr.Dataset, step: int, score: str = "prefix_matching", against: str | None = None, ax: Axes | None = None
) -> Axes:
    """One score of each head at a checkpoint, layer by head; or that score against another, a dot a head.

    `score` and `against` are in their own units, as `history` has them; `step` is one of its checkpoints, `ax` as in
    `plot_loss`. One checkpoint does not show which head changed: draw several.

    Raises HistoryError if a score or the checkpoint is missing.
    """
    names = [str(name) for name in ([score] if against is None else [score, against])]
    validate(history, needs=tuple(names))
    if whole_number(step, "step", 0, HistoryError) not in history["step"].values:
        raise HistoryError(f"step={step} is no checkpoint of this history; seen {history['step'].values.tolist()}")
    at, ax = history.sel(step=step), _axes(ax)
    layers, heads = (history[dim].values.tolist() for dim in ("layer", "head"))
    if against is None:
        values = at[score].values.astype(float)
        every = history[score].values[np.isfinite(history[score].values)]
        limit = float(abs(every).max(initial=0)) or 1.0
        signed = bool((every < 0).any())
        image = ax.imshow(values, cmap="RdBu" if signed else "Blues", vmin=-limit if signed else 0, vmax=limit)
        ax.figure.colorbar(image, ax=ax, pad=0.02).set_label(score.replace("_", " "), fontsize="small")
        ax.set_xticks(range(len(heads)), heads)
        ax.set_yticks(range(len(layers)), layers)
        ax.set_xlabel("head")
        ax.set_ylabel("layer")
        return ax
    for i, layer in enumerate(layers):
        x, y = (at[name].values[i] for name in names)
        ax.plot(x, y, "o", color=COLOURS[i % len(COLOURS)], alpha=0.7, markersize=5, label=f"layer {layer}")
    if len(layers) <= len(COLOURS):
        ax.legend(frameon=False, fontsize="small")
    ax.set_xlabel(score.replace("_", " "))
    ax.set_ylabel(against.replace("_", " "))
    return ax


def plot_token_loss_pca(histories: Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Paths of the runs on the first two principal components of their per-token losses, in nats (O22).

    A ring marks the first checkpoint after the beginning, a disc the last, a thick line the phase window. `histories`
    are given by the names of their runs; `ax` is as in `plot_loss`.

    Raises HistoryError as `token_loss_pca` does.
    """
    paths = token_loss_pca(histories)
    ax = _axes(ax)
    for i, (name, history) in enumerate(histories.items()):
        run = paths.isel(checkpoint=paths["model"].values == name)
        x, y = run["token_loss_component"].values.T
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(x, y, ".-", color=colour, linewidth=1, markersize=3, label=name)
        phase = find_phase_change(history, n_resamples=0)
        if phase and phase.start_step is not None and phase.end_step is not None:
            inside = (run["step"] >= phase.start_step) & (run["step"] <= phase.end_step)
            ax.plot(x[inside], y[inside], color=colour, linewidth=4, alpha=0.5, solid_capstyle="round")
        ax.plot(x[0], y[0], "o", color="white", markeredgecolor=colour)
        ax.plot(x[-1], y[-1], "o", color=colour)
    first, second = (f"component {i} ({share:.0%})" for i, share in enumerate(paths["explained_variance"].values, 1))
    ax.set_xlabel(f"{first}, nats")
    ax.set_ylabel(f"{second}, nats")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_model_analysis(histories: Mapping[str, xr.Dataset]) -> Figure:
    """O22's model analysis table as a figure: a row a measurement, a column a model, axes shared along a row.

    `histories` are given by the names of their models. The phase window is shaded; a cell says so where a model's
    history lacks the measurement. Training is counted in steps in all columns if one history does not know its
    tokens. Components of the per-token losses are each run's own, so that runs on different text can be compared.

    Raises HistoryError if a history lacks what `find_phase_change` needs.
    """
    runs = on_one_clock(named(histories, needs=("prefix_matching", "icl_score", "loss")))
    name: str
    rows: dict[str, Callable[[xr.Dataset, PhaseChange, Axes], Axes]] = {
        "loss": plot_loss,
        "icl_score": plot_icl_score,
        "prefix_matching": plot_prefix_matching,
        "loss_by_position": plot_loss_slopes,
        "token_loss": lambda history, phase, ax: plot_token_loss_pca({name: history}, ax),
    }
    figure: Figure
    figure, grid = load_pyplot().subplots(
        len(rows), len(runs), figsize=(0.8 + 3.2 * len(runs), 2.4 * len(rows)), layout="constrained", squeeze=False
    )
    for column, (name, history) in zip(grid.T, runs.items()):
        phase = find_phase_change(history, n_resamples=0)
        column[0].set_title(name)
        for ax, (variable, draw) in zip(column, rows.items()):
            if is_measured(history, variable):
                draw(history, phase, ax)
            else:
                ax.text(0.5, 0.5, "not measured", ha="center", va="center", color=GREY, transform=ax.transAxes)
    for row, variable in zip(grid, rows):
        if variable in ("loss", "icl_score"):
            low, high = min(ax.get_ylim()[0] for ax in row), max(ax.get_ylim()[1] for ax in row)
            for ax in row:
                ax.set_ylim(low, high)
    return figure


def _measured(history: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Elapsed training, and a variable, at the checkpoints after the untrained one at which it was measured."""
    validate(history, needs=(name,))
    known = _known(history, name)
    return elapsed(history)[known], history[name].values[known].astype(float)


def is_measured(history: xr.Dataset, name: str) -> bool:
    """Return whether the variable `name` of `history` was measured after the untrained checkpoint: it can be drawn."""
    return name in history and bool(_known(history, name).any())


def _known(history: xr.Dataset, name: str) -> np.ndarray:
    values = history[name].values.astype(float).reshape(history.sizes["step"], -1)
    known: np.ndarray = np.isfinite(values).any(1) & (elapsed(history) > 0)
    return known


def _along_training(
    history: xr.Dataset, phase: PhaseLike, ax: Axes | None, shade: bool = True
) -> tuple[Axes, PhaseChange | None]:
    """Axes over training on a log scale, and the phase change that was found: shaded, or between two lines."""
    found = phase_to_draw(history, phase)
    ax = _axes(ax)
    ax.set_xscale("log")
    ax.set_xlabel(AXIS_TITLES[clock_of(history)])
    if found and found.window:
        if shade:
            ax.axvspan(*found.window, color=SHADE, linewidth=0, zorder=0)
        else:
            for end in found.window:
                ax.axvline(end, color="black", linewidth=0.8, linestyle=":")
    return ax, found


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = load_pyplot().subplots(figsize=(5, 3.2), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def load_pyplot() -> ModuleType:
    """Matplotlib, imported when something is drawn. Raises InductionKitError, with the remedy, if it is missing."""
    try:
        import matplotlib.pyplot as pyplot
    except ImportError:
        raise InductionKitError('figures need Matplotlib: pip install "inductionkit[plots]"') from None
    return pyplot
