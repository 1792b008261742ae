"""What a watch costs a training: `python benchmarks/watching.py`.

The time of a due measurement as a share of the bare passes that it makes, on the same tokens and model; and the time of
a step that is not due. A model of `inductionkit.train` of 4 layers and width 256, and a GPT-2 of 6 layers and width 384
in the Hugging Face layout, whose weights are copied into a model beside it.
"""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from checkpoint_sweep import N_EVALUATION, bare_passes
from common import best_of
from transformers import GPT2Config, GPT2LMHeadModel

from inductionkit.lens.beside import ModelBeside
from inductionkit.lens.unwrapping import weights_of
from inductionkit.scan.watching import TrainingWatch
from inductionkit.train import ModelConfig, Transformer

D_VOCAB, N_CTX, N_CALLS = 8192, 512, 10_000


def project_model() -> torch.nn.Module:
    shape = ModelConfig(n_layers=4, d_model=256, n_heads=8, d_head=32, d_mlp=1024, n_ctx=N_CTX, d_vocab=D_VOCAB)
    return Transformer(shape, seed=0)


def gpt2() -> torch.nn.Module:
    shape = {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": N_CTX, "vocab_size": D_VOCAB}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0))


def show(name: str, model: torch.nn.Module, folder: Path) -> None:
    held_out = np.random.default_rng(0).integers(1, D_VOCAB, (N_EVALUATION, N_CTX))
    texts = {"one": held_out[0, :51].tolist(), "other": held_out[0, :64].tolist()}  # those of the bare passes
    watch = TrainingWatch(
        held_out, every=1, store=folder / name, n_evaluation=N_EVALUATION, texts=texts, tokens_per_step=1
    )
    beside, step = ModelBeside(model), count()
    bare = beside.take(weights_of(model)).model
    run = SimpleNamespace(held_out=lambda: held_out)
    calls = {"watch": lambda: watch(model, next(step)), "passes": partial(bare_passes, run, bare)}
    seconds = best_of(calls, 3)
    ratio = seconds["watch"] / seconds["passes"]
    print(f"{name}: a measurement takes {seconds['watch']:.3f} s, {ratio:.2f} of its bare passes")
    seldom = TrainingWatch(held_out, every=10**9, tokens_per_step=1)

    def not_due() -> None:
        for at in range(1, N_CALLS + 1):
            seldom(model, at, loss=3.0)

    seconds = best_of({"not due": not_due}, 3)
    print(f"  a step that is not due: {seconds['not due'] / N_CALLS * 1e6:.1f} microseconds")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as place:
        show("inductionkit.train", project_model(), Path(place))
        show("GPT-2", gpt2(), Path(place))
