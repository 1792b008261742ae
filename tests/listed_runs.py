"""Runs that a user lists, whose loaders and models can be sent to another process."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from inductionkit import open_run
from inductionkit.runs import Run

D_VOCAB, N_CTX = 120, 64
STEPS = (0, 5, 10, 15, 20, 25)


def tiny_gpt2(seed: int = 0, **config) -> GPT2LMHeadModel:
    """Weights that are large enough for layer norm's eps to matter little or much, as the configuration says."""
    shape = {"vocab_size": D_VOCAB, "n_positions": N_CTX, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(**shape, **config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    return tiny_gpt2(seed).state_dict()


def nan_weights(seed: int) -> dict[str, torch.Tensor]:
    return {name: weight * torch.nan for name, weight in weights_of(seed).items()}


def listed_run(seeds=STEPS, steps=STEPS, **config) -> Run:
    pairs = [(step, partial(weights_of, seed)) for step, seed in zip(steps, seeds)]
    return open_run(pairs, model=tiny_gpt2(**config))


def held_out(seed: int = 0, n_rows: int = 8, n_tokens: int = N_CTX) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, D_VOCAB, (n_rows, n_tokens))
