"""Whether small and large models swap the order of their loss slopes at the phase change (O22)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError
from .clock import clock_of, elapsed, on_one_clock
from .naming import named
from .rise import Series

WIDTH = 0.25  # in log of elapsed training: of the Gaussian within which a straight line is fitted to the loss
N_GRID = 200


def loss_slope_order(histories: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Slopes of the loss curves of models from small to large, and where their order swaps (O22).

    The slope is the derivative of the loss with respect to ln(elapsed training), in nats per e-fold of training, from a
    straight line fitted around each of 200 moments that all runs cover. O22: before the phase change larger models
    improve faster, after it smaller ones do. Other differences of the runs (schedule, data) swap slopes as well.

    Give the histories from the smallest model to the largest. Returns a Dataset with `loss_slope` (model, elapsed),
    `lead` (elapsed), by how much the loss of the largest falls faster than that of the smallest, and scalars: `swap`,
    where a lead of the largest turns best into one of the smallest (NaN if it never does), `lead_before` and
    `lead_after`, the mean lead on either side. `elapsed` and `swap` are in tokens, or in steps if a history does not
    know its tokens (their `units`).

    Raises HistoryError for fewer than two histories, or if they have no stretch of training in common.
    """
    runs = on_one_clock(named(histories, needs=("loss",)))
    if len(runs) < 2:
        raise HistoryError(f"an order needs at least two histories; seen {len(runs)}")
    clock = clock_of(*runs.values())
    curves = [_curve(history) for history in runs.values()]
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not start < end:
        raise HistoryError(f"the histories have no stretch of training in common, in {clock}")
    grid = np.linspace(start, end, N_GRID)
    slopes = np.stack([_slopes(x, loss, grid) for x, loss in curves])
    lead = slopes[0] - slopes[-1]
    so_far = np.cumsum(lead)
    swap = int(np.argmax(so_far))
    swaps = so_far[swap] > 0 and swap < N_GRID - 1
    about = {"units": f"nats/token per e-fold of {clock}", "reference": "O22"}
    return xr.Dataset(
        {
            "loss_slope": (("model", "elapsed"), slopes, {**about, "long_name": "slope of the loss"}),
            "lead": ("elapsed", lead, {**about, "long_name": "smallest model's slope less the largest's"}),
            "swap": ((), np.exp(grid[swap]) if swaps else np.nan, {"units": clock}),
            "lead_before": ((), lead[: swap + 1].mean() if swaps else np.nan, about),
            "lead_after": ((), lead[swap + 1 :].mean() if swaps else np.nan, about),
        },
        {"model": list(runs), "elapsed": ("elapsed", np.exp(grid), {"units": clock})},
    )


def _curve(history: xr.Dataset) -> tuple[Series, Series]:
    seen, loss = elapsed(history), history["loss"].values.astype(float)
    known = (seen > 0) & np.isfinite(loss)
    if known.sum() < 3:
        raise HistoryError(f"the loss is known at {known.sum()} checkpoints after the first; at least 3 are needed")
    return np.log(seen[known]), loss[known]


def _slopes(x: Series, y: Series, at: Float[np.ndarray, " moment"]) -> Float[np.ndarray, " moment"]:
    """Slope at each moment of the straight line that fits the points near it best, as a Gaussian weighs them.

    Where checkpoints are sparse the Gaussian reaches as far as the third nearest.
    """
    apart = abs(x - at[:, None])
    width = np.maximum(WIDTH, np.sort(apart, axis=1)[:, 2:3])
    weights = np.exp(-0.5 * (apart / width) ** 2)
    weights /= weights.sum(1, keepdims=True)
    centred = x - (weights @ x)[:, None]
    slopes: np.ndarray = (weights * centred) @ y / (weights * centred**2).sum(1)
    return slopes
