"""PhaseExplorer: the phase change of one run, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

import traitlets
import xarray as xr

from ..errors import HistoryError
from ._following import follow_store
from ._phase_data import head_labels, phase_payload, strongest_head, text_names, window_tokens
from ._widget import PayloadWidget


class PhaseExplorer(PayloadWidget):
    """Loss, in-context learning, heads and attention patterns of a run, linked by one checkpoint slider.

    Shows the loss curve and the in-context-learning score against training tokens, prefix matching
    of each head over training, prefix matching against copying at the current checkpoint, and the
    attention pattern of the chosen head on a text. Variables that the history lacks leave their
    view out. Stepping happens in the browser, no kernel is asked.

    Curves that move together do not show that one causes the other; that takes ablations.

    Parameters
    ----------
    history
        What `scan_run` returns or `open_history` reads.
    window
        The phase window to shade: `(start_tokens, end_tokens)`, or what `find_phase_change` returns.
    control
        A second history, of a one-layer model for instance, whose loss and in-context-learning
        curves are drawn behind in grey.

    Raises
    ------
    HistoryError
        If a history does not follow the schema, the window is none, or `step`, `head` or `text` is
        set to something that the history does not have.
    """

    bundle = "phase_explorer"
    choices = ("step", "head", "text")

    # Plain TraitType, not Any: Any takes None without asking the validators below.
    step = traitlets.TraitType(help="optimiser step of the current checkpoint").tag(sync=True)
    head = traitlets.TraitType(help="(layer, head) of the chosen head, None without heads").tag(sync=True)
    text = traitlets.TraitType(help="name of the chosen text, None without patterns; an index sets it too").tag(
        sync=True
    )

    def __init__(self, history: xr.Dataset, *, window: object = None, control: xr.Dataset | None = None) -> None:
        self._window, self._control = window_tokens(window), control
        super().__init__(
            *self._take(history),
            step=self._steps[-1],
            head=strongest_head(history),
            text=self._texts[0] if self._texts else None,
        )

    @property
    def history(self) -> xr.Dataset:
        """The history on show. Set it to a longer one of the same model and the explorer grows, also while open.

        An explorer that stands at the last step stays at the last step.
        """
        return self._history

    @history.setter
    def history(self, history: xr.Dataset) -> None:
        at_end = self.step == self._steps[-1]
        header, data = self._take(history)
        with self.hold_sync():
            self.step = self._steps[-1] if at_end or self.step not in self._steps else self.step
            self.head = self.head if self._has_head(self.head) else strongest_head(history)
            self.text = self.text if self.text in self._texts else next(iter(self._texts), None)
            self.set_trait("_header", header)
            self.set_trait("_data", data)

    def follow(self, source: object, seconds: float = 2.0) -> Self:
        """Keep up with a history that grows: a `TrainingWatch` in this process, or the store that another fills.

        A store (path or URL) is looked at every `seconds`, for as long as the explorer lives.
        """
        if hasattr(source, "observe"):
            source.observe(partial(setattr, self, "history"))
        else:
            follow_store(self, source, seconds)
        return self

    def _take(self, history: xr.Dataset) -> tuple[dict[str, object], bytes]:
        """Header and data of a history, and what may be chosen in it."""
        header, data = phase_payload(history, self._window, self._control)
        self._history = history
        self._steps = [int(step) for step in history["step"].values]
        self._layers, self._heads = head_labels(history)
        self._texts = text_names(history)
        return header, data

    def _has_head(self, head: tuple[int, int] | None) -> bool:
        return head is not None and head[0] in self._layers and head[1] in self._heads

    @property
    def _title(self) -> str:
        return " · ".join(part for part in (str(self._header["model"]), "phase explorer") if part)

    def __repr__(self) -> str:
        model, n_heads = self._header["model"], len(self._layers) * len(self._heads)
        return f"PhaseExplorer({model}: {len(self._steps)} checkpoints, {n_heads} heads)"

    @traitlets.validate("step")
    def _check_step(self, proposal: traitlets.Bunch) -> int:
        step = proposal["value"]
        if isinstance(step, bool) or step not in self._steps:
            raise HistoryError(f"step={step!r} is no checkpoint of this history, which has {_listed(self._steps)}")
        return int(step)

    @traitlets.validate("head")
    def _check_head(self, proposal: traitlets.Bunch) -> tuple[int, int] | None:
        value = proposal["value"]
        if not self._layers or not self._heads:
            if value is None:
                return None
            raise HistoryError(f"head={value!r} cannot be chosen; this history has no variable per head")
        try:
            layer, head = (int(number) for number in value if int(number) == number)
        except (TypeError, ValueError):
            raise HistoryError(f"head={value!r} is no (layer, head) pair, such as ({self._layers[-1]}, 0)") from None
        for name, number, numbers in (("layer", layer, self._layers), ("head", head, self._heads)):
            if number not in numbers:
                raise HistoryError(
                    f"head=({layer}, {head}) names {name} {number}; this history has {name}s {_listed(numbers)}"
                )
        return layer, head

    @traitlets.validate("text")
    def _check_text(self, proposal: traitlets.Bunch) -> str | None:
        value = proposal["value"]
        if not self._texts and value is None:
            return None
        if value in self._texts:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self._texts):
            return self._texts[value]
        known = ", ".join(f"{index} {name!r}" for index, name in enumerate(self._texts))
        raise HistoryError(f"text={value!r} is no text of this history, which has {known or 'no attention patterns'}")


def _listed(numbers: Sequence[int]) -> str:
    """Numbers for a message: a range where they are one, every number if few, else the two ends."""
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    if len(numbers) > 40:
        return f"{', '.join(map(str, numbers[:20]))} ... {', '.join(map(str, numbers[-20:]))}"
    return ", ".join(map(str, numbers))
