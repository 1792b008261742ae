"""O22's model analysis table: a row a measurement, a column a model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import HistoryError
from .change import PhaseChange
from .clock import Clock, elapsed, on_one_clock
from .criteria import PhaseCriteria
from .loss_slopes import loss_slopes_around
from .markers import Window
from .naming import named
from .rule import find_phase_change


def model_analysis_table(
    histories: Mapping[str, xr.Dataset], criteria: PhaseCriteria = PhaseCriteria(), n_resamples: int = 200
) -> pd.DataFrame:
    """The measurements of a phase change side by side: a row a measurement, with its unit, a column a model (O22).

    `histories` are given by the names of their models; `criteria` and `n_resamples` are those of `find_phase_change`.
    Numbers are as in that and in `loss_slopes_around`; NaN where a model has no window or was not measured. Training
    is counted in millions of tokens, or in steps for all models if one history does not know its tokens. The verdict
    is None where too little is known to say. `plots.plot_model_analysis` draws the series behind the numbers.
    Agreement over models is evidence by co-occurrence.

    Raises HistoryError if a history lacks what `find_phase_change` needs.

    >>> from inductionkit.testing import synthetic_history
    >>> table = model_analysis_table({"two": synthetic_history(), "one": synthetic_history(window=None)})
    >>> table.loc["phase change"].tolist(), table.loc["window start (M tokens)"].round(1).tolist()
    ([True, False], [7.7, nan])
    """
    columns = {}
    runs = on_one_clock(named(histories, needs=("prefix_matching", "icl_score", "loss")))
    for name, history in runs.items():
        try:
            phase = find_phase_change(history, criteria, n_resamples=n_resamples)
        except HistoryError as error:
            raise HistoryError(f"{name}: {error}") from None
        columns[name] = _column(history, phase)
    return pd.DataFrame(columns, dtype=object).rename_axis(index="measurement", columns="model")


def _column(history: xr.Dataset, phase: PhaseChange) -> dict[str, object]:
    best = history["prefix_matching"].max(("layer", "head")).values
    unit, size = UNITS[phase.clock]
    column = {
        "layers": history.sizes["layer"],
        "heads per layer": history.sizes["head"],
        "checkpoints": history.sizes["step"],
        f"training ({unit})": float(elapsed(history)[-1]) / size,
        "final loss (nats)": _last(history["loss"].values),
        "final in-context-learning score (nats)": _last(history["icl_score"].values),
        "highest prefix matching": float(np.nanmax(best, initial=0)) if np.isfinite(best).any() else np.nan,
        "phase change": phase.found,
        **_ends(phase.clock, "window", phase.window),
        **_ends(phase.clock, "window start, 90 % interval", phase.start_interval, ("from", "to")),
        **_ends(phase.clock, "window end, 90 % interval", phase.end_interval, ("from", "to")),
        "heads that form": len(phase.heads),
        "in-context-learning score before (nats)": phase.icl_before,
        "in-context-learning score after (nats)": phase.icl_after,
        "gain of it inside the window (nats)": phase.icl_gain_inside,
        "gain of it outside (nats)": phase.icl_gain_outside,
        "bump (nats)": phase.bump_nats,
    }
    for name, title in MARKERS.items():
        marker = phase.markers.get(name)
        column |= _ends(phase.clock, title, marker.window if marker else None)
    together = phase.co_occurrence
    return column | {
        "overlap of the markers (0 to 1)": together.overlap if together else np.nan,
        "p-value of the overlap": together.p_value if together else np.nan,
        **_slopes(history, phase),
        "why not": "; ".join(phase.reasons),
    }


UNITS: dict[Clock, tuple[str, float]] = {"tokens": ("M tokens", 1e6), "steps": ("steps", 1.0)}
MARKERS = {
    "prefix_matching": "prefix matching",
    "icl_score": "in-context learning",
    "bump": "bump",
    "token_loss_pivot": "pivot of per-token losses",
}


def _ends(
    clock: Clock, title: str, window: Window | None, names: tuple[str, str] = ("start", "end")
) -> dict[str, float]:
    """A row for each end of a window."""
    unit, size = UNITS[clock]
    ends = zip(names, window or (None, None))
    return {f"{title} {name} ({unit})": np.nan if end is None else end / size for name, end in ends}


def _last(series: np.ndarray) -> float:
    known = series[np.isfinite(series)]
    return float(known[-1]) if len(known) else np.nan


def _slopes(history: xr.Dataset, phase: PhaseChange) -> dict[str, float]:
    """Loss slopes at late token indices, NaN where the run has no window or no checkpoint on one of its sides."""
    rows = {f"late loss slope {when} (nats per e-fold of index)": np.nan for when in ("before", "after")}
    try:
        around = loss_slopes_around(history, phase)
    except HistoryError:
        return rows
    return dict(zip(rows, around["loss_slope"].sel(range="late").values.tolist()))
