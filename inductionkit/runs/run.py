"""The run itself, and `open_run`, which finds the right reader for a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: `step` (optimiser steps), `tokens_seen`, and `read()`, which gives its weights by name."""

    step: int
    tokens_seen: int
    read: Callable[[], Mapping[str, np.ndarray]] = field(repr=False)


@dataclass(frozen=True, repr=False)
class Run:
    """A training run: its checkpoints in order of steps, its model's shape, its held-out text and logs.

    `model` is the shape as the manifest tells it; `held_out` gives tokens (example, token) that training
    never saw; `log` the records of training; `tokenizer_json` the tokenizer in Hugging Face's JSON.
    """

    name: str
    checkpoints: Sequence[Checkpoint]
    model: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    held_out: Callable[[], np.ndarray]
    log: Callable[[], list[dict]]
    tokenizer_json: Callable[[], str]

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self.checkpoints]

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of a step. Raises RunError naming the steps there are."""
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        raise RunError(f"the run {self.name} has no checkpoint of step {step}; it has {self.steps}")

    def load_model(self, step: int | None = None) -> Any:
        """A `TransformerBridge` with the weights of a step (default: the last). Raises RunError."""
        from ..lens import build_model, load_weights

        checkpoint = self.checkpoints[-1] if step is None else self.checkpoint(step)
        model = build_model(self.model)
        load_weights(model, checkpoint.read())
        return model

    def __repr__(self) -> str:
        layers, heads = self.model["n_layers"], self.model["n_heads"]
        kind = "attention-only" if self.model["d_mlp"] is None else "with MLPs"
        first, last = self.checkpoints[0], self.checkpoints[-1]
        return (
            f"Run({self.name}: {layers} layer{'s' * (layers > 1)} x {heads} heads, {kind}; {len(self.checkpoints)} "
            f"checkpoints, steps {first.step:,} to {last.step:,}, {first.tokens_seen / 1e6:.2f}M to "
            f"{last.tokens_seen / 1e6:.2f}M tokens)"
        )


def open_run(source: str | Path) -> Run:
    """Open a training run: `"bundled"`, `"bundled:one-layer"`, or a folder that `inductionkit train` wrote.

    Raises RunError where there is no run or its manifest does not fit. Weights are read, and checked
    against the manifest's SHA-256, only when a checkpoint is loaded.
    """
    from .bundled import bundled_folder
    from .folder import open_folder

    folder = bundled_folder(str(source)) if str(source).split(":")[0] == "bundled" else Path(source)
    return open_folder(folder)
