"""Whether small and large models swap the order of their loss slopes at the phase change (O22)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError
from .naming import named
from .rise import Series

WIDTH = 0.25  # in log tokens: of the Gaussian within which a straight line is fitted to the loss
N_GRID = 200


def loss_slope_order(histories: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Slopes of the loss curves of models from small to large, and where their order swaps (O22).

    The slope is the derivative of the loss with respect to ln(tokens seen), in nats per e-fold of training, from a
    straight line fitted around each of 200 moments that all runs cover. O22: before the phase change larger models
    improve faster, after it smaller ones do. Other differences of the runs (schedule, data) swap slopes as well.

    Give the histories from the smallest model to the largest. Returns a Dataset with `loss_slope` (model,
    tokens_seen), `lead` (tokens_seen), by how much the loss of the largest falls faster than that of the smallest, and
    scalars: `swap_tokens`, where a lead of the largest turns best into one of the smallest (NaN if it never does),
    `lead_before` and `lead_after`, the mean lead on either side.

    Raises HistoryError for fewer than two histories, or if they have no stretch of training in common.
    """
    runs = named(histories, needs=("loss", "tokens_seen"))
    if len(runs) < 2:
        raise HistoryError(f"an order needs at least two histories; seen {len(runs)}")
    curves = [_curve(history) for history in runs.values()]
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not start < end:
        raise HistoryError("the histories have no stretch of tokens seen in common")
    grid = np.linspace(start, end, N_GRID)
    slopes = np.stack([_slopes(x, loss, grid) for x, loss in curves])
    lead = slopes[0] - slopes[-1]
    so_far = np.cumsum(lead)
    swap = int(np.argmax(so_far))
    swaps = so_far[swap] > 0 and swap < N_GRID - 1
    about = {"units": "nats/token per e-fold of the tokens seen", "reference": "O22"}
    return xr.Dataset(
        {
            "loss_slope": (("model", "tokens_seen"), slopes, {**about, "long_name": "slope of the loss"}),
            "lead": ("tokens_seen", lead, {**about, "long_name": "smallest model's slope less the largest's"}),
            "swap_tokens": ((), np.exp(grid[swap]) if swaps else np.nan, {"units": "tokens"}),
            "lead_before": ((), lead[: swap + 1].mean() if swaps else np.nan, about),
            "lead_after": ((), lead[swap + 1 :].mean() if swaps else np.nan, about),
        },
        {"model": list(runs), "tokens_seen": ("tokens_seen", np.exp(grid), {"units": "tokens"})},
    )


def _curve(history: xr.Dataset) -> tuple[Series, Series]:
    tokens, loss = history["tokens_seen"].values.astype(float), history["loss"].values.astype(float)
    known = (tokens > 0) & np.isfinite(loss)
    if known.sum() < 3:
        raise HistoryError(f"the loss is known at {known.sum()} checkpoints after the first; at least 3 are needed")
    return np.log(tokens[known]), loss[known]


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
