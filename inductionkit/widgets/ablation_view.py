"""AblationView: what becomes of the loss and of in-context learning when heads are zeroed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import traitlets
import xarray as xr

from ..errors import HistoryError
from ._ablation_data import AblationData, random_draws
from ._choices import HeadChoice
from ._payload import pack_arrays


class AblationView(HeadChoice):
    """The change of in-context-learning score or loss by zeroing heads, in nats per token, and where it falls.

    A layer-by-head map (or a bar per set of heads), the loss by position with and without the chosen
    heads, full against pattern-preserving ablation if both are given, and the change along a run with
    a slider if there are steps. A large change shows that the rest of the model relies on a head, not
    what the head does; a small one may hide another head that stands in.

    Parameters
    ----------
    ablations
        What `ablate_heads` or `scan_ablations` returns.
    other
        The same with the other `kind`, to compare full with pattern-preserving ablation.
    random
        What `compare_with_random_heads` returns: the heads' share beside those of random draws.

    Raises
    ------
    HistoryError
        If the data are not of ablations, do not belong together, or `head`, `ablation`, `step` or
        `metric` is set to something that they do not have.
    """

    bundle = "ablation_view"
    choices = ("head", "ablation", "step", "metric")
    _what = "these ablations have"

    ablation = traitlets.TraitType[str | None, str | None](
        help="label of the chosen set of heads; None where heads are zeroed in turn"
    ).tag(sync=True)
    step = traitlets.TraitType[int | None, int | None](help="optimiser step on show, None without steps").tag(sync=True)
    metric = traitlets.TraitType[str, str](help="name of the change on show").tag(sync=True)

    def __init__(
        self, ablations: xr.Dataset, other: xr.Dataset | None = None, *, random: xr.Dataset | None = None
    ) -> None:
        data = AblationData(ablations, other)
        self._known, self._sets, self._steps, self._metrics = data.heads, data.sets, data.steps, data.metrics
        arrays, header = data.arrays(), data.header()
        if random is not None:
            draws, header["random"] = random_draws(random)
            arrays |= draws
        table, buffer = pack_arrays(arrays)
        best = data.strongest()
        super().__init__(
            {"arrays": table, **header},
            buffer,
            head=self._known[best] if self._known else None,
            ablation=self._sets[best] if self._sets else None,
            step=self._steps[-1] if self._steps else None,
            metric=self._metrics[0],
        )

    @property
    def _title(self) -> str:
        return " · ".join(part for part in (str(self._header["model"]), "ablations") if part)

    def __repr__(self) -> str:
        n, steps = len(self._known or self._sets), f", {len(self._steps)} checkpoints" if self._steps else ""
        return f"AblationView({self._header['model']}: {n} ablations{steps})"

    @traitlets.validate("ablation", "step", "metric")
    def _check_choice(self, proposal: traitlets.Bunch) -> object:
        value, name = proposal["value"], proposal["trait"].name
        all_known: dict[str, Sequence[object]] = {
            "ablation": self._sets,
            "step": self._steps,
            "metric": self._metrics,
        }
        known = all_known[name] or [None]
        if isinstance(value, bool) or value not in known:
            shown = ", ".join(map(str, known[:20])) + (" ..." if len(known) > 20 else "")
            raise HistoryError(f"{name}={value!r} is not among these ablations, which have {shown}")
        return int(value) if isinstance(value, np.integer) else value
