"""PhaseDiagramView: sparsity against relative importance, in closed form and trained, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import traitlets
import xarray as xr

from ..errors import HistoryError
from ..superposition.agreement import STATES, state_agreement
from ._payload import pack_arrays
from ._superposition_data import in_dimensions
from ._widget import PayloadWidget

CELL = ("sparsity", "relative_importance")


class PhaseDiagramView(PayloadWidget):
    """What becomes of an extra feature, by sparsity and relative importance; each cell opens on hover or choice.

    Two maps, closed form and trained; a cell of the trained one that disagrees has an outline. Beside them, of one
    cell: the trained weights as vectors and the exact losses of the candidate solutions, with the trained model's. A
    diagram of `candidate_solutions` has no trained half and is drawn without.

    Agreement tells that the best of several starts found the best candidate, not that single starts do.

    Parameters
    ----------
    diagram
        What `phase_diagram` or `candidate_solutions` returns; `example_superposition("phase-diagram-3-2")` is one.

    Raises
    ------
    HistoryError
        If it is something else, or `cell` is set to a pair that the diagram does not have.
    """

    bundle = "phase_diagram"
    choices = ("cell",)

    cell = traitlets.TraitType[tuple[int, int], Sequence[int]](
        help="(index of the sparsity, index of the relative importance)"
    ).tag(sync=True)

    def __init__(self, diagram: xr.Dataset) -> None:
        header, data = _payload(diagram)
        self._shape = diagram["best_state"].shape
        super().__init__(header, data, cell=tuple(size // 2 for size in self._shape))

    @property
    def _title(self) -> str:
        return f"phase diagram · {self._header['about']}"

    def __repr__(self) -> str:
        return f"PhaseDiagramView({self._header['about']}: {self._shape[0]} x {self._shape[1]} cells)"

    @traitlets.validate("cell")
    def _check_cell(self, proposal: traitlets.Bunch) -> tuple[int, int]:
        value = proposal["value"]
        try:
            cell = tuple(int(number) for number in value if int(number) == number)
        except (TypeError, ValueError):
            cell = ()
        if len(cell) != 2 or not all(0 <= index < size for index, size in zip(cell, self._shape)):
            rows, columns = self._shape
            raise HistoryError(
                f"cell={value!r} is none of this diagram; give (index of the sparsity 0..{rows - 1}, index of the "
                f"relative importance 0..{columns - 1})"
            )
        return cell


def _payload(diagram: xr.Dataset) -> tuple[dict[str, object], bytes]:
    _check(diagram)
    diagram = diagram.transpose("solution", *CELL, ...)
    arrays = {
        "best_state": _state_numbers(diagram["best_state"].values),
        "loss": diagram["loss"].values.astype(np.float64),
        **{name: diagram[name].values.astype(np.float64) for name in CELL},
    }
    agreement = np.nan
    if "trained_state" in diagram:
        arrays["trained_state"] = _state_numbers(diagram["trained_state"].values)
        arrays["trained_loss"] = diagram["trained_loss"].values.astype(np.float64)
        arrays["weight"] = diagram["weight"].values.astype(np.float32)
        agreement = state_agreement(diagram)
    table, buffer = pack_arrays(arrays)
    header = {
        "arrays": table,
        "states": list(STATES),
        "solutions": [str(name) for name in diagram["solution"].values],
        "agreement": None if np.isnan(agreement) else agreement,
        "about": in_dimensions(diagram.attrs["n_features"], diagram.attrs["n_hidden"]),
    }
    return header, buffer


def _check(diagram: xr.Dataset) -> None:
    if not isinstance(diagram, xr.Dataset) or diagram.attrs.get("experiment") != "phase diagram":
        seen = diagram.attrs.get("experiment", "none") if isinstance(diagram, xr.Dataset) else type(diagram).__name__
        raise HistoryError(f"a phase diagram is what phase_diagram returns; seen experiment {seen}")
    needs = ["best_state", "loss"]
    if "trained_state" in diagram:
        needs += ["trained_loss", "weight", "on_boundary"]
    missing = [name for name in needs if name not in diagram]
    if missing:
        raise HistoryError(
            f"the phase diagram lacks {', '.join(missing)}; it has {', '.join(map(str, diagram.data_vars))}"
        )


def _state_numbers(names: np.ndarray) -> np.ndarray:
    return np.array([STATES.index(name) for name in names.ravel()], dtype=np.uint8).reshape(names.shape)
