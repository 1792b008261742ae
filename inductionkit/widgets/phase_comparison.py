"""PhaseComparison: two runs side by side, on one clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import traitlets
import xarray as xr

from ..phase.clock import clock_of, elapsed
from ._payload import ALIGNMENT
from ._widget import PayloadWidget
from .phase_explorer import PhaseExplorer

SIDES = ("left", "right")


class PhaseComparison(PayloadWidget):
    """Two runs side by side: one clock steps both to their checkpoints nearest to it.

    The clock counts training tokens, or optimiser steps if a run or its control does not know its tokens at every
    checkpoint. Charts of the same view share their axes. Set `clock`, or anything in `left` and `right`, each an
    explorer of its own with `step`, `head`, `heads` and `text`. Runs that differ in more than one thing differ for any
    of them.

    Raises HistoryError if one of them is neither a history nor an explorer.

    >>> from inductionkit.testing import synthetic_history
    >>> both = PhaseComparison(synthetic_history(), synthetic_history(n_steps=9, window=None))
    >>> both.clock = 1e7
    >>> both.left.step, both.right.step
    (2209, 1831)
    """

    bundle = "phase_explorer"
    choices = ("clock", "_left", "_right")

    clock = traitlets.Float(help="training tokens seen, or optimiser steps").tag(sync=True)
    _left = traitlets.Dict(help="what is chosen on the left, as the browser has it").tag(sync=True)
    _right = traitlets.Dict().tag(sync=True)

    def __init__(self, left: PhaseExplorer | xr.Dataset, right: PhaseExplorer | xr.Dataset) -> None:
        self.left, self.right = _side(left), _side(right)
        self._moving = False
        payload = _joined([explorer._header for explorer in self._explorers], [one._data for one in self._explorers])
        clock = max(self._elapsed(explorer)[-1] for explorer in self._explorers)
        super().__init__(*payload, clock=clock, _left=_chosen(self.left), _right=_chosen(self.right))
        for name, explorer in zip(SIDES, self._explorers):
            self.observe(lambda change, explorer=explorer: self._take_choice(explorer, change["new"]), f"_{name}")
            explorer.observe(lambda _, name=name, explorer=explorer: self._tell(name, explorer), explorer.choices)
            explorer.observe(lambda _: self._grow(), "_data")
        self.on_msg(lambda _widget, content, _buffers: self._reply(content))

    @property
    def _explorers(self) -> tuple[PhaseExplorer, PhaseExplorer]:
        return self.left, self.right

    def _elapsed(self, explorer: PhaseExplorer) -> np.ndarray:
        """How much training each checkpoint of a side has seen, on the clock of both."""
        shown = (one for side in self._explorers for one in (side._history, side._control) if one is not None)
        return elapsed(explorer._history, clock_of(*shown))

    @traitlets.observe("clock")
    def _step_to_clock(self, change: traitlets.Bunch) -> None:
        if self._moving or change["old"] is traitlets.Undefined:
            return
        self._moving = True
        try:
            for explorer in self._explorers:
                explorer.step = explorer._steps[int(np.abs(self._elapsed(explorer) - change["new"]).argmin())]
        finally:
            self._moving = False

    def _take_choice(self, explorer: PhaseExplorer, chosen: dict[str, object]) -> None:
        """What the browser chose on one side; it moves the clock itself."""
        moving, self._moving = self._moving, True
        try:
            for name, value in chosen.items():
                setattr(explorer, name, value)
        finally:
            self._moving = moving

    def _tell(self, name: str, explorer: PhaseExplorer) -> None:
        """A side was set in Python: the browser hears of it, and a new step moves the clock and the other side."""
        setattr(self, f"_{name}", _chosen(explorer))
        seen = self._elapsed(explorer)
        at = seen[explorer._steps.index(explorer.step)]
        if not self._moving and np.abs(seen - self.clock).min() < abs(at - self.clock):
            self.clock = at

    def _grow(self) -> None:
        self._header, self._data = _joined(*zip(*((one._header, one._data) for one in self._explorers)))

    def _payload_to_save(self) -> tuple[dict[str, object], bytes]:
        return _joined(*zip(*(explorer._payload_to_save() for explorer in self._explorers)))

    def _reply(self, content: object) -> None:
        """Answer a question of one side: {"side": 0 or 1, "pattern": …}."""
        side = content.get("side") if isinstance(content, dict) else None
        if side in (0, 1) and (buffers := self._explorers[side]._asked_pattern(content)):
            self.send(content, buffers)

    @property
    def _title(self) -> str:
        return f"{self.left._header['model'] or 'left'} and {self.right._header['model'] or 'right'}"

    def __repr__(self) -> str:
        models = (f"{one._header['model']}: {len(one._steps)} checkpoints" for one in self._explorers)
        return f"PhaseComparison({' beside '.join(models)})"


class _Side(PhaseExplorer):
    """An explorer that lives in Python alone: its data travel with the comparison's."""

    def open(self) -> None:
        pass


def _side(given: PhaseExplorer | xr.Dataset) -> PhaseExplorer:
    """An explorer of what is given, standing where the given one stands."""
    if isinstance(given, PhaseExplorer):
        explorer = _Side(given._history, phase=given._phase, control=given._control, views=given._views)
    else:
        explorer = _Side(given)
    for name in explorer.choices if isinstance(given, PhaseExplorer) else ():
        setattr(explorer, name, getattr(given, name))
    # One that nobody has stepped joins the comparison's clock at the end.
    if explorer.step == explorer._steps[explorer._opening.index]:
        explorer.step = explorer._steps[-1]
    return explorer


def _chosen(explorer: PhaseExplorer) -> dict[str, object]:
    return {name: getattr(explorer, name) for name in explorer.choices}


def _joined(headers: Sequence[dict[str, object]], parts: Sequence[bytes]) -> tuple[dict[str, object], bytes]:
    """One payload of both sides: the second's data begin at `at`, where arrays may."""
    gap = bytes(-len(parts[0]) % ALIGNMENT)
    places = [0, len(parts[0]) + len(gap)]
    return {"sides": [{**header, "at": at} for header, at in zip(headers, places)]}, parts[0] + gap + parts[1]
