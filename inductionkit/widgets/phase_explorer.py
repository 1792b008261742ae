"""PhaseExplorer: the phase change of one run, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeGuard

import traitlets
import xarray as xr
from ipywidgets import jslink

from ..display.score_maps import printable
from ..errors import HistoryError
from ..history import validate
from ..phase.drawing import PhaseLike, phase_to_draw
from ._choices import Choices, Head, HeadsChoice, common_traits
from ._figure import draw_views
from ._following import Observable, follow_store
from ._pattern_series import choose_series, has_patterns, one_pattern
from ._phase_data import VIEWS, heads_by_strength, lacking_views, phase_payload
from ._phase_hero import hero_header, opening
from ._phase_marks import phase_header

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PhaseExplorer(HeadsChoice):
    """Losses, in-context learning, heads and attention patterns of a run, linked by one checkpoint slider.

    The verdict on the run stands first, in one sentence. Below it three things move in step: the loss beside its
    control's, the attention of the chosen head on a text, and that text with an arc from a token to the place that
    induction points to, and the probability of the token that follows. The explorer opens in the middle of the window
    of `phase`; the page plays once across it, unless the reader's system asks for reduced motion, and goes back.

    All other views stand under "Details". By name: `loss`, with the phase window, the 90 % intervals of its ends and
    the bump's convex envelope; `icl`, the in-context-learning score; `slopes`, the loss slope map; `trajectories`, any
    score of each head over training, with a searchable list; `grid` (layer by head) and `scatter`, any scores at the
    current checkpoint; `circuit`, the induction circuit as it assembles; `pattern`, the attention of the chosen head on
    a text; `text`, the loss of each token of it against a reference checkpoint. Views whose variables the history lacks
    are left out. Stepping happens in the browser.

    Traits, each of which can be set and observed: `step`; `head`, the (layer, head) whose pattern is shown; `heads`,
    the highlighted ones, at first those that form in the window of `phase`; `text`.

    Attention patterns beyond 8 MB stay with Python: the browser asks for them, and a saved page holds those of the
    chosen and the strongest heads.

    Curves that move together do not show that one causes the other; that takes ablations.

    Parameters
    ----------
    history
        What `scan_run` returns or `open_history` reads.
    phase
        The phase change to shade: what `find_phase_change` returns, or a window `(start, end)` in tokens, in steps
        where the history does not know its tokens. A phase change that was not found is not shaded.
    control
        A second history, of a one-layer model for instance, whose loss and in-context-learning curves are drawn
        behind in grey.
    views
        The views to show alone, in any order; by default all that the history has data for, under the verdict.

    Raises
    ------
    HistoryError
        If a history does not follow the schema, `phase` does not belong to it, a view is unknown or has no data, or a
        trait is set to something that the history does not have.

    Examples
    --------
    >>> from inductionkit.testing import synthetic_history
    >>> explorer = PhaseExplorer(synthetic_history(), phase=(8e6, 2e7))
    >>> explorer.step, explorer.head, explorer.text
    (2983, (1, 0), 'repeated words')
    """

    bundle = "phase_explorer"
    choices = ("step", "head", "heads", "text")
    views: ClassVar[tuple[str, ...] | None] = None
    """The views that a subclass shows; None for all that there is data for."""

    step = traitlets.TraitType[int, int](help="optimiser step of the current checkpoint").tag(sync=True)
    text = traitlets.TraitType[str | None, str | int | None](
        help="name of the chosen text, None without texts; an index sets it too"
    ).tag(sync=True)

    def __init__(
        self,
        history: xr.Dataset,
        *,
        phase: PhaseLike = None,
        control: xr.Dataset | None = None,
        views: Sequence[str] | None = None,
    ) -> None:
        self._phase, self._control = phase, control
        views = self.views if views is None else views
        self._views, self._has_hero = _checked_views(validate(history), views), views is None
        choices = Choices.of(history)
        found = phase_to_draw(history, phase)
        payload = self._take(history, choices)
        super().__init__(
            *payload,
            step=choices.steps[self._opening.index],
            head=_strongest(history, choices),
            heads=tuple(head for head in (found.heads if found else ()) if choices.has_head(head)),
            text=choices.texts[self._opening.text] if choices.texts else None,
        )
        self.on_msg(lambda _widget, content, _buffers: self._reply(content))

    @property
    def history(self) -> xr.Dataset:
        """The history on show. Set it to a longer one of the same model and the explorer grows, also while open.

        An explorer that stands at the last step stays at the last step.
        """
        return self._history

    @history.setter
    def history(self, history: xr.Dataset) -> None:
        at_end, choices = self.step == self._steps[-1], Choices.of(validate(history))
        header, data = self._take(history, choices)
        with self.hold_sync():
            self.step = choices.steps[-1] if at_end or self.step not in choices.steps else self.step
            self.head = self.head if choices.has_head(self.head) else _strongest(history, choices)
            self.heads = tuple(head for head in self.heads if choices.has_head(head))
            self.text = self.text if self.text in choices.texts else next(iter(choices.texts), None)
            self.set_trait("_header", header)
            self.set_trait("_data", data)

    def follow(self, source: Observable | str | Path, seconds: float = 2.0) -> Self:
        """Keep up with a history that grows: a `TrainingWatch` in this process, or the store that another fills.

        `source` is either; a store (path or URL) is looked at every `seconds`, for as long as the explorer lives.
        """
        if hasattr(source, "observe"):
            source.observe(partial(setattr, self, "history"))
        else:
            follow_store(self, source, seconds)
        return self

    def link(self, other: PhaseExplorer) -> Self:
        """Keep step, heads and text the same as another explorer's, such as one of other views in another cell.

        The browser links them, with or without a kernel. Raises HistoryError if the other has other checkpoints; a
        `PhaseComparison` shows two runs on one clock.
        """
        for trait in common_traits(self._choices, other._choices):
            # Python sets the value now; the browser keeps it the same from here on.
            setattr(other, trait, getattr(self, trait))
            jslink((self, trait), (other, trait))
        return self

    def to_figure(self) -> Figure:
        """A Matplotlib figure of the views at the current step, for papers. Needs the extra `plots`."""
        phase = phase_to_draw(self._history, self._phase)
        title = f"{self._name}: {self._header['verdict']}" if self._has_hero else ""
        return draw_views(self._history, self._views, phase, self.step, self.head, self.text, title)

    def _take(self, history: xr.Dataset, choices: Choices) -> tuple[dict[str, object], bytes]:
        """Header and data of a history, which is then the one on show."""
        first = [] if not choices.n_heads else heads_by_strength(history)
        self._opening = opening(history, self._phase)
        payload = self._payload(history, choices, first, self._opening.text, self._opening.index)
        self._history, self._choices, self._known = history, choices, choices.pairs
        return payload

    def _payload(
        self, history: xr.Dataset, choices: Choices, heads: Sequence[int], text: int, index: int
    ) -> tuple[dict[str, object], bytes]:
        with_patterns = "pattern" in self._views and has_patterns(history)
        series = choose_series(history, heads, text, index) if with_patterns else None
        header, data = phase_payload(history, self._views, series, self._control)
        return header | phase_header(history, self._phase) | hero_header(self._opening, self._has_hero), data

    def _payload_to_save(self) -> tuple[dict[str, object], bytes]:
        """A page cannot ask for patterns: those of the chosen heads and text come first."""
        series, choices = self._header["series"], self._choices
        if series is None or len(series["heads_texts"]) * len(series["steps"]) == self._n_patterns:
            return self._header, self._data
        chosen = [choices.number_of(head) for head in (self.head, *self.heads) if head is not None]
        heads = list(dict.fromkeys([*chosen, *heads_by_strength(self._history)]))
        text, index = choices.texts.index(self.text), choices.steps.index(self.step)
        return self._payload(self._history, choices, heads, text, index)

    @property
    def _n_patterns(self) -> int:
        return len(self._choices.steps) * self._choices.n_heads * len(self._choices.texts)

    def _reply(self, content: object) -> None:
        if buffers := self._asked_pattern(content):
            self.send(content, buffers)

    def _asked_pattern(self, content: object) -> list[bytes]:
        """The pattern that the browser asks for by {"pattern": [step index, head, text]}; nothing if there is none."""
        asked = content.get("pattern") if isinstance(content, dict) else None
        sizes = len(self._steps), self._choices.n_heads, len(self._texts)
        if not has_patterns(self._history) or not _within(asked, sizes):
            return []
        index, head, text = asked
        return one_pattern(self._history, index, (head, text))

    @property
    def _steps(self) -> tuple[int, ...]:
        return self._choices.steps

    @property
    def _texts(self) -> tuple[str, ...]:
        return self._choices.texts

    @property
    def _name(self) -> str:
        """The name of the run, as plain text."""
        return printable(self._header["model"]) or "A training run"

    @property
    def _title(self) -> str:
        return " · ".join(part for part in (str(self._header["model"]), "phase explorer") if part)

    @property
    def _summary(self) -> str:
        return str(self._header["verdict"])

    @property
    def _provenance(self) -> list[str]:
        control, scanned = self._header["control"], self._history.attrs.get("transformer_lens")
        return [
            self._name,
            f"{len(self._steps)} checkpoints, steps {self._steps[0]:,} to {self._steps[-1]:,}",
            *([f"control: {printable(control)}"] if control else []),
            *([f"measured with TransformerLens {printable(scanned)}"] if scanned else []),
        ]

    def __repr__(self) -> str:
        model, name = self._header["model"], type(self).__name__
        return f"{name}({model}: {len(self._steps)} checkpoints, {self._choices.n_heads} heads)"

    @traitlets.validate("step")
    def _check_step(self, proposal: traitlets.Bunch) -> int:
        return self._choices.check_step(proposal["value"])

    def _check_pair(self, trait: str, value: object) -> Head:
        return self._choices.check_pair(trait, value)

    @traitlets.validate("text")
    def _check_text(self, proposal: traitlets.Bunch) -> str | None:
        return self._choices.check_text(proposal["value"])


def _strongest(history: xr.Dataset, choices: Choices) -> Head | None:
    return choices.head_named(heads_by_strength(history)[0]) if choices.n_heads else None


def _checked_views(history: xr.Dataset, views: Sequence[str] | None) -> tuple[str, ...]:
    """The views to show, in the explorer's order; those asked for must exist and have their data."""
    if views is None:
        return tuple(view for view in VIEWS if view not in lacking_views(history, list(VIEWS)))
    asked = [views] if isinstance(views, str) else list(views)
    unknown = [view for view in asked if view not in VIEWS]
    if unknown or not asked:
        raise HistoryError(f"views={views!r} names no view of the explorer, which has {', '.join(VIEWS)}")
    for view, variables in lacking_views(history, asked).items():
        known = ", ".join(map(str, history.data_vars))
        needed = " or ".join(variables) or "a score of each head at each step"
        raise HistoryError(f"the view {view!r} needs {needed}; the history has {known}")
    return tuple(view for view in VIEWS if view in asked)


def _within(asked: object, sizes: tuple[int, ...]) -> TypeGuard[list[int]]:
    """Whether a message from the browser names a place there is."""
    if not isinstance(asked, list) or len(asked) != len(sizes):
        return False
    return all(type(number) is int and 0 <= number < size for number, size in zip(asked, sizes))
