"""How the bundled runs and example histories were made: `python -m inductionkit.bundled.make RUNS OUT`.

RUNS holds the folders `two-layer` and `one-layer` that `inductionkit train` wrote. Their histories
cover every checkpoint in full precision; of the weights a selection is kept, in half precision.
"""

import sys
from pathlib import Path

from ..history import save_history
from ..runs import export_run, open_run
from ..scan.run_scan import scan_run

# Tokens seen, in millions: before training, early, dense through the window, and the end.
CHOSEN = {
    "two-layer": (0, 1.0, 3.0, 4.75, 5.5, 6.25, 7.5, 9.0, 16.0),
    "one-layer": (0, 4.75, 7.5, 16.0),
}
N_HELD_OUT = 256
N_EVALUATION = N_HELD_OUT


def make(runs: Path, out: Path) -> None:
    for name, millions in CHOSEN.items():
        run = open_run(runs / name)
        seen = {each.step: each.tokens_seen for each in run.checkpoints if each.tokens_seen is not None}
        steps = {min(seen, key=lambda step: abs(seen[step] - 1e6 * n)) for n in millions}
        export_run(runs / name, out / name, sorted(steps), N_HELD_OUT)
        history = scan_run(run, store=runs / f"{name}.zarr", n_evaluation=N_EVALUATION, scores="all", n_nulls=16)
        save_history(history, out / f"{name}.zarr.zip")


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
