"""The loss on held-out text, by position, by example and of single tokens, and the in-context-learning score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int

from ..history import VARIABLES, labelled
from ..lens import Lens
from ..scores.icl import icl_score, icl_settings
from .measurement import Advance, Measurement, fingerprint, silently

N_SAMPLES_PER_EXAMPLE = 8
MAX_BATCH_TOKENS = 2048  # small enough that attention patterns stay in the cache of a CPU


@dataclass(frozen=True)
class Losses(Measurement):
    """Losses on `held_out`, the same examples at every checkpoint."""

    held_out: Int[np.ndarray, "example position"]

    def settings(self) -> dict[str, Any]:
        return {**self._icl, "n_evaluation": len(self.held_out), "held_out_fingerprint": fingerprint(self.held_out)}

    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        examples, positions = self._samples
        coords = {
            "position": np.arange(1, self.held_out.shape[1]),
            "sample_example": ("sample", examples),
            "sample_position": ("sample", positions + 1),
        }
        return labelled(self._summed_up(self._losses(lens)), VARIABLES, coords)

    def _losses(self, lens: Lens) -> Float[np.ndarray, "example position"]:
        tokens = torch.from_numpy(self.held_out)
        batches = tokens.split(max(1, MAX_BATCH_TOKENS // tokens.shape[1]))
        losses: np.ndarray = torch.cat([lens.token_losses(batch) for batch in batches]).cpu().numpy()
        return losses

    def _summed_up(self, losses: Float[np.ndarray, "example position"]) -> dict[str, np.ndarray]:
        by_position = losses.mean(0)
        return {
            "loss_by_position": by_position,
            "loss": losses.mean(),
            "icl_score": icl_score(by_position, **self._icl),
            "example_loss": losses.mean(1),
            "example_icl_score": icl_score(losses, **self._icl),
            "token_loss": losses[self._samples],
        }

    @cached_property
    def _icl(self) -> dict[str, int]:
        return icl_settings(self.held_out.shape[1])

    @cached_property
    def _samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Example and position (from 0) of the single tokens whose losses are kept."""
        n_examples, n_positions = len(self.held_out), self.held_out.shape[1] - 1
        rng = np.random.default_rng(0)
        n_samples = min(N_SAMPLES_PER_EXAMPLE, n_positions)
        positions = [np.sort(rng.choice(n_positions, n_samples, replace=False)) for _ in range(n_examples)]
        return np.repeat(np.arange(n_examples), n_samples), np.concatenate(positions)
