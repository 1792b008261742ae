"""What a sweep over checkpoints costs, against what it cannot do without: `python benchmarks/checkpoint_sweep.py`.

Per checkpoint of the bundled run, and of twelve of a model of 4 layers and width 256: the time of a scan
as a share of reading the weights and running the tokens through a bare model; against booting a
`TransformerBridge` for each checkpoint; two workers against one, one thread each; peak memory by number
of checkpoints.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from common import best_of, peak_bytes

from inductionkit import open_run, scan_run
from inductionkit.lens import Lens
from inductionkit.runs import Run
from inductionkit.scan.losses import MAX_BATCH_TOKENS
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.train import ModelConfig, Transformer
from inductionkit.train.run_folder import RunFolder

N_EVALUATION = 32
scan = partial(scan_run, n_evaluation=N_EVALUATION, progress=False)


def twelve_checkpoints(folder: Path, n: int = 12) -> Run:
    """A run folder of random weights: 4 layers, width 256, vocabulary 8,192, context 512."""
    config = ModelConfig(n_layers=4, d_model=256, n_heads=8, d_head=32, d_mlp=1024, n_ctx=512, d_vocab=8192)
    manifest = {"recipe": {"name": "four-layer"}, "model": vars(config), "fingerprints": {}}
    held_out = np.random.default_rng(0).integers(1, 8192, (N_EVALUATION, 512), dtype=np.uint16)
    run = RunFolder.create(folder, manifest, '{"model": {"type": "BPE", "vocab": {}, "merges": []}}', held_out)
    for step in range(n):
        weights = Transformer(config, seed=step).state_dict()
        run.add_checkpoint(step, step, {name: weight.numpy() for name, weight in weights.items()})
    return open_run(folder)


def bare_passes(run: Run, model: torch.nn.Module) -> None:
    """The tokens of a checkpoint's measurement through a bare model, in the same batches."""
    lens = Lens(model)
    held_out = torch.from_numpy(run.held_out()[:N_EVALUATION].astype(np.int64))
    prompts = repeated_random_tokens(lens.d_vocab, lens.bos, PromptSettings(), held_out.numpy())
    batches = [*lens.batches(prompts), *held_out.split(max(1, MAX_BATCH_TOKENS // held_out.shape[1]))]
    batches += [held_out[:8], held_out[:1, :51], held_out[:1, :64]]  # previous tokens on text, the two texts
    with torch.no_grad():
        for tokens in batches:
            model(tokens, return_type="logits")


def read_and_pass(run: Run, model: torch.nn.Module) -> None:
    for checkpoint in run.checkpoints:
        checkpoint.read()
        bare_passes(run, model)


def swap_all(run: Run, model: torch.nn.Module, weights: list) -> None:
    for checkpoint, some in zip(run.checkpoints, weights):
        checkpoint.load_into(model, some)


def boot_all(run: Run, weights: list) -> None:
    for checkpoint, some in zip(run.checkpoints, weights):
        checkpoint.load_into(run.standing_model(), some)


@contextmanager
def workers(n: int) -> Iterator[ProcessPoolExecutor]:
    """Workers with one thread each, which have imported what they need."""
    with ProcessPoolExecutor(n, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        list(pool.map(_warm_up, range(4 * n)))
        yield pool


def _warm_up(_: int) -> None:
    scan(open_run("bundled", checkpoints=1))


def show(name: str, run: Run) -> None:
    model = run.load_model()
    n = len(run.checkpoints)
    weights = [checkpoint.read() for checkpoint in run.checkpoints]  # counted in the first ratio
    calls = {
        "scan": partial(scan, run),
        "read and pass": partial(read_and_pass, run, model),
        "swap": partial(swap_all, run, model, weights),
        "boot": partial(boot_all, run, weights),
    }
    seconds = best_of(calls, 2)
    print(f"\n{name}, {n} checkpoints; {seconds['scan'] / n:.3f} s each")
    print(f"  scan / (reading + bare passes)          {seconds['scan'] / seconds['read and pass']:.2f}")
    print(f"  booting a bridge / swapping weights in  {seconds['boot'] / seconds['swap']:.1f}")
    whole = seconds["scan"] - seconds["swap"] + seconds["boot"]
    print(f"  scan with booting / scan                {whole / seconds['scan']:.2f}")


def show_workers(run: Run) -> None:
    with workers(1) as one, workers(2) as two:
        seconds = best_of({"one": lambda: scan(run, executor=one), "two": lambda: scan(run, executor=two)}, 2)
    print(
        f"\nTwo workers / one, a thread each, {len(run.checkpoints)} checkpoints: {seconds['two'] / seconds['one']:.2f}"
    )


def show_memory(folder: Path) -> None:
    run = twelve_checkpoints(folder / "many", 24)
    for n in (6, 12, 24):
        some = open_run(folder / "many", checkpoints=n)
        peak = peak_bytes(partial(scan, some, store=folder / f"{n}.zarr"))
        print(f"  {n:>3} checkpoints: peak {peak / 1e6:.0f} MB")
    print(f"  (a checkpoint has {run.checkpoints[0].n_bytes() / 1e6:.0f} MB)")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as place:
        four_layer = twelve_checkpoints(Path(place) / "four-layer")
        show("Bundled run", open_run("bundled"))
        show("4 layers, width 256", four_layer)
        show_workers(four_layer)
        print("\nMemory of a scan into a store:")
        show_memory(Path(place))
