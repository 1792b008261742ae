"""Fixtures shared by the tests: random models, a corpus of a few pages, a run trained on it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from inductionkit.lens import build_model
from inductionkit.train import CheckpointSpec, CorpusSpec, ModelConfig, Recipe, train

SHAPE = {
    "n_layers": 2,
    "d_model": 24,
    "n_heads": 3,
    "d_head": 8,
    "n_ctx": 128,
    "d_vocab": 60,
    "eps": 1e-5,
    "d_mlp": None,
}


def random_model(seed: int = 0, **changes):
    """A bridge with all its weights, biases and norm scales drawn at random, so that nothing is an identity."""
    model = build_model({**SHAPE, **changes})
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * (0.5 if tensor.ndim == 2 else 0.3)
        + (1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0)
        for name, tensor in model.state_dict().items()
    }
    state["unembed.bias"].zero_()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """Text files of made-up sentences: enough to train a tokenizer and a few steps on."""
    folder = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 7))) for _ in range(400)]
    for i in range(12):
        sentences = (" ".join(rng.choices(words, k=9)) + ".\n" for _ in range(150))
        (folder / f"{i:02d}.txt").write_text("".join(sentences))
    return folder


@pytest.fixture(scope="session")
def recipe(text_folder) -> Recipe:
    return Recipe(
        name="tiny",
        model=ModelConfig(n_layers=2, d_model=16, n_heads=2, d_head=8, n_ctx=104, d_vocab=300),
        corpus=CorpusSpec(source="folder", path=str(text_folder), n_held_out=3000),
        checkpoints=CheckpointSpec(first=1000, n_log=4, dense=(8000, 12000), n_dense=3),
        n_tokens=104 * 4 * 40,
        batch_size=4,
    )


@pytest.fixture(scope="session")
def run_path(recipe, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tiny"
    train(recipe, path, progress=False)
    return path


@pytest.fixture
def other_seed(recipe) -> Recipe:
    return dataclasses.replace(recipe, seed=1)
