"""The traits of a widget whose reader chooses heads: one, `head`, and a marked set, `heads`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import traitlets
import xarray as xr

from ..errors import HistoryError
from ._widget import PayloadWidget

Head = tuple[int, int]


class HeadChoice(PayloadWidget):
    """A widget with a chosen head. A subclass says which (layer, head) pairs there are in `_known`."""

    _known: Sequence[Head]
    _what: str
    """What the widget shows, for messages: "these scores have ..."."""

    # Plain TraitType, not Any: Any takes None without asking the validators below.
    head = traitlets.TraitType(help="(layer, head) of the chosen head").tag(sync=True)

    @traitlets.validate("head")
    def _check_head(self, proposal: traitlets.Bunch) -> Head | None:
        if proposal["value"] is None and not self._known:
            return None
        return self._checked(proposal["value"], "head")

    def _checked(self, value: object, trait: str) -> Head:
        try:
            layer, head = (int(number) for number in value if int(number) == number)
        except (TypeError, ValueError):
            example = self._known[-1] if self._known else (0, 0)
            raise HistoryError(f"{trait}={value!r} holds no (layer, head) pair, such as {example}") from None
        if (layer, head) not in self._known:
            raise HistoryError(f"{trait} names head {layer}.{head}; {self._what} {_listed(self._known)}")
        return layer, head


class MarkedHeads(HeadChoice):
    """A widget that marks a set of heads too."""

    heads = traitlets.TraitType(help="(layer, head) pairs of the marked heads").tag(sync=True)

    @traitlets.validate("heads")
    def _check_heads(self, proposal: traitlets.Bunch) -> tuple[Head, ...]:
        try:
            pairs = list(proposal["value"])
        except TypeError:
            raise HistoryError(f"heads={proposal['value']!r} is no list of (layer, head) pairs") from None
        return tuple(sorted({self._checked(pair, "heads") for pair in pairs}))


def head_numbers(scores: xr.Dataset) -> tuple[list[int], list[int]]:
    """The layers and heads that `scores` names. Raises HistoryError if they are not distinct whole numbers."""
    labels = []
    for dim in ("layer", "head"):
        values = scores[dim].values
        if not np.issubdtype(values.dtype, np.integer) or len(set(values.tolist())) < len(values):
            raise HistoryError(f"{dim}s must be distinct whole numbers; seen {values.tolist()[:8]!r}")
        labels.append([int(value) for value in values])
    return labels[0], labels[1]


def _listed(heads: Sequence[Head]) -> str:
    shown = ", ".join(f"{layer}.{head}" for layer, head in heads[:12])
    return f"{shown}, ... ({len(heads)} in all)" if len(heads) > 12 else shown or "none"
