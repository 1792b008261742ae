"""What counts as a phase change: every threshold of the rule, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import HistoryError
from ..system.real_numbers import real_number


@dataclass(frozen=True)
class PhaseCriteria:
    """What counts as a phase change.

    `min_rise`: least rise of the best head's prefix matching. `onset` and `end`: shares of a rise at
    which its window starts and ends (the last fifth is left to slow sharpening). `max_ratio`: how many
    times over elapsed training may grow within a rise; a slower one is gradual growth. `min_icl_gain`:
    least improvement of the in-context-learning score inside the window, in nats. `min_bump`: least
    distance of the loss above its convex envelope, in nats. `min_pivot`: how far the path of the per-token
    losses gets off the line it moved along, at least, while elapsed training grows 1.5 times, as a share of its extent.

    Raises HistoryError for a threshold below 0, a `max_ratio` below 1, or unless `onset` and `end` are shares and `end`
    the larger one.
    """

    min_rise: float = 0.2
    onset: float = 0.1
    end: float = 0.8
    max_ratio: float = 8.0
    min_icl_gain: float = 0.1
    min_bump: float = 0.03
    min_pivot: float = 0.25

    def __post_init__(self) -> None:
        for name in ("min_rise", "min_icl_gain", "min_bump", "min_pivot"):
            real_number(getattr(self, name), name, "[0, inf]", HistoryError)
        real_number(self.max_ratio, "max_ratio", "[1, inf]", HistoryError)
        real_number(self.onset, "onset", "[0, 1]", HistoryError)
        real_number(self.end, "end", f"({self.onset}, 1]", HistoryError)
