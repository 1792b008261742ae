"""How surprising a score is, beside the same score on heads that learnt nothing."""

from __future__ import annotations

import numpy as np


def surprise(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Share of the null, with the value itself counted among it, that is as high or higher: 1/(1 + n) to 1."""
    null = np.sort(null[np.isfinite(null)])
    n_as_high = len(null) - np.searchsorted(null, values, side="left")
    return (1 + n_as_high) / (1 + len(null))
