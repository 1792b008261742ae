"""What may be chosen in a widget: steps and texts of a history, and heads. Anything else is refused with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import traitlets
import xarray as xr

from ..errors import HistoryError
from ..system.head_names import named_head
from ._phase_data import head_labels, text_names
from ._widget import PayloadWidget

Head = tuple[int, int]


class HeadChoice(PayloadWidget):
    """A widget with a chosen head. A subclass says which (layer, head) pairs there are in `_known`."""

    _known: Sequence[Head]
    _what: str
    """What the widget shows, for messages: "these scores have ..."."""

    # Plain TraitType, not Any: Any takes None without asking the validators below.
    head = traitlets.TraitType[Head | None, Sequence[int] | str | None](
        help="(layer, head) of the chosen head, None without heads; may be set by its label, such as '1.3'"
    ).tag(sync=True)

    @traitlets.validate("head")
    def _check_head(self, proposal: traitlets.Bunch) -> Head | None:
        if proposal["value"] is None and not self._known:
            return None
        return self._check_pair("head", proposal["value"])

    def _check_pair(self, trait: str, value: object) -> Head:
        pair = named_head(value)
        if pair is None:
            example = self._known[-1] if self._known else (0, 0)
            label = f"{example[0]}.{example[1]}"
            raise HistoryError(f"{trait}={value!r} holds no (layer, head) pair, such as {example} or {label!r}")
        if pair not in self._known:
            shown = ", ".join(f"{layer}.{head}" for layer, head in self._known[:12])
            known = f"{shown}, ... ({len(self._known)} in all)" if len(self._known) > 12 else shown or "none"
            raise HistoryError(f"{trait} names head {pair[0]}.{pair[1]}; {self._what} {known}")
        return pair


class HeadsChoice(HeadChoice):
    """A widget with a set of heads too, each once, in the order given."""

    heads = traitlets.TraitType[tuple[Head, ...], Iterable[Sequence[int] | str]](
        help="the highlighted or marked heads, each (layer, head); may be set by labels, such as '1.3'"
    ).tag(sync=True)

    @traitlets.validate("heads")
    def _check_heads(self, proposal: traitlets.Bunch) -> tuple[Head, ...]:
        value = proposal["value"]
        if not isinstance(value, Iterable):
            raise HistoryError(f"heads={value!r} is no list of (layer, head) pairs; give [] for none")
        heads = [value] if isinstance(value, str) else value
        return tuple(dict.fromkeys(self._check_pair("heads", head) for head in heads))


@dataclass(frozen=True)
class Choices:
    """The steps, layers, heads and texts of a history, by the numbers and names that it gives them."""

    steps: tuple[int, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, history: xr.Dataset) -> Choices:
        layers, heads = head_labels(history)
        steps = (int(step) for step in history["step"].values)
        return cls(tuple(steps), tuple(layers), tuple(heads), tuple(text_names(history)))

    @property
    def n_heads(self) -> int:
        return len(self.layers) * len(self.heads)

    @property
    def pairs(self) -> tuple[Head, ...]:
        return tuple(product(self.layers, self.heads))

    def has_head(self, head: object) -> bool:
        return isinstance(head, tuple) and head[0] in self.layers and head[1] in self.heads

    def head_named(self, number: int) -> Head:
        """The (layer, head) of a head counted through the layers."""
        layer, head = divmod(number, len(self.heads))
        return self.layers[layer], self.heads[head]

    def number_of(self, head: Head) -> int:
        """A (layer, head) counted through the layers."""
        return self.layers.index(head[0]) * len(self.heads) + self.heads.index(head[1])

    def check_step(self, step: object) -> int:
        if isinstance(step, bool) or step not in self.steps:
            raise HistoryError(f"step={step!r} is no checkpoint of this history, which has {listed(self.steps)}")
        return int(step)

    def check_text(self, value: object) -> str | None:
        if not self.texts and value is None:
            return None
        if value in self.texts:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.texts):
            return self.texts[value]
        known = ", ".join(f"{index} {name!r}" for index, name in enumerate(self.texts))
        raise HistoryError(f"text={value!r} is no text of this history, which has {known or 'none'}")

    def check_pair(self, trait: str, value: object) -> Head:
        if not self.n_heads:
            raise HistoryError(f"{trait}={value!r} cannot be chosen; this history has no variable per head")
        pair = named_head(value)
        if pair is None:
            layer = self.layers[-1]
            raise HistoryError(f"{trait}={value!r} is no (layer, head) pair, such as ({layer}, 0) or '{layer}.0'")
        for name, number, numbers in zip(("layer", "head"), pair, (self.layers, self.heads)):
            if number not in numbers:
                raise HistoryError(f"{trait}={pair} names {name} {number}; this history has {name}s {listed(numbers)}")
        return pair


def common_traits(ours: Choices, theirs: Choices) -> list[str]:
    """The traits for which two explorers have the same choices. Raises HistoryError if their checkpoints differ."""
    if ours.steps != theirs.steps:
        raise HistoryError(
            f"explorers of {len(ours.steps)} and {len(theirs.steps)} checkpoints at different steps cannot be linked; "
            f"compare two runs with PhaseComparison(explorer, other)"
        )
    same_heads = (ours.layers, ours.heads) == (theirs.layers, theirs.heads)
    return ["step", *(("head", "heads") if same_heads else ()), *(("text",) if ours.texts == theirs.texts else ())]


def listed(numbers: Sequence[int]) -> str:
    """Numbers for a message: a range where they are one, every number if few, else the two ends."""
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    if len(numbers) > 40:
        return f"{', '.join(map(str, numbers[:20]))} ... {', '.join(map(str, numbers[-20:]))}"
    return ", ".join(map(str, numbers))


def head_numbers(scores: xr.Dataset) -> tuple[list[int], list[int]]:
    """The layers and heads that `scores` names. Raises HistoryError if they are not distinct whole numbers."""
    labels = []
    for dim in ("layer", "head"):
        values = scores[dim].values
        if not np.issubdtype(values.dtype, np.integer) or len(set(values.tolist())) < len(values):
            raise HistoryError(f"{dim}s must be distinct whole numbers; seen {values.tolist()[:8]!r}")
        labels.append([int(value) for value in values])
    return labels[0], labels[1]
