"""What may become of an extra feature, and how well training and closed form agree on it; brings in no torch."""

from __future__ import annotations

import numpy as np
import xarray as xr

STATES = ("not represented", "superposed", "own dimension")


def state_agreement(diagram: xr.Dataset) -> float:
    """The share of cells, 0 to 1, away from the closed-form boundaries where training ends in the best state.

    `diagram` is what `phase_diagram` returns. Diagonal neighbours count: a cell is away from a boundary if all eight
    around it have its `best_state`. NaN if no cell is.
    """
    agrees = diagram["best_state"].values == diagram["trained_state"].values
    away = ~diagram["on_boundary"].values
    return float(agrees[away].mean()) if away.any() else np.nan
