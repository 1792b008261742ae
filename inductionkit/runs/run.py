"""A training run: checkpoints in order of steps, and one model to load them into."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, RunError
from .architecture import Architecture

if TYPE_CHECKING:
    import torch


def nothing() -> None:
    """Returns None; used when a run has no held-out text or no tokenizer, or the size of a checkpoint is unknown."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its `step` (optimiser steps), `tokens_seen` (None: unknown), and how to get its weights.

    `name` is its name at the source, and `architecture` describes the models it fits. `read()` reads the weights from
    disk or hub and returns them by name; it changes no model, and may run in a thread ahead of time. `load_into` copies
    them into a standing model. `n_bytes()` is the size of what has to be read or downloaded, or None if unknown.
    """

    step: int
    tokens_seen: int | None
    read: Callable[[], Mapping[str, Any]] = field(repr=False)
    architecture: Architecture = field(repr=False)
    name: str
    n_bytes: Callable[[], int | None] = field(default=nothing, repr=False)

    def load_into(self, model: Any, weights: Mapping[str, Any] | None = None) -> None:
        """Replace the weights of a model from `Run.standing_model` with this checkpoint's.

        `weights` is what `read()` returned, if it was called ahead. Raises RunError if the weights cannot be read, and
        ModelError if they do not fit; the model is then unchanged.
        """
        weights = self.read() if weights is None else weights
        try:
            self.architecture.load(model, weights)
        except ModelError as error:
            raise ModelError(f"checkpoint {self.name}: {error}") from error


@dataclass(frozen=True, repr=False)
class Run:
    """A training run with a `name`: its `checkpoints` in order of steps, its model, its held-out text and log.

    `architecture` describes the models that its checkpoints fit. `log()` returns the records of training with `step`,
    `loss` and `tokens_seen` (None: unknown). `held_out()` returns tokens (example, token) that were not trained on, and
    `tokenizer_json()` the tokenizer in Hugging Face's JSON; each returns None if the source has none. Two runs with the
    same `fingerprints` have the same model and data. `kept_bytes` is how many bytes of downloads stay on disk, or None
    if nothing is downloaded. `device` is where the run's models are, set by `to`; None is the CPU, or the device of the
    model passed to `open_run`. A run can be sent to a worker process.
    """

    name: str
    checkpoints: Sequence[Checkpoint]
    architecture: Architecture
    fingerprints: Mapping[str, str]
    log: Callable[[], list[dict[str, Any]]] = list
    held_out: Callable[[], np.ndarray | None] = nothing
    tokenizer_json: Callable[[], str | None] = nothing
    kept_bytes: float | None = None
    device: str | None = None

    @property
    def steps(self) -> list[int]:
        """The optimiser steps of the checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self.checkpoints]

    @property
    def model(self) -> Mapping[str, Any]:
        """The model's shape, as `n_layers`, `n_heads`, `d_model`, `d_head`, `n_ctx`, `d_vocab` and so forth."""
        return self.architecture.shape

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step. Raises RunError, with the steps that exist, if there is none."""
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        raise RunError(f"the run {self.name} has no checkpoint of step {step}; it has {self.steps}")

    def to(self, device: str | torch.device) -> Run:
        """Return the same run with its models on `device`, for example "cuda" or "mps". Scans of it compute there.

        Raises InductionKitError if torch cannot use the device.
        """
        from ..system.devices import usable_device

        usable_device(device)
        return dataclasses.replace(self, device=str(device))

    def standing_model(self) -> Any:
        """Build a TransformerLens model for `Checkpoint.load_into`, with arbitrary weights."""
        from ..system.devices import moved  # with torch, which opening a run does without

        model = self.architecture.build()
        return model if self.device is None else moved(model, self.device)

    def load_model(self, step: int | None = None) -> Any:
        """Build a TransformerLens model with the weights of a step (default: the last).

        Raises RunError if there is no such step or its weights cannot be read, ModelError if they do not fit.
        """
        from ..lens.running import name_model  # with torch, which opening a run does without

        checkpoint = self.checkpoints[-1] if step is None else self.checkpoint(step)
        model = self.standing_model()
        checkpoint.load_into(model)
        name_model(model, f"{self.name} at step {checkpoint.step:,}" if len(self.checkpoints) > 1 else self.name)
        return model

    def __repr__(self) -> str:
        first, last = self.checkpoints[0], self.checkpoints[-1]
        tokens = (
            ""
            if first.tokens_seen is None or last.tokens_seen is None
            else f", {first.tokens_seen / 1e6:.2f}M to {last.tokens_seen / 1e6:.2f}M tokens"
        )
        return (
            f"Run({self.name}: {self.architecture}; {len(self.checkpoints)} checkpoint{'s' * (len(self.steps) > 1)}, "
            f"steps {first.step:,} to {last.step:,}{tokens})"
        )
