"""Energy-level jumps: features that change their dimensionality at once, and the drops of the loss (E22).

In the manner of `inductionkit.phase`: a rule fixed beforehand, what was found with its windows, or
the reasons why nothing was. NumPy and pandas alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..errors import HistoryError
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number
from .dimensionality import STICKY_LEVELS, feature_dimensionality
from .history import validate

COLUMNS = ("instance", "feature", "start_step", "end_step", "before", "after", "level", "on_drop")
N_SHUFFLES = 1000


@dataclass(frozen=True)
class JumpCriteria:
    """Thresholds of `find_jumps`. Dimensionalities are fractions of a dimension, rates per e-fold of the steps.

    `min_change`: least change of dimensionality of a jump. `min_rate`: least rate of it all along. `min_drop`: how many
    times faster than its mean rate the loss falls in a drop. `beginning`: share of the loss's whole fall that is left
    out. `min_share`: least share of jumps on drops. `max_p_value`: highest share of shuffles that do as well. The first
    three are 0 or more, the others 0 to 1; else HistoryError is raised.
    """

    min_change: float = 0.1
    min_rate: float = 0.15
    min_drop: float = 1.5
    beginning: float = 0.5
    min_share: float = 0.8
    max_p_value: float = 0.05

    def __post_init__(self) -> None:
        for name in ("min_change", "min_rate", "min_drop"):
            real_number(getattr(self, name), name, "[0, inf]", HistoryError)
        for name in ("beginning", "min_share", "max_p_value"):
            real_number(getattr(self, name), name, "[0, 1]", HistoryError)


@dataclass(frozen=True)
class EnergyLevelJumps:
    """The jumps that `find_jumps` saw, and whether they fall on drops of the loss; true if they do.

    `found` says the same, `reasons` why not, `criteria` by which thresholds. `jumps` has a row a jump: instance,
    feature, the steps it lasts from and to, dimensionality before and after, the polytope whose level is nearest to
    the latter, and whether it overlaps a drop. `drops` has a row a drop: instance, steps from and to. `start_step`
    and `end_step` hold the middle nine tenths of the jumps; `share_on_drops` and `shuffled_share` are shares of
    jumps, 0 to 1; `p_value` is that of rule 3.
    """

    found: bool
    reasons: tuple[str, ...]
    criteria: JumpCriteria
    jumps: pd.DataFrame = field(repr=False)
    drops: pd.DataFrame = field(repr=False)
    start_step: float | None = None
    end_step: float | None = None
    share_on_drops: float | None = None
    shuffled_share: float | None = None
    p_value: float | None = None

    def __bool__(self) -> bool:
        return self.found

    def __repr__(self) -> str:
        if not self.found:
            return "No energy-level jumps on loss drops: " + "; ".join(self.reasons)
        return (
            f"{len(self.jumps)} energy-level jumps, nine tenths of them from step {self.start_step:,.0f} to "
            f"{self.end_step:,.0f}\n"
            f"  {self.share_on_drops:.0%} fall on drops of the loss ({self.shuffled_share:.0%} when moved "
            f"in time, p = {self.p_value:.3f})"
        )


@dataclass(frozen=True)
class _Trajectory:
    """The jumps (with `start`, `end` in log steps) and drops of one instance after its beginning."""

    jumps: pd.DataFrame
    drops: Float[np.ndarray, "drop 2"]
    begin: float
    end: float
    largest_change: float


def find_jumps(
    history: xr.Dataset, instance: int | None = None, criteria: JumpCriteria = JumpCriteria()
) -> EnergyLevelJumps:
    """Jumps of features between dimensionalities in training, and the loss drops they fall on.

    Of one `instance` of a `history` of toy models, or of all together; `criteria` hold the thresholds. The rule,
    against the log of the step (step 0 is left out):

    1. A jump is a stretch of recorded steps over which a feature's dimensionality moves one way, by at least
       `min_rate` per e-fold of steps everywhere and `min_change` in all.
    2. The beginning, in which the features grow to their lengths, is left out: until the loss has made the share
       `beginning` of its whole fall. A drop is a stretch after it over which the loss falls faster than
       `min_drop` times its mean rate after it.
    3. A jump falls on a drop if the two overlap. Features jump together, so for the null the jumps of an instance
       that overlap in time are moved as one block, each block to a random time after the beginning, 1,000 times.
       `p_value` is the share of these shuffles in which as large a share of the jumps meets a drop.
    4. The jumps fall on loss drops if that share is at least `min_share` and the p value at most `max_p_value`.

    Falling together is no proof that a feature's jump causes the drop. An instance whose jumps all come in one block
    is a single coincidence, of little weight however many jumps there are: judge several instances together. Raises
    HistoryError if `weight` or `loss` is missing, there is no such instance, or fewer than 3 steps after the first.
    """
    validate(history, needs=("weight", "loss"))
    if instance is not None and whole_number(instance, "instance", 0, HistoryError) >= history.sizes["instance"]:
        raise HistoryError(f"instance={instance}: the history has instances 0..{history.sizes['instance'] - 1}")
    history = history.isel(step=history["step"].values > 0)
    if history.sizes["step"] < 3:
        raise HistoryError(f"{history.sizes['step']} recorded steps after the first are too few; record 3 or more")
    instances = range(history.sizes["instance"]) if instance is None else [instance]
    seen = {one: _follow(history.isel(instance=one), criteria) for one in instances}
    jumps = pd.concat([one.jumps.assign(instance=number) for number, one in seen.items()], ignore_index=True)
    drops = pd.DataFrame(
        [(number, *_steps(drop)) for number, one in seen.items() for drop in one.drops],
        columns=["instance", "start_step", "end_step"],
    )
    table = jumps.assign(start_step=_steps(jumps["start"]), end_step=_steps(jumps["end"]))[list(COLUMNS)]
    if not len(jumps):
        most = max(one.largest_change for one in seen.values())
        reason = f"no feature's dimensionality jumps by {criteria.min_change} (it varies by at most {most:.3f})"
        return EnergyLevelJumps(False, (reason,), criteria, table, drops)

    share = float(jumps["on_drop"].mean())
    rng = np.random.default_rng(0)
    shuffled = np.concatenate([_shuffled(one, rng) for one in seen.values()], axis=1).mean(axis=1)
    p_value = float(((shuffled >= share).sum() + 1) / (N_SHUFFLES + 1))
    reasons = []
    if share < criteria.min_share:
        reasons.append(
            f"{share:.0%} of {len(jumps)} jumps fall on drops of the loss, fewer than {criteria.min_share:.0%}"
        )
    if p_value > criteria.max_p_value:
        reasons.append(f"as many do when moved in time (p = {p_value:.2f}, above {criteria.max_p_value})")
    start_step, end_step = np.exp(np.quantile((jumps["start"] + jumps["end"]) / 2, (0.05, 0.95)))
    return EnergyLevelJumps(
        found=not reasons,
        reasons=tuple(reasons),
        criteria=criteria,
        jumps=table,
        drops=drops,
        start_step=float(start_step),
        end_step=float(end_step),
        share_on_drops=share,
        shuffled_share=float(shuffled.mean()),
        p_value=p_value,
    )


def _follow(history: xr.Dataset, criteria: JumpCriteria) -> _Trajectory:
    """Jumps and drops of one instance, by rules 1 and 2."""
    log_step, loss = np.log(history["step"].values), history["loss"].values.astype(float)
    dimensionality = feature_dimensionality(history["weight"].values.astype(float))
    begun = int(np.argmax(loss <= loss[0] - criteria.beginning * (loss[0] - loss.min())))
    begun = min(begun, len(loss) - 2)
    mean_rate = (loss[begun] - loss[-1]) / (log_step[-1] - log_step[begun])
    dropping = -np.diff(loss) / np.diff(log_step) > criteria.min_drop * max(mean_rate, 0)
    dropping[:begun] = False
    drops = log_step[np.array(_runs(dropping), dtype=int).reshape(-1, 2)]
    jumps = _jumps(log_step, dimensionality, criteria)
    jumps = jumps[jumps["end"] > log_step[begun]].reset_index(drop=True)
    jumps["on_drop"] = _meets(jumps[["start", "end"]].values, drops)
    return _Trajectory(jumps, drops, log_step[begun], log_step[-1], float(np.ptp(dimensionality, axis=0).max()))


def _jumps(log_step: np.ndarray, dimensionality: np.ndarray, criteria: JumpCriteria) -> pd.DataFrame:
    """The jumps by rule 1, `start` and `end` in log steps, in order of time."""
    rows = []
    for feature, series in enumerate(dimensionality.T):
        rate = np.diff(series) / np.diff(log_step)
        for first, last in _runs(rate >= criteria.min_rate) + _runs(rate <= -criteria.min_rate):
            before, after = series[first], series[last]
            if abs(after - before) >= criteria.min_change:
                rows.append((feature, log_step[first], log_step[last], before, after, _nearest_level(after)))
    types = {"feature": int, "start": float, "end": float, "before": float, "after": float, "level": str}
    return pd.DataFrame(rows, columns=list(types)).astype(types).sort_values(["start", "feature"], ignore_index=True)


def _shuffled(trajectory: _Trajectory, rng: np.random.Generator) -> Bool[np.ndarray, "shuffle jump"]:
    """Whether each jump meets a drop when the blocks of overlapping jumps are moved to random times, by rule 3."""
    start, end = trajectory.jumps["start"].to_numpy(), trajectory.jumps["end"].to_numpy()
    so_far = np.maximum.accumulate(end)
    block = np.concatenate([[0], np.cumsum(start[1:] > so_far[:-1])])[: len(start)].astype(int)
    first = np.array([start[block == one].min() for one in np.unique(block)])
    length = np.array([end[block == one].max() for one in np.unique(block)]) - first
    room = np.maximum(trajectory.end - trajectory.begin - length, 0)
    shift = trajectory.begin + rng.random((N_SHUFFLES, len(first))) * room - first
    moved = np.stack([start + shift[:, block], end + shift[:, block]], axis=-1)
    return _meets(moved.reshape(-1, 2), trajectory.drops).reshape(N_SHUFFLES, len(start))


def _meets(stretches: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Whether each stretch overlaps any of the drops."""
    meets: np.ndarray = np.any((stretches[:, :1] < drops[:, 1]) & (stretches[:, 1:] > drops[:, 0]), axis=1)
    return meets


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where each run of true intervals begins and ends, as indices of the points between intervals."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()))


def _nearest_level(dimensionality: float) -> str:
    levels = {**STICKY_LEVELS, "none": 0.0}
    return min(levels, key=lambda name: abs(levels[name] - dimensionality))


def _steps(log_step: ArrayLike) -> np.ndarray:
    steps: np.ndarray = np.exp(np.asarray(log_step, dtype=float)).round()
    return steps
