"""Watching a run while it trains: the model is measured every so often, and the history grows.

The plain function is the watch itself, called in one's own training loop; the Hugging Face Trainer
and Lightning take it as a callback.
"""

from __future__ import annotations

import dataclasses
import uuid
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int

from ..errors import HistoryError
from ..history import labelled
from ..lens import Lens, build_model, load_weights
from ..lens.swapping import standing_copy, swap_weights
from ..scores.prompts import PromptSettings
from ..system.devices import moved
from ..train import ModelConfig
from .head_scan import DEFAULT_SCORES, ScoreSettings
from .measurement import measurement
from .store import LiveStore

N_LOGGED = 4096


class TrainingWatch:
    """Measures a model while it trains, as `scan_run` would measure its checkpoints, and keeps a history.

    Call it in the training loop, `watch(model, step, tokens_seen, loss)`: it returns at once when `step`
    is not due. The model is a TransformerLens model (measured in place), a Hugging Face model or one of
    `inductionkit.train` (its weights are copied into a model that stands beside it); its mode,
    gradients, weights and the random numbers of its training stay as they were. A history that cannot be
    written does not end the training: it warns, and tries again when next due.

    Parameters
    ----------
    evaluation
        Held-out text, tokens (example, token), of the training distribution; `n_evaluation` of them are used.
    every
        Measure when `step` is a multiple of it; or the very steps to measure at.
    store
        Zarr folder or URL to keep the history in, default: in memory. A training that goes on from an
        earlier step goes on in its store, and what was measured after that step is dropped.
    tokenizer
        Gives the token strings of the texts: a Hugging Face tokenizer, or the JSON of one.
    tokens_per_step
        Tokens that one optimiser step sees, for trainers that do not tell.
    texts, prompts, scores
        As in `scan_run`.
    name
        What the history calls the model; by default what the model calls itself.

    Raises
    ------
    HistoryError
        If the store holds a history with other settings.
    """

    def __init__(
        self,
        evaluation: Int[np.ndarray, "example token"],
        every: int | Collection[int] = 100,
        store: str | Path | None = None,
        tokenizer: Any = None,
        tokens_per_step: int | None = None,
        texts: Mapping[str, Sequence[int]] | None = None,
        prompts: PromptSettings = PromptSettings(),
        n_evaluation: int = 128,
        scores: Sequence[str] = DEFAULT_SCORES,
        name: str | None = None,
    ):
        if isinstance(every, int) and every < 1:
            raise HistoryError(f"every={every} must be at least 1 step")
        self.tokens_per_step = tokens_per_step
        self._every = every if isinstance(every, int) else frozenset(int(step) for step in every)
        self._evaluation, self._n_evaluation, self._texts = np.asarray(evaluation), n_evaluation, texts
        self._asked = ScoreSettings(scores, prompts=prompts)
        self._tokenizer_json = getattr(getattr(tokenizer, "backend_tokenizer", None), "to_str", lambda: tokenizer)()
        self._name = name
        self._path = f"memory://inductionkit-watch-{uuid.uuid4()}" if store is None else store
        self._copy: _Copy | None = None
        self._store: LiveStore | None = None
        self._last = -1
        self._logged: list[tuple[float, float]] = []
        self._observers: list[Callable[[xr.Dataset], None]] = []

    def __call__(
        self, model: Any, step: int, tokens_seen: int | None = None, loss: float | None = None, due: bool = False
    ) -> bool:
        """Measure `model` if `step` is due or `due` says so, and take note of the training `loss` (nats) in any case.

        Returns whether it was measured. `tokens_seen` defaults to `step` times `tokens_per_step`.
        """
        if loss is not None:
            self.log(step, loss, tokens_seen)
        if step == self._last or not (due or self.is_due(step)):
            return False
        with torch.random.fork_rng(devices=[]):  # random numbers of the training go on as if nobody had watched
            lens = self._lens(model)
            store = self._begin(lens)
            result = self._measurement.measure(lens).assign_coords(
                step=step, tokens_seen=self._tokens(step, tokens_seen)
            )
        try:
            store.append(step, result)
            store.write_log(*np.array(self._logged, dtype=float).reshape(-1, 2).T)
        except HistoryError as error:
            warnings.warn(f"step {step} was measured but not kept: {error}", RuntimeWarning, stacklevel=2)
            return False
        self._last = step
        for observer in self._observers:
            observer(self.history)
        return True

    def log(self, step: int, loss: float, tokens_seen: int | None = None) -> None:
        """Take note of a training `loss` (nats) at a `step`; it is kept with the next measurement.

        `tokens_seen` is as in a call.
        """
        self._logged.append((self._tokens(step, tokens_seen), float(loss)))

    def is_due(self, step: int) -> bool:
        """Whether a step is one of those that `every` asks for."""
        return step % self._every == 0 if isinstance(self._every, int) else step in self._every

    @property
    def history(self) -> xr.Dataset:
        """What has been measured so far. Raises HistoryError if that is nothing yet."""
        if self._store is None:
            raise HistoryError("nothing has been measured yet: no step was due")
        return self._store.open()

    def observe(self, observer: Callable[[xr.Dataset], None]) -> None:
        """Call `observer(history)` after each measurement: an explorer follows by it."""
        self._observers.append(observer)

    def close(self) -> None:
        """Let other processes write to the store."""
        if self._store is not None:
            self._store.close()

    def __repr__(self) -> str:
        if self._store is None:
            return "TrainingWatch(nothing measured yet)"
        steps = self.history["step"].values
        return f"TrainingWatch({len(steps)} measurements, steps {steps[0]:,} to {steps[-1]:,})"

    def trainer_callback(self) -> Any:
        """A callback for the Hugging Face Trainer: `Trainer(..., callbacks=[watch.trainer_callback()])`.

        Measures before the first step, where due, and after the last.
        """
        from .training_callbacks import trainer_callback

        return trainer_callback(self)

    def lightning_callback(self, model: Callable[[Any], Any] = lambda module: module.model) -> Any:
        """A callback for Lightning. `model` gives the transformer of a LightningModule, by default its `.model`."""
        from .training_callbacks import lightning_callback

        return lightning_callback(self, model)

    def _tokens(self, step: int, tokens_seen: int | None) -> float:
        if tokens_seen is None:
            return np.nan if self.tokens_per_step is None else step * self.tokens_per_step
        return float(tokens_seen)

    def _lens(self, model: Any) -> Lens:
        if hasattr(model, "hooks"):  # a TransformerLens model shows what is needed as it is
            return Lens(model)
        if self._copy is None:
            self._copy = _Copy(model)
        return self._copy.of(model)

    def _begin(self, lens: Lens) -> LiveStore:
        """Fix what is measured, and open the store, when the first model has been seen."""
        if self._store is not None:
            return self._store
        self._measurement = measurement(lens, self._asked, self._evaluation, self._n_evaluation, self._texts)
        shape = {"n_layers": lens.n_layers, "n_heads": lens.n_heads}
        values, coords = self._measurement.template(1, N_LOGGED, shape, self._tokenizer_json)
        settings = {**self._measurement.about(), "model": self._name or lens.name}
        self._store = LiveStore(self._path, labelled(values, coords, {}), settings)
        weakref.finalize(self, self._store.close)
        return self._store


class _Copy:
    """A TransformerLens model that stands beside the model in training and takes its weights."""

    def __init__(self, model: Any):
        config = getattr(model, "config", None)
        self._load: Callable[[Any, Mapping[str, torch.Tensor]], None]
        if isinstance(config, ModelConfig):
            self._load, standing = load_weights, build_model(dataclasses.asdict(config))
        else:
            self._load, standing = swap_weights, standing_copy(model)
        self._lens = Lens(moved(standing, next(model.parameters()).device))

    def of(self, model: Any) -> Lens:
        self._load(self._lens.model, model.state_dict())
        return self._lens
