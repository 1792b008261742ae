"""Places spread evenly over a list."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def evenly(n_all: int, n: int) -> Int[np.ndarray, " place"]:
    """At most `n` indices below `n_all`, spread evenly over all of them, ascending and each once.

    >>> evenly(10, 4).tolist()
    [0, 2, 5, 7]
    """
    n = min(n, n_all)
    return np.arange(n) * n_all // max(n, 1)
