"""Attention patterns on their way to the browser: whole films within a budget, single patterns when asked for.

A film is the pattern of one head on one text, at every checkpoint. All films of a small history travel at once. Of a
large one the first within the budget do, and a front end with a kernel asks for what it lacks, one pattern at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ._payload import halved, pack_lower

# A notebook holds it as 11 MB of base64, and opens. The bundled run's films take 1.7 MB of it.
BUDGET_BYTES = 8_000_000
LIFT_BYTES = 2  # half precision

Film = tuple[int, int]  # head, counted through the layers, and text


def has_patterns(history: xr.Dataset) -> bool:
    """Whether there is any pattern to show."""
    return "pattern" in history and history["pattern"].size > 0


def choose_films(history: xr.Dataset, heads: Sequence[int], text: int, index: int) -> tuple[list[Film], list[int]]:
    """The films that travel, in the order of `heads` and the chosen text's before others', and their checkpoints.

    Where not even one film fits the budget, it is one film at evenly spaced checkpoints, `index` among them.
    """
    n_steps, n_texts, n_tokens = (history.sizes[dim] for dim in ("step", "text", "query"))
    pattern_bytes = n_tokens * (n_tokens + 1) // 2 + LIFT_BYTES * n_tokens * ("ov_lift" in history)
    texts = [text, *(other for other in range(n_texts) if other != text)]
    ordered = [(head, text) for text in texts for head in heads]
    if n_films := BUDGET_BYTES // (n_steps * pattern_bytes):
        return ordered[:n_films], list(range(n_steps))
    # All but one: the last place is for the checkpoint on show.
    spread = np.linspace(0, n_steps - 1, max(BUDGET_BYTES // pattern_bytes - 1, 0))
    return ordered[:1], sorted({index, *spread.round().astype(int).tolist()})


def film_arrays(history: xr.Dataset, films: Sequence[Film], steps: Sequence[int]) -> dict[str, np.ndarray]:
    """`pattern` (film, step, lower triangle) and, if the history has it, `ov_lift` (film, step, key)."""
    arrays = {"pattern": pack_lower(np.stack([_of_film(history["pattern"], film, steps) for film in films]))}
    if "ov_lift" in history:
        arrays["ov_lift"] = halved(np.stack([_of_film(history["ov_lift"], film, steps) for film in films]))
    return arrays


def one_pattern(history: xr.Dataset, index: int, film: Film) -> list[bytes]:
    """The buffers that answer a question for one pattern: its lower triangle, and its OV lift in single precision."""
    buffers = [pack_lower(_of_film(history["pattern"], film, index)).tobytes()]
    if "ov_lift" in history:
        buffers.append(_of_film(history["ov_lift"], film, index).astype("<f4").tobytes())
    return buffers


def _of_film(variable: xr.DataArray, film: Film, steps: Sequence[int] | int) -> np.ndarray:
    head, text = film
    return variable.values[steps, *divmod(head, variable.sizes["head"]), text]
