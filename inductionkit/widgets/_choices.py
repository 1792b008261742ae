"""What may be chosen in a history: one of its steps, heads and texts. Anything else is refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from ..errors import HistoryError
from ._phase_data import head_labels, text_names

Head = tuple[int, int]


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

    def check_head(self, value: object) -> Head | None:
        """A (layer, head); None only where there are no heads."""
        if not self.n_heads and value is None:
            return None
        return self._check_pair("head", value)

    def check_heads(self, values: object) -> tuple[Head, ...]:
        """Any number of (layer, head), each once."""
        try:
            pairs = list(values)
        except TypeError:
            raise HistoryError(f"heads={values!r} is no list of (layer, head) pairs; give [] for none") from None
        return tuple(dict.fromkeys(self._check_pair("heads", pair) for pair in pairs))

    def check_text(self, value: object) -> str | None:
        if not self.texts and value is None:
            return None
        if value in self.texts:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.texts):
            return self.texts[value]
        known = ", ".join(f"{index} {name!r}" for index, name in enumerate(self.texts))
        raise HistoryError(f"text={value!r} is no text of this history, which has {known or 'none'}")

    def _check_pair(self, trait: str, value: object) -> Head:
        if not self.n_heads:
            raise HistoryError(f"{trait}={value!r} cannot be chosen; this history has no variable per head")
        try:
            layer, head = (int(number) for number in value if int(number) == number)
        except (TypeError, ValueError):
            raise HistoryError(f"{trait}={value!r} is no (layer, head) pair, such as ({self.layers[-1]}, 0)") from None
        for name, number, numbers in (("layer", layer, self.layers), ("head", head, self.heads)):
            if number not in numbers:
                raise HistoryError(
                    f"{trait}=({layer}, {head}) names {name} {number}; this history has {name}s {listed(numbers)}"
                )
        return layer, head


def listed(numbers: Sequence[int]) -> str:
    """Numbers for a message: a range where they are one, every number if few, else the two ends."""
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    if len(numbers) > 40:
        return f"{', '.join(map(str, numbers[:20]))} ... {', '.join(map(str, numbers[-20:]))}"
    return ", ".join(map(str, numbers))
