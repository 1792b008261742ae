"""CircuitView: the induction circuit as a diagram, of one model or along a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import traitlets
import xarray as xr

from ..circuit.result import InductionCircuit
from ..display.score_maps import printable
from ..errors import HistoryError
from ..history import PATTERN_SCALE
from ..system.whole_numbers import whole_number
from ._choices import HeadChoice, listed
from ._circuit_data import CircuitData
from ._circuit_figure import draw_circuit
from ._payload import pack_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CircuitView(HeadChoice):
    """The heads of an induction circuit and what they do to each other, from the first layer up to the last.

    A head is drawn as large as the loss on the second repeat rises without it (estimated, in nats), or as its total
    lift where that is not known. Shape and colour say its role, the label names the figure behind it. An edge is as
    wide as its share of the receiver's score gap (K, Q) or of the sender's total lift (V). Choosing a head shows its
    attention on the circuit's prompt.

    Shares are estimates to first order, except where `measured` is known: a wide edge shows where to ablate.

    Parameters
    ----------
    circuit
        An `inductionkit.circuit.InductionCircuit`, or a history with circuits: then a slider steps through the run, and
        every head keeps its place. A mapping {step: circuit} does too.

    Raises
    ------
    HistoryError
        If `circuit` is something else, its nodes and edges do not fit together, or `head` or `step` is set to
        something that it does not have.
    """

    bundle = "circuit_view"
    choices = ("head", "step")
    _what = "this circuit has"

    step = traitlets.TraitType[int | None, int | None](help="optimiser step on show, None without steps").tag(sync=True)

    def __init__(self, circuit: InductionCircuit | xr.Dataset | Mapping[int, InductionCircuit]) -> None:
        data = self._circuit = _data_of(circuit)
        self._known, self._steps = data.nodes, data.steps
        arrays = {"step": np.array(data.steps or [0], np.float64), **data.arrays()}
        patterns = data.patterns()
        if patterns:
            arrays["pattern"] = patterns[1]
        table, buffer = pack_arrays(arrays)
        header = {
            "arrays": table,
            "model": printable(data.first.model),
            "layers": list(range(data.first.n_layers)),
            "heads": list(range(data.first.n_heads)),
            "stepped": bool(data.steps),
            "series": patterns[0] if patterns else None,
            "tokens": [patterns[2]] if patterns else [],
            "patternScale": PATTERN_SCALE,
            "circuit": data.header(),
        }
        super().__init__(header, buffer, head=data.strongest(), step=data.steps[-1] if data.steps else None)

    def to_figure(self) -> Figure:
        """A Matplotlib figure of the circuit at the current step, for papers. Needs the extra `plots`."""
        return draw_circuit(self._circuit, self._steps.index(self.step) if self.step is not None else 0)

    @property
    def _title(self) -> str:
        return " · ".join(part for part in (str(self._header["model"]), "induction circuit") if part)

    def __repr__(self) -> str:
        steps = f", {len(self._steps)} checkpoints" if self._steps else ""
        return (
            f"CircuitView({self._header['model']}: {len(self._known)} heads, {len(self._circuit.edges)} edges{steps})"
        )

    @traitlets.validate("step")
    def _check_step(self, proposal: traitlets.Bunch) -> int | None:
        value = proposal["value"]
        if value is None and not self._steps:
            return None
        if isinstance(value, bool) or value not in self._steps:
            raise HistoryError(f"step={value!r} is no step of this circuit, which has {listed(self._steps) or 'none'}")
        return int(value)


def _data_of(circuit: object) -> CircuitData:
    if isinstance(circuit, xr.Dataset):
        if "edge_share" not in circuit or "step" not in circuit.dims:
            known = ", ".join(map(str, circuit.data_vars))
            raise HistoryError(f"the history has no circuits (edge_share by step); it has {known or 'no variables'}")
        return CircuitData.of_history(circuit)
    if isinstance(circuit, InductionCircuit):
        return CircuitData(circuit)
    if isinstance(circuit, Mapping):
        steps = [whole_number(step, "step", 0, HistoryError) for step in circuit]
        return CircuitData(dict(sorted(zip(steps, circuit.values()))))
    seen = type(circuit).__name__
    raise HistoryError(f"a CircuitView shows what induction_circuit returns, or a history; got {seen}")
