"""The series of a history that the markers of a phase change are read from, with what is missing left as NaN."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import numpy.typing as npt
import xarray as xr
from jaxtyping import Float

from .clock import Clock, elapsed
from .pivot import token_loss_path
from .rise import Series

SMOOTHING = 0.1
READ = ("prefix_matching", "icl_score", "loss", "example_loss", "example_icl_score", "token_loss")


@dataclasses.dataclass(frozen=True)
class Curves:
    """Series over the checkpoints after the untrained one; a checkpoint at which a series was not measured has NaN.

    `learning`: the in-context-learning score turned about, higher is better, and smoothed. `prefix_matching`: of the
    best head. `path`: per-token losses on their first two principal components, None where the history has none.
    `untrained_loss`: before training, None if that was not measured.
    """

    log_elapsed: Series
    step: Series
    loss: Series
    icl_score: Series
    learning: Series
    prefix_matching: Series
    path: Float[np.ndarray, "step 2"] | None
    untrained_loss: float | None


def read_curves(history: xr.Dataset, clock: Clock, untrained_loss: float | None) -> Curves:
    """Take the series out of a history, `after_untrained`, against elapsed training on `clock`."""
    log_elapsed = np.log(elapsed(history, clock))
    path = token_loss_path(values(history, "token_loss"), untrained_loss) if "token_loss" in history else None
    return Curves(
        log_elapsed=log_elapsed,
        step=history["step"].values.astype(float),
        loss=values(history, "loss"),
        icl_score=values(history, "icl_score"),
        learning=smoothed(log_elapsed, -values(history, "icl_score")),
        prefix_matching=best(values(history, "prefix_matching").reshape(history.sizes["step"], -1)),
        path=path,
        untrained_loss=untrained_loss,
    )


def after_untrained(history: xr.Dataset) -> xr.Dataset:
    """What the rule reads of a history, at the checkpoints after the untrained one."""
    return history[[name for name in READ if name in history]].isel(step=elapsed(history) > 0)


def untrained_loss(history: xr.Dataset) -> float | None:
    """The loss before the first optimiser step, None if it was not measured."""
    loss = history["loss"].values[elapsed(history) == 0]
    return float(loss[0]) if np.isfinite(loss).any() else None


def values(history: xr.Dataset, name: str) -> npt.NDArray[np.float64]:
    """A variable's values."""
    return history[name].values.astype(float)


def smoothed(log_elapsed: Series, series: Float[np.ndarray, "*draw step"]) -> Float[np.ndarray, "*draw step"]:
    """A noisy series averaged over the checkpoints near each, by a Gaussian of `SMOOTHING` in the log.

    Without, a rise would begin and end with whatever checkpoint fluctuates most; sparse checkpoints stay as they are.
    """
    known = np.isfinite(series).all(axis=tuple(range(series.ndim - 1)))
    x = log_elapsed[known]
    near = np.exp(-0.5 * ((x[:, None] - x) / SMOOTHING) ** 2)
    result = np.full(series.shape, np.nan)
    result[..., known] = series[..., known] @ (near / near.sum(0))
    return result


def best(per_head: Float[np.ndarray, "step head"]) -> Series:
    """The highest score at each checkpoint, NaN where no head has one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a checkpoint at which no head was measured
        return np.nanmax(per_head, axis=1) if per_head.shape[1] else np.full(len(per_head), np.nan)
