"""One checkpoint of a run, read and measured; the same for all, by this process or a worker."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..history import labelled
from ..lens import Lens
from ..runs import Run
from .measurement import Measurement


@dataclasses.dataclass(frozen=True)
class CheckpointScan:
    """`measurement` on any checkpoint of `run`. Can be sent to a worker."""

    run: Run
    measurement: Measurement

    def settings(self) -> dict[str, object]:
        """Attributes of the history: whatever must be the same for two results to stand side by side."""
        return {
            **self.measurement.about(),
            "model": self.run.name,
            "fingerprints": json.dumps(dict(self.run.fingerprints), sort_keys=True),
        }

    def standing_lens(self) -> Lens:
        """A model that stands, for one checkpoint after another."""
        return Lens(self.run.standing_model())

    def read(self, step: int) -> Mapping[str, Any]:
        return self.run.checkpoint(step).read()

    def measure(self, lens: Lens, step: int, weights: Mapping[str, Any]) -> xr.Dataset:
        """Load a checkpoint's weights into the standing model and measure it: a history without `step`."""
        self.run.checkpoint(step).load_into(lens.model, weights)
        return self.measurement.measure(lens)

    def nulls(self, lens: Lens, n_nulls: int) -> xr.Dataset:
        """The null distributions of the scores, from the matrices of the last checkpoint drawn anew."""
        if not n_nulls:
            return xr.Dataset()
        self.run.checkpoints[-1].load_into(lens.model)
        return self.measurement.nulls(lens, n_nulls)

    def template(self) -> xr.Dataset:
        """The history to be, all of it missing but for what does not depend on a checkpoint."""
        logged = [record for record in self.run.log() if "loss" in record]
        values, coords = self.measurement.template(
            len(self.run.steps), len(logged), self.run.model, self.run.tokenizer_json()
        )
        values["training_loss"][:] = [record["loss"] for record in logged]
        coords["step"] = np.array(self.run.steps)
        coords["tokens_seen"] = ("step", _tokens_seen(checkpoint.tokens_seen for checkpoint in self.run.checkpoints))
        coords["log_tokens_seen"] = ("log", _tokens_seen(record["tokens_seen"] for record in logged))
        return labelled(values, coords, {})


def _tokens_seen(counts: Iterable[int | None]) -> np.ndarray:
    """Whole numbers; NaN among them where a source does not tell."""
    counts = list(counts)
    return np.array(counts, dtype=float if None in counts else np.int64)
