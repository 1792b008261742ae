"""The phase change as the page says and draws it: verdict, window, intervals of its ends, and the bump's chord."""

from __future__ import annotations

import xarray as xr

from ..phase.drawing import PhaseLike, bump_chord, phase_to_draw, verdict_on


def phase_header(history: xr.Dataset, phase: PhaseLike) -> dict[str, object]:
    """`verdict`, and on the history's clock `window`, `intervals` of its ends, and `bump` (ends of its chord, nats).

    Each but the verdict is None where there is none, and all are for a phase change that was not found.
    """
    found = phase_to_draw(history, phase)
    chord = bump_chord(history, found) if "loss" in history else None
    ends = (found.start_interval, found.end_interval) if found else (None, None)
    return {
        "verdict": verdict_on(history, phase),
        "window": list(found.window) if found and found.window else None,
        "intervals": [list(end) for end in ends if end] or None,
        "bump": {"ends": [list(end) for end in zip(*chord)], "nats": found.bump_nats} if found and chord else None,
    }
