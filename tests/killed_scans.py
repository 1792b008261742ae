"""Scan a run while being killed: `python killed_scans.py RUN STORE LOG N_KILLS FIRST NEXT`.

One process imports everything once and forks a scan for each attempt. Until `N_KILLS` are done, two
of three are killed at a random moment of the `FIRST` seconds up to the first checkpoint, and every
third at a random moment of the `NEXT` seconds after it; the last attempt is let finish. Each line of
LOG is one checkpoint measured, after the steps that were in the store when its attempt began.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from inductionkit import open_history, open_run
from inductionkit.errors import HistoryError
from inductionkit.scan.checkpoint import CheckpointScan
from inductionkit.scan.scanning import scan_run

UNREAPED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def scanned(store: Path) -> list[int]:
    try:
        return open_history(store)["step"].values.tolist()
    except HistoryError:  # not laid out yet, or none scanned
        return []


def attempt(run, store: Path, log: Path) -> None:
    began, before, measure = time.monotonic(), scanned(store), CheckpointScan.measure

    def logged(self, lens, step, weights):
        result = measure(self, lens, step, weights)
        with log.open("a") as file:
            record = {"pid": os.getpid(), "before": before, "loss": float(result["loss"])}
            file.write(json.dumps({**record, "seconds": time.monotonic() - began}) + "\n")
        return result

    CheckpointScan.measure = logged
    scan_run(run, store=store, n_evaluation=4, n_nulls=1, progress=False)


def main(run_path: str, store: str, log: str, n_kills: str, first: str, following: str) -> None:
    torch.set_num_threads(1)
    run, rng, log = open_run(run_path), random.Random(0), Path(log)
    log.touch()
    run.load_model()  # imports what a scan imports only when it needs it
    for i in range(int(n_kills) + 1):
        size = log.stat().st_size
        child = os.fork()
        if child == 0:
            attempt(run, Path(store), log)
            os._exit(0)
        if i < int(n_kills):
            if i % 3 == 2:
                while log.stat().st_size == size and os.waitid(os.P_PID, child, UNREAPED) is None:
                    time.sleep(0.001)
            time.sleep(rng.uniform(0.0, float(following if i % 3 == 2 else first)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
