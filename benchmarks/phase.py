"""What the analysis of a history costs, without torch: `python benchmarks/phase.py`.

A run of 200 checkpoints and 144 heads with 256 held-out examples; seconds are the best of several.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from inductionkit import find_phase_change
from inductionkit.phase import PhaseChange, loss_slope_map, loss_slopes_around, token_loss_pca
from inductionkit.testing import synthetic_history

N_TIMES = 5


def seconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(N_TIMES):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def analyse(history) -> PhaseChange:
    """Everything that one history gives: window, markers, intervals, co-occurrence, slope map, per-token-loss path."""
    phase = find_phase_change(history)
    loss_slope_map(history)
    loss_slopes_around(history, phase)
    token_loss_pca({"run": history})
    return phase


def main() -> None:
    history = synthetic_history(n_steps=200, n_layers=12, n_heads=12, n_text_tokens=32, noise=0.02, n_examples=256)
    print(repr(analyse(history)))
    print(f"find_phase_change                  {seconds(lambda: find_phase_change(history)):.2f} s")
    print(f"  without resampling               {seconds(lambda: find_phase_change(history, n_resamples=0)):.2f} s")
    print(f"the whole analysis of the history  {seconds(lambda: analyse(history)):.2f} s")
    print("torch imported:", "torch" in sys.modules)


if __name__ == "__main__":
    main()
