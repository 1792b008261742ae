"""Watching a run while it trains: the model is measured every so often, and the history grows.

The watch itself is called in one's own training loop; the Hugging Face Trainer and Lightning take it as a callback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..errors import HistoryError
from ..history import HISTORY, SCHEMA_VERSION
from ..lens import Lens, build_model, load_weights, weights_digest
from ..lens.swapping import standing_copy, swap_weights
from ..runs.architecture import GivenArchitecture
from ..scores.prompts import PromptSettings
from ..system.devices import moved
from ..system.whole_numbers import whole_number
from ..train.model import ModelConfig
from .checkpoints import marked
from .engine import constants_of, tokenizer_fingerprint
from .heads import DEFAULT_SCORES
from .held_out import held_out_rows
from .in_memory import HistoryInMemory, LogRow
from .measurement import Measurement, identity, measure_all, settings_of
from .run_scan import N_EVALUATION, run_measurements
from .store import HistoryStore
from .training_callbacks import lightning_callback, trainer_callback


class TrainingWatch:
    """Measures a model while it trains, as `scan_run` would measure its checkpoints, and keeps a history.

    Call it in the training loop, `watch(model, step, tokens_seen, loss)`: it returns at once when `step` is not due.
    The model is a TransformerLens model (measured in place), a Hugging Face model or one of `inductionkit.train` (its
    weights are copied into a model that stands beside it); its mode, gradients, weights and the random numbers of its
    training are unaffected by the measurement. Whatever goes wrong in a measurement does not end the training: the
    watch warns, and tries again when next due.

    Parameters
    ----------
    held_out
        Held-out text of the training distribution, as in `scan_run`; `n_evaluation` of its rows are used.
    every
        Measure when `step` is a multiple of it; or the very steps to measure at.
    store
        Zarr folder or URL to keep the history in, default: in memory. A training that goes on from an earlier step goes
        on in its store: what was measured or logged after that step is dropped.
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
        If `every` is neither a whole number of at least 1 nor a collection of steps, or `tokens_per_step` is below 1.
    """

    def __init__(
        self,
        held_out: Any,
        every: int | Collection[int] = 100,
        store: str | Path | None = None,
        tokenizer: Any = None,
        tokens_per_step: int | None = None,
        texts: Mapping[str, Sequence[int]] | None = None,
        scores: Sequence[str] = DEFAULT_SCORES,
        prompts: PromptSettings = PromptSettings(),
        n_evaluation: int = N_EVALUATION,
        name: str | None = None,
    ):
        if tokens_per_step is not None:
            tokens_per_step = whole_number(tokens_per_step, "tokens_per_step", 1, HistoryError)
        self.tokens_per_step = tokens_per_step
        self._every: int | frozenset[int]
        if isinstance(every, Collection) and not isinstance(every, str):
            self._every = frozenset(whole_number(step, "every", 0, HistoryError) for step in every)
        else:
            self._every = whole_number(every, "every", 1, HistoryError)
        self._held_out, self._n_evaluation = held_out, n_evaluation
        self._texts, self._scores, self._prompts = texts, scores, prompts
        self._tokenizer_json = getattr(getattr(tokenizer, "backend_tokenizer", None), "to_str", lambda: tokenizer)()
        self._name, self._path = name, store
        self._copy: _Copy | None = None
        self._measurements: Sequence[Measurement] = ()
        self._kept: HistoryInMemory | HistoryStore | None = None
        self._log = _Log()
        self._last = -1
        self._observers: list[Callable[[xr.Dataset], None]] = []
        self._warned: set[str] = set()

    def __call__(
        self, model: Any, step: int, tokens_seen: int | None = None, loss: float | None = None, due: bool = False
    ) -> bool:
        """Measure `model` if `step` is due or `due` is true, and record the training `loss` (nats) in any case.

        Returns whether it was measured and kept. `tokens_seen` defaults to `step` times `tokens_per_step`.
        """
        if loss is not None:
            self.log(step, loss, tokens_seen)
        with self._warning_of_errors(f"step {step} was not measured"):
            if step == self._last or not (due or self.is_due(step)):
                return False
            self._measure(model, step, self._tokens(step, tokens_seen))
        if self._last != step:
            return False
        with self._warning_of_errors(f"step {step} was measured but is not shown"):
            for observer in self._observers:
                observer(self.history)
        return True

    def log(self, step: int, loss: float, tokens_seen: int | None = None) -> None:
        """Record a training `loss` (nats) at a `step`; it is written with the next measurement, or by `close`.

        `tokens_seen` is as in a call.
        """
        with self._warning_of_errors(f"the loss of step {step} was not recorded"):
            self._log.add((step, self._tokens(step, tokens_seen), float(loss)))

    def is_due(self, step: int) -> bool:
        """Whether a step is one of those that `every` asks for."""
        return step % self._every == 0 if isinstance(self._every, int) else step in self._every

    @property
    def history(self) -> xr.Dataset:
        """What has been measured and logged so far. Raises HistoryError if nothing has been measured yet."""
        if self._kept is None:
            raise HistoryError("nothing has been measured yet: no step was due")
        self.write_log()
        return self._kept.read()

    def observe(self, observer: Callable[[xr.Dataset], None]) -> None:
        """Call `observer(history)` after each measurement: an explorer follows by it."""
        self._observers.append(observer)

    def write_log(self) -> None:
        """Write the training losses that were recorded since the last measurement."""
        with self._warning_of_errors("the training losses were not written"):
            if self._kept is not None:
                self._log.write_to(self._kept)

    def close(self) -> None:
        """Write what was recorded, and let other processes write to the store."""
        if self._kept is not None:
            self.write_log()
            self._kept.close()

    def __repr__(self) -> str:
        if self._kept is None or not self._kept.steps:
            return "TrainingWatch(nothing measured yet)"
        steps = self._kept.steps
        return f"TrainingWatch({len(steps)} measurements, steps {steps[0]:,} to {steps[-1]:,})"

    def trainer_callback(self) -> Any:
        """A callback for the Hugging Face Trainer: `Trainer(..., callbacks=[watch.trainer_callback()])`.

        Measures before the first step, where due, and after the last.
        """
        return trainer_callback(self)

    def lightning_callback(self, model: Callable[[Any], Any] = lambda module: module.model) -> Any:
        """A callback for Lightning. `model` gives the transformer of a LightningModule, by default its `.model`."""
        return lightning_callback(self, model)

    @contextlib.contextmanager
    def _warning_of_errors(self, what: str) -> Iterator[None]:
        """Turn errors into warnings, one for each message: a training is worth more than its measurements."""
        try:
            yield
        except Exception as error:
            if str(error) not in self._warned:
                self._warned.add(str(error))
                warnings.warn(f"{what}: {error}", RuntimeWarning, stacklevel=4)

    def _measure(self, model: Any, step: int, tokens_seen: float) -> None:
        with torch.random.fork_rng(devices=[]):  # the training's random numbers go on unaffected
            lens = self._lens(model)
            kept = self._begin(lens, step)
            result = measure_all(self._measurements, lens)
        kept.drop_from(step)  # later steps are of a training that went back
        kept.write(step, marked(result, tokens_seen, weights_digest(lens.model)))
        self._log.write_to(kept)
        self._last = step

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

    def _begin(self, lens: Lens, step: int) -> HistoryInMemory | HistoryStore:
        """Fix what is measured, and open the store, when the first model has been seen."""
        if self._kept is not None:
            return self._kept
        rows = held_out_rows(self._held_out, lens, self._n_evaluation)
        self._measurements = run_measurements(lens, rows, self._texts, self._scores, self._prompts)
        settings: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            **settings_of(self._measurements, HISTORY),
            "model": self._name or lens.name,
            "architecture": hashlib.sha256(GivenArchitecture(lens.model).description.encode()).hexdigest(),
            "tokenizer": tokenizer_fingerprint(self._tokenizer_json),
        }
        settings["identity"] = identity(settings)
        constants = constants_of(self._measurements, self._tokenizer_json)
        if self._path is None:
            self._kept = HistoryInMemory(settings, constants)
        else:
            self._kept = HistoryStore(self._path, settings, constants)
        self._kept.drop_log_after(step)
        weakref.finalize(self, _end, self._log, self._kept)
        return self._kept


class _Log:
    """The training losses of this process, and how many of them are written."""

    def __init__(self) -> None:
        self._rows: list[LogRow] = []
        self._n_written = 0

    def add(self, row: LogRow) -> None:
        if self._rows and self._rows[-1][0] > row[0]:  # the training went back
            self._rows = [known for known in self._rows if known[0] < row[0]]
            self._n_written = min(self._n_written, len(self._rows))
        self._rows.append(row)

    def write_to(self, kept: HistoryInMemory | HistoryStore) -> None:
        """Write what is not written yet; a step that has several entries is written again, whole."""
        start = self._n_written
        while 0 < start < len(self._rows) and self._rows[start - 1][0] == self._rows[start][0]:
            start -= 1
        kept.write_log(self._rows[start:])
        self._n_written = len(self._rows)


def _end(log: _Log, kept: HistoryInMemory | HistoryStore) -> None:
    """What remains to be done when a watch goes that nobody closed."""
    log.write_to(kept)
    kept.close()


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
