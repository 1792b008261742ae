"""The in-context-learning score (O22): how much having seen more text helps."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..system.whole_numbers import whole_number


def icl_settings(n_ctx: int) -> dict[str, int]:
    """Token indices of the in-context-learning score: O22's 50 and 500 of a context of 512, scaled to `n_ctx`.

    A single index of a few hundred examples is noisy, so the loss is averaged over the indices within
    `icl_half_width` of each.
    """
    late, early = round(500 / 512 * n_ctx), max(1, round(50 / 512 * n_ctx))
    return {"icl_early": early, "icl_late": late, "icl_half_width": min(n_ctx // 50, early - 1, n_ctx - 1 - late)}


def icl_score(loss_by_position: np.ndarray, icl_early: int, icl_late: int, icl_half_width: int) -> np.ndarray:
    """Loss late in the context minus loss early in it, in nats; negative is better (O22).

    `loss_by_position` has the index of the predicted token, from 1 on, as its last axis. Late is the mean over the
    indices within `icl_half_width` of `icl_late`, early that around `icl_early`. Raises ModelError if there are no such
    indices.
    """
    icl_half_width = whole_number(icl_half_width, "icl_half_width", 0, ModelError)
    n_positions = loss_by_position.shape[-1]
    for name, index in (("icl_early", icl_early), ("icl_late", icl_late)):
        if not icl_half_width < whole_number(index, name, 1, ModelError) <= n_positions - icl_half_width:
            raise ModelError(
                f"{name}={index} with icl_half_width={icl_half_width} does not fit the token indices 1 to {n_positions}"
            )

    def around(index: int) -> np.ndarray:
        loss: np.ndarray = loss_by_position[..., index - 1 - icl_half_width : index + icl_half_width].mean(-1)
        return loss

    score: np.ndarray = around(icl_late) - around(icl_early)
    return score
