"""SuperpositionView: the geometry of toy models, stepping through training."""

from __future__ import annotations

import traitlets
import xarray as xr

from ..errors import HistoryError
from ._superposition_data import superposition_payload
from ._widget import PayloadWidget


class SuperpositionView(PayloadWidget):
    """Features as vectors, their dimensionalities and the loss of toy models, linked by one slider over training.

    With up to three hidden dimensions the features are drawn as they lie (three can be turned by dragging or with
    the arrow keys), with the hull of each group that shares a subspace. With more, `W^T W` is drawn as a matrix and
    each group in its own subspace. The dimensionality of each feature stands over training against the
    levels of the polytopes; energy-level jumps and drops of the loss are marked as `find_jumps` finds them over all
    instances. Polytopes are measured (`measure_geometry`) unless the history brings them, which takes about a
    second for 1,000 matrices: of many instances choose some, `history.isel(instance=[...])`.

    A polytope's name says what the angles and lengths are near to, not that training is done.

    Parameters
    ----------
    history
        What `train_toy_models` returns; `example_superposition()` has some.

    Raises
    ------
    HistoryError
        If the history does not follow the schema, or `step`, `instance` or `feature` is set to something that the
        history does not have.
    """

    bundle = "superposition_view"
    choices = ("step", "instance", "feature")

    # Plain TraitType, not Int: the validators below say what there is to choose from.
    step = traitlets.TraitType[int, int](help="optimiser step on show").tag(sync=True)
    instance = traitlets.TraitType[int, int](help="number of the instance on show").tag(sync=True)
    feature = traitlets.TraitType[int | None, int | None](help="number of the chosen feature, None for none").tag(
        sync=True
    )

    def __init__(self, history: xr.Dataset) -> None:
        header, data = superposition_payload(history)
        self._steps = [int(step) for step in history["step"].values]
        self._sizes = {name: history.sizes[name] for name in ("instance", "feature")}
        super().__init__(header, data, step=self._steps[-1], instance=0, feature=None)

    @property
    def _title(self) -> str:
        return f"superposition · {self._header['about']}"

    def __repr__(self) -> str:
        n_instances = self._sizes["instance"]
        return f"SuperpositionView({self._header['about']}: {n_instances} instances, {len(self._steps)} steps)"

    @traitlets.validate("step")
    def _check_step(self, proposal: traitlets.Bunch) -> int:
        step = proposal["value"]
        if isinstance(step, bool) or step not in self._steps:
            shown = ", ".join(map(str, self._steps[:20])) + (", ..." if len(self._steps) > 20 else "")
            raise HistoryError(f"step={step!r} was not recorded; there are {shown}")
        return int(step)

    @traitlets.validate("instance", "feature")
    def _check_number(self, proposal: traitlets.Bunch) -> int | None:
        value, name = proposal["value"], proposal["trait"].name
        if name == "feature" and value is None:
            return None
        if isinstance(value, bool) or value not in range(self._sizes[name]):
            raise HistoryError(f"{name}={value!r} is none of this history, which has 0..{self._sizes[name] - 1}")
        return int(value)
