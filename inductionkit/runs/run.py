"""A training run as its readers leave it: checkpoints in order of steps, and one model to load them into."""

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
    """What a run gives that has no held-out text, or no tokenizer."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: `step` (optimiser steps), `tokens_seen` (None: unknown) and where its weights come from.

    `name` is what its source calls it, `architecture` what models it fits. `read()` brings the weights into memory,
    by name, from disk or hub, and touches no model: it may run in a thread, ahead of time. `load_into` puts them into
    a standing model. `n_bytes()` is what there is to read or download, None where it is not known before.
    """

    step: int
    tokens_seen: int | None
    read: Callable[[], Mapping[str, Any]] = field(repr=False)
    architecture: Architecture = field(repr=False)
    name: str
    n_bytes: Callable[[], int | None] = field(default=nothing, repr=False)

    def load_into(self, model: Any, weights: Mapping[str, Any] | None = None) -> None:
        """Swap this checkpoint's weights into a model from `Run.standing_model`, in place.

        `weights` are what `read()` gave, where it was called ahead. Raises RunError if they cannot be read,
        ModelError if they do not fit; the model is unchanged then.
        """
        weights = self.read() if weights is None else weights
        try:
            self.architecture.load(model, weights)
        except ModelError as error:
            raise ModelError(f"checkpoint {self.name}: {error}") from error


@dataclass(frozen=True, repr=False)
class Run:
    """A training run by `name`: its `checkpoints` in order of steps, its model, its held-out text and logs.

    `architecture` is what models its checkpoints fit. `log()` gives the records of training, as `step`, `loss` and
    `tokens_seen` (None: unknown). `held_out()` gives tokens (example, token) that training never saw,
    `tokenizer_json()` the tokenizer in Hugging Face's JSON; None where the source has none. `fingerprints` tell
    whether two runs are of one model and data. `kept_bytes` is how much of what is downloaded stays on disk, None
    where nothing is downloaded. Its models stand on `device`, which `to` sets; None is the CPU, or where the model lies
    that the run was opened with. A run can be sent to a worker process.
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
        """The optimiser steps of its checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self.checkpoints]

    @property
    def model(self) -> Mapping[str, Any]:
        """The model's shape, as `n_layers`, `n_heads`, `d_model`, `d_head`, `n_ctx`, `d_vocab` and so forth."""
        return self.architecture.shape

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of a step. Raises RunError naming the steps there are."""
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        raise RunError(f"the run {self.name} has no checkpoint of step {step}; it has {self.steps}")

    def to(self, device: str | torch.device) -> Run:
        """The same run with its models on `device`, as "cuda" or "mps": whatever scans it, computes there.

        Raises InductionKitError if torch cannot use the device.
        """
        from ..system.devices import usable_device

        usable_device(device)
        return dataclasses.replace(self, device=str(device))

    def standing_model(self) -> Any:
        """A TransformerLens model for `Checkpoint.load_into`, one checkpoint after another; its weights are any."""
        from ..system.devices import moved  # with torch, which opening a run does without

        model = self.architecture.build()
        return model if self.device is None else moved(model, self.device)

    def load_model(self, step: int | None = None) -> Any:
        """A TransformerLens model with the weights of a step (default: the last). Raises RunError or ModelError."""
        checkpoint = self.checkpoints[-1] if step is None else self.checkpoint(step)
        model = self.standing_model()
        checkpoint.load_into(model)
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
