"""Scan a run while being killed: `python killed_scans.py SCAN RUN STORE LOG N_KILLS FIRST NEXT`.

SCAN is one of run, heads, ablations, behaviours, fuzzy.

One process imports everything once and forks a scan for each attempt. Until `N_KILLS` are done, each
is killed at a random moment of the `NEXT` seconds after its first checkpoint, and two of three at a
random moment of the first `FIRST` seconds, if that comes before; the last attempt is let finish.
Seconds are of the scan's own processor time, so that other work on the machine moves no kill. Each
line of LOG is one checkpoint measured, after the steps that were in the store when its attempt began.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import torch

from inductionkit import (
    Behaviour,
    open_run,
    scan_ablations,
    scan_behaviours,
    scan_fuzzy,
    scan_heads,
    scan_run,
)
from inductionkit.history import history_steps
from inductionkit.scan.checkpoints import CheckpointTask
from inductionkit.scores.fuzzy import fuzzy_prompts


def die_after(seconds: float) -> None:
    """Have this process killed once it has worked for so many more seconds."""
    until = time.process_time() + seconds

    def watch() -> None:
        while time.process_time() < until:
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


SCANS = {
    "run": partial(scan_run, n_evaluation=4, n_nulls=1),
    "heads": partial(scan_heads, scores="all", n_nulls=1),
    "ablations": partial(scan_ablations, n_evaluation=4),
    "behaviours": partial(scan_behaviours, behaviours=[Behaviour("count", [[5, 6, 7], [8, 9]])]),
    "fuzzy": partial(scan_fuzzy, prompts=fuzzy_prompts("translation", 300, 0), n_nulls=1),
}


def attempt(scan, run, store: Path, log: Path, first: float | None, following: float | None) -> None:
    """A scan that dies `first` seconds after its beginning and `following` seconds after its first checkpoint."""
    before, measure = history_steps(store), CheckpointTask.measure
    n_measured = 0

    def logged(self, lens, step, weights):
        nonlocal n_measured
        result = measure(self, lens, step, weights)
        with log.open("a") as file:
            record = {"pid": os.getpid(), "before": before, "step": step}
            file.write(json.dumps({**record, "seconds": time.process_time()}) + "\n")
        n_measured += 1
        if n_measured == 1 and following is not None:
            die_after(following)
        return result

    CheckpointTask.measure = logged
    if first is not None:
        die_after(first)
    scan(run, store=store, progress=False)


def main(scan: str, run_path: str, store: str, log: str, n_kills: str, first: str, following: str) -> None:
    torch.set_num_threads(1)
    run, rng = open_run(run_path), random.Random(0)
    run.load_model()  # imports what a scan imports only when it needs it
    for i in range(int(n_kills) + 1):
        last = i == int(n_kills)
        early = None if last or i % 3 == 2 else rng.uniform(0.0, float(first))
        late = None if last else rng.uniform(0.0, float(following))
        child = os.fork()
        if child == 0:
            attempt(SCANS[scan], run, Path(store), Path(log), early, late)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
