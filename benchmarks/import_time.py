"""How long `import inductionkit` takes, beside `import numpy`: the best of several new processes, taken in turns.

python benchmarks/import_time.py

Wanted: at most 1.3 times as long. Public names are loaded when first used, so those of a notebook's first cell are
timed too, for what they are: NumPy, xarray, pandas and Zarr.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = {
    "numpy": "import numpy",
    "inductionkit": "import inductionkit",
    "its explorer": "import inductionkit as ik; ik.example_history, ik.find_phase_change, ik.PhaseExplorer",
}
N_PROCESSES = 15
WANTED = 1.3
TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def seconds(program: str) -> float:
    """What a program takes in a process of its own, without the start of Python itself."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(program)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    best = dict.fromkeys(PROGRAMS, float("inf"))
    for _ in range(N_PROCESSES):
        for name, program in PROGRAMS.items():
            best[name] = min(best[name], seconds(program))
    for name, took in best.items():
        print(f"{name}: {1000 * took:.1f} ms, {took / best['numpy']:.2f} times numpy")
    ratio = best["inductionkit"] / best["numpy"]
    print(f"wanted: at most {WANTED}; {'reached' if ratio <= WANTED else 'missed'}")


if __name__ == "__main__":
    main()
