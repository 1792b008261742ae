"""Attention patterns on their way to the browser: whole series within a budget, and single patterns on request.

A series of patterns is that of one head on one text, at every checkpoint. All series of a small history travel at
once. Of a large one those travel first that fit the budget, and a front end with a kernel asks for the patterns it
lacks, one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ._payload import halved, pack_lower

# A notebook holds it as 11 MB of base64, and opens. The bundled run's series take 1.7 MB of it.
BUDGET_BYTES = 8_000_000
LIFT_BYTES = 2  # half precision

HeadText = tuple[int, int]  # head, counted through the layers, and text


def has_patterns(history: xr.Dataset) -> bool:
    """Whether there is any pattern to show."""
    return "pattern" in history and history["pattern"].size > 0


def choose_series(history: xr.Dataset, heads: Sequence[int], text: int, index: int) -> tuple[list[HeadText], list[int]]:
    """The series that travel, in the order of `heads` and the chosen text's before others', and their checkpoints.

    If not even one series fits the budget, one travels at evenly spaced checkpoints, `index` among them.
    """
    n_steps, n_texts, n_tokens = (history.sizes[dim] for dim in ("step", "text", "query"))
    pattern_bytes = n_tokens * (n_tokens + 1) // 2 + LIFT_BYTES * n_tokens * ("ov_lift" in history)
    texts = [text, *(other for other in range(n_texts) if other != text)]
    ordered = [(head, text) for text in texts for head in heads]
    if n_series := BUDGET_BYTES // (n_steps * pattern_bytes):
        return ordered[:n_series], list(range(n_steps))
    # All but one: the last place is for the checkpoint on show.
    spread = np.linspace(0, n_steps - 1, max(BUDGET_BYTES // pattern_bytes - 1, 0))
    return ordered[:1], sorted({index, *spread.round().astype(int).tolist()})


def series_arrays(history: xr.Dataset, series: Sequence[HeadText], steps: Sequence[int]) -> dict[str, np.ndarray]:
    """`pattern` (series, step, lower triangle) and, if the history has it, `ov_lift` (series, step, key)."""
    arrays = {"pattern": pack_lower(np.stack([_of_series(history["pattern"], one, steps) for one in series]))}
    if "ov_lift" in history:
        arrays["ov_lift"] = halved(np.stack([_of_series(history["ov_lift"], one, steps) for one in series]))
    return arrays


def one_pattern(history: xr.Dataset, index: int, head_text: HeadText) -> list[bytes]:
    """The buffers that answer a question for one pattern: its lower triangle, and its OV lift in single precision."""
    buffers = [pack_lower(_of_series(history["pattern"], head_text, index)).tobytes()]
    if "ov_lift" in history:
        buffers.append(_of_series(history["ov_lift"], head_text, index).astype("<f4").tobytes())
    return buffers


def _of_series(variable: xr.DataArray, head_text: HeadText, steps: Sequence[int] | int) -> np.ndarray:
    head, text = head_text
    return variable.values[steps, *divmod(head, variable.sizes["head"]), text]
