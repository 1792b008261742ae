"""The loss slope map (O22): how much more context still helps, by token index, over training."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..errors import HistoryError
from ..history import validate
from ..system.whole_numbers import whole_number
from .change import PhaseChange

HALF_WIDTH = 0.5  # of a fit, in the log of the token index
MIN_POINTS = 4
N_NEIGHBOURS = 4  # checkpoints on either side of the window that are averaged


def loss_slope_map(history: xr.Dataset, n_indices: int = 32) -> xr.Dataset:
    """Derivative of the loss with respect to ln(token index), in nats per e-fold (O22); negative: more context helps.

    Of the `loss_by_position` of a `history`. At `n_indices` token indices, evenly spaced in their log, a straight
    line is fitted to the loss within a factor of 1.6 on either side, each token counting once. Near 0 at late
    indices: the model makes no use of what lies far back. A slope says nothing of what makes use of the context:
    induction heads or anything else.

    Returns a Dataset with `loss_slope` (step, position), `position` being the indices.

    Raises HistoryError if `loss_by_position` is missing or has fewer than 16 positions, or `n_indices` is below 1.

    >>> from inductionkit.testing import synthetic_history
    >>> slopes = loss_slope_map(synthetic_history()).loss_slope
    >>> slopes.sel(position=60, method="nearest").isel(step=[0, -1]).values.round(2)
    array([-0.05, -0.23])
    """
    n_indices = whole_number(n_indices, "n_indices", 1, HistoryError)
    validate(history, needs=("loss_by_position",))
    loss, position = history["loss_by_position"], history["position"].values.astype(float)
    if len(position) < 16:
        raise HistoryError(f"a slope map needs at least 16 token indices; loss_by_position has {len(position)}")
    log_position = np.log(position)
    first = log_position[MIN_POINTS // 2] + HALF_WIDTH
    at = np.linspace(first, log_position[-1] - HALF_WIDTH, n_indices)
    near = abs(log_position - at[:, None]) <= HALF_WIDTH
    slopes = loss.values @ np.stack([_slope_weights(log_position, inside) for inside in near]).T
    about = {
        "units": "nats/token per e-fold of the token index",
        "long_name": "derivative of the loss with respect to the log of the token index",
        "reference": "O22",
    }
    coords = {name: history[name] for name in ("step", "tokens_seen") if name in history.coords}
    mapped = xr.Dataset({"loss_slope": (("step", "position"), slopes, about)}, coords, dict(history.attrs))
    mapped = mapped.assign_coords(position=np.exp(at))
    mapped["position"].attrs.update(long_name="index of the predicted token in the context")
    return mapped


def loss_slopes_around(history: xr.Dataset, phase: PhaseChange, split: int | None = None) -> xr.Dataset:
    """Loss slope before and after the window, at early and at late token indices, in nats per e-fold of the index.

    `phase` is what `find_phase_change` says of `history`. One straight line against ln(index) per checkpoint and
    range of indices, averaged over the 4 checkpoints just before the window and the 4 just after. `split`: the index
    between early and late, by default the early index of the in-context-learning score (50 in O22). Early indices
    leave out the first tenth of `split`. O22: before the phase change the loss stops improving around index 50 (late
    slope near 0), after it goes on. That shows that the in-context-learning score is no artefact of its two indices.

    Returns a Dataset with `loss_slope` and `loss_slope_error` (standard error over the checkpoints), dims
    (when: before, after; range: early, late).

    Raises HistoryError if there is no window, no checkpoint on one of its sides, or the indices can't be split there.
    """
    validate(history, needs=("loss_by_position",))
    if phase.start_step is None or phase.end_step is None:
        raise HistoryError(f"there is no window to look around ({'; '.join(phase.reasons)})")
    position, steps = history["position"].values, history["step"].values
    split = int(history.attrs.get("icl_early", 50)) if split is None else whole_number(split, "split", 1, HistoryError)
    ranges = {"early": (position >= max(2, split // 10)) & (position <= split), "late": position >= split}
    short = [name for name, inside in ranges.items() if inside.sum() < MIN_POINTS]
    if short:
        raise HistoryError(
            f"split={split} leaves fewer than {MIN_POINTS} {short[0]} indices of {position[0]} to {position[-1]}"
        )
    sides = {
        "before": np.flatnonzero(steps <= phase.start_step)[-N_NEIGHBOURS:],
        "after": np.flatnonzero(steps >= phase.end_step)[:N_NEIGHBOURS],
    }
    bare = [name for name, at in sides.items() if not len(at)]
    if bare:
        raise HistoryError(f"there is no checkpoint {bare[0]} the window; scan more of the run")
    weights = np.stack([_slope_weights(np.log(position), inside) for inside in ranges.values()])
    slopes = [history["loss_by_position"].values[at].astype(float) @ weights.T for at in sides.values()]
    about = {"units": "nats/token per e-fold of the token index", "long_name": "loss slope around the phase window"}
    return xr.Dataset(
        {
            "loss_slope": (("when", "range"), np.stack([part.mean(0) for part in slopes]), about),
            "loss_slope_error": (("when", "range"), np.stack([_standard_error(part) for part in slopes]), about),
        },
        {"when": list(sides), "range": list(ranges)},
        {"split": split},
    )


def _slope_weights(x: Float[np.ndarray, " position"], inside: np.ndarray) -> Float[np.ndarray, " position"]:
    """The weights by which the values at `inside` add up to the slope of the straight line fitted to them."""
    centred = np.where(inside, x - x[inside].mean(), 0.0)
    weights: np.ndarray = centred / (centred**2).sum()
    return weights


def _standard_error(values: Float[np.ndarray, "step range"]) -> Float[np.ndarray, " range"]:
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    error: np.ndarray = values.std(0, ddof=1) / np.sqrt(len(values))
    return error
