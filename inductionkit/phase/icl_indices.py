"""The in-context-learning score at other token indices, and how little the window depends on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..history import VARIABLES, validate
from ..scores.icl import icl_score, icl_settings
from ..system.whole_numbers import whole_number, whole_numbers
from .clock import clock_of
from .criteria import PhaseCriteria
from .rule import find_phase_change


def icl_score_at(history: xr.Dataset, early: int, late: int, half_width: int = 0) -> xr.DataArray:
    """In-context-learning score between any two token indices, in nats: late loss minus early loss; negative is better.

    The loss is averaged over the indices within `half_width` of each. As far as the loss goes on falling along the
    context, indices farther apart give a larger score, whatever the model makes of its context.

    Returns a DataArray (step). Raises HistoryError if `loss_by_position` is missing or the indices don't fit it.

    >>> from inductionkit.testing import synthetic_history
    >>> history = synthetic_history()
    >>> bool(abs(icl_score_at(history, 12, 120) - history.icl_score).max() < 1e-6)
    True
    """
    early, late = whole_number(early, "early", 0, HistoryError), whole_number(late, "late", 0, HistoryError)
    half_width = whole_number(half_width, "half_width", 0, HistoryError)
    validate(history, needs=("loss_by_position",))
    first, last = (int(history["position"].values[end]) for end in (0, -1))
    if not first + half_width <= early < late <= last - half_width:
        raise HistoryError(
            f"early={early}, late={late} with half_width={half_width} do not fit token indices {first} to {last}; "
            f"early must come before late, and each have half_width indices on either side"
        )
    score = icl_score(history["loss_by_position"].values.astype(float), early, late, half_width)
    variable = VARIABLES["icl_score"]
    attrs = {"units": variable.units, "long_name": variable.long_name, "reference": variable.reference}
    about = {"icl_early": early, "icl_late": late, "icl_half_width": half_width}
    coords = {name: history[name] for name in ("step", "tokens_seen") if name in history.coords}
    return xr.DataArray(score, coords, ("step",), "icl_score", attrs | about)


def icl_sensitivity(
    history: xr.Dataset,
    early: Sequence[int] | None = None,
    late: Sequence[int] | None = None,
    criteria: PhaseCriteria = PhaseCriteria(),
) -> xr.Dataset:
    """The phase window of a history for other pairs of token indices of the in-context-learning score.

    `history` needs `loss_by_position`; `criteria` are those of `find_phase_change`. `early` and `late` are by default
    half, once and twice the history's own early index (50 of 512 in O22), and 0.6, 0.8 and once its late one. The
    least gain asked for is scaled by ln(late / early), as O22's -0.4 nats go with ln(500 / 50); so is a rule of thumb
    that takes the loss to fall evenly in the log of the index.

    Returns a Dataset (early, late): `found`, `start` and `end` of the window, `icl_start` and `icl_end` of in-context
    learning alone, in tokens or steps (their `units`), and `icl_gain_inside`, in nats. NaN where there is none.

    Raises HistoryError as `icl_score_at` and `find_phase_change` do.
    """
    validate(history, needs=("loss_by_position",))
    usual = icl_settings(int(history["position"].values[-1]) + 1)
    usual |= {name: int(history.attrs[name]) for name in usual if name in history.attrs}
    if early is None:
        early = [max(1, round(usual["icl_early"] * by)) for by in (0.5, 1, 2)]
    if late is None:
        late = [round(usual["icl_late"] * by) for by in (0.6, 0.8, 1)]
    early = whole_numbers(early, "early", 1, HistoryError).tolist()
    late = whole_numbers(late, "late", 1, HistoryError).tolist()
    units = {"units": clock_of(history)}
    attrs = {
        "found": {"long_name": "whether there is a phase change"},
        "start": {**units, "long_name": "start of the window"},
        "end": {**units, "long_name": "end of the window"},
        "icl_start": {**units, "long_name": "start of in-context learning"},
        "icl_end": {**units, "long_name": "end of in-context learning"},
        "icl_gain_inside": {"units": "nats/token", "long_name": "gain of in-context learning in the window"},
    }
    table = {name: np.full((len(early), len(late)), np.nan) for name in attrs}
    for i, one in enumerate(early):
        for j, other in enumerate(late):
            width = min(usual["icl_half_width"], one - 1)
            score = icl_score_at(history, one, other, width)
            share = np.log(other / one) / np.log(usual["icl_late"] / usual["icl_early"])
            scaled = dataclasses.replace(criteria, min_icl_gain=criteria.min_icl_gain * share)
            phase = find_phase_change(history.assign(icl_score=score), scaled, n_resamples=0)
            window = phase.markers["icl_score"].window if phase.markers else None
            row = (phase.found, phase.start, phase.end, *(window or (None, None)), phase.icl_gain_inside)
            for name, value in zip(attrs, row):
                table[name][i, j] = np.nan if value is None else value
    data = {name: (("early", "late"), table[name], attrs[name]) for name in attrs}
    return xr.Dataset(
        {**data, "found": (("early", "late"), table["found"] == 1, attrs["found"])}, {"early": early, "late": late}
    )
