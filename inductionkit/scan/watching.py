"""Watching a run while it trains: the model is measured every so often, and the history grows.

The watch itself is called in one's own training loop; the Hugging Face Trainer and Lightning take it as a callback.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from ..errors import HistoryError, InductionKitError
from ..history import HISTORY, SCHEMA_VERSION
from ..lens import Lens, weights_digest
from ..lens.beside import ModelBeside
from ..lens.unwrapping import is_sharded, unwrapped, weights_of
from ..runs.architecture import GivenArchitecture
from ..scores.prompts import PromptSettings
from ..system.process_state import restored_random_numbers, undisturbed
from ..system.ranks import process_rank
from ..system.whole_numbers import whole_number
from .checkpoints import marked
from .engine import constants_of, tokenizer_fingerprint
from .heads import DEFAULT_SCORES
from .held_out import held_out_rows
from .in_memory import HistoryInMemory
from .measurement import Measurement, identity, measure_all, settings_of
from .run_scan import N_EVALUATION, run_measurements
from .store import HistoryStore
from .training_log import TrainingLog, end


class TrainingWatch:
    """Measures a model while it trains, as `scan_run` would measure its checkpoints, and keeps a history.

    Call it in the training loop, `watch(model, step, tokens_seen, loss)`: it returns at once when `step` is not due.
    The model is a TransformerLens model (measured in place), a Hugging Face model or one of `inductionkit.train` (its
    weights are copied into a model beside it, in float32, as `scan_run` would load a saved checkpoint). Wrappers of
    torch.compile, DistributedDataParallel, FSDP and accelerate are seen through, and adapters of peft are merged into
    the copy. Mode, gradients, weights, random numbers and settings of the training are unaffected.

    If ranks train together, call the watch on all of them: rank 0 measures and keeps the history, the others do
    nothing but take part in gathering weights that FSDP shards.

    An error in a measurement does not end the training: the watch warns once for each kind of error, and tries again
    when the next step is due.

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
        If `every` is neither a whole number of at least 1 nor a collection of steps, or `tokens_per_step` or
        `n_evaluation` is below 1.
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
        self._every = _every(every)
        self._held_out, self._n_evaluation = held_out, whole_number(n_evaluation, "n_evaluation", 1, HistoryError)
        self._texts, self._scores, self._prompts = texts, scores, prompts
        self._tokenizer_json = getattr(getattr(tokenizer, "backend_tokenizer", None), "to_str", lambda: tokenizer)()
        self._name, self._path = name, store
        self.place = str(name if store is None else store)  # where the history is kept, or what it is called
        self._beside: ModelBeside | None = None
        self._measurements: Sequence[Measurement] = ()
        self._kept: HistoryInMemory | HistoryStore | None = None
        self._log = TrainingLog()
        self._step, self._tried = -1, False  # the step of the last call, and whether it was due
        self._observers: list[Callable[[xr.Dataset], None]] = []
        self._warned: set[str] = set()

    def __call__(
        self,
        model: Any,
        step: int,
        tokens_seen: int | None = None,
        loss: float | Tensor | None = None,
        due: bool = False,
    ) -> bool:
        """Measure `model` if `step` is due or `due` is true, and record the training `loss` (nats) in any case.

        Returns whether it was measured and kept. `tokens_seen` defaults to `step` times `tokens_per_step`. A step that
        was due is not measured again when it is called again.
        """
        if loss is not None:
            self.log(step, loss, tokens_seen)
        measured = False
        with self.warning_of_errors(f"step {step} was not measured"):
            step = _step(step)
            if step != self._step:
                self._step, self._tried = step, False
            if not self._tried and (due or self.is_due(step)):
                self._tried = True
                measured = self._measure(model, step, self._tokens(step, tokens_seen))
        if measured:
            with self.warning_of_errors(f"step {step} was measured but is not shown"):
                for observer in self._observers:
                    observer(self.history)
        return measured

    def log(self, step: int, loss: float | Tensor, tokens_seen: int | None = None) -> None:
        """Record a training `loss` (nats) at a `step`; it is written with the next measurement, or by `write_log`.

        `tokens_seen` is as in a call. A loss on another device is fetched when it is written.
        """
        with self.warning_of_errors(f"the loss of step {step} was not recorded"):
            if process_rank() == 0:
                step = _step(step)
                self._log.add(step, self._tokens(step, tokens_seen), loss)

    def is_due(self, step: int) -> bool:
        """Whether a step is one of those that `every` asks for."""
        return step % self._every == 0 if isinstance(self._every, int) else step in self._every

    @property
    def history(self) -> xr.Dataset:
        """What has been measured and logged so far. Raises HistoryError if nothing has been measured yet."""
        if rank := process_rank():
            raise HistoryError(f"rank 0 keeps the history; this is rank {rank}")
        if self._kept is None:
            raise HistoryError("nothing has been measured yet: no step was due")
        self.write_log()
        return self._kept.read()

    def observe(self, observer: Callable[[xr.Dataset], None]) -> None:
        """Call `observer(history)` after each measurement: an explorer follows by it."""
        self._observers.append(observer)

    def write_log(self) -> None:
        """Write the training losses that were recorded since the last measurement."""
        with self.warning_of_errors("the training losses were not written"):
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

        Measures before the first step, where due, and after the last. Without `tokens_per_step` it makes the Trainer
        count tokens (`include_num_input_tokens_seen`).
        """
        from .trainer_callback import TrainerWatch

        return TrainerWatch(self)

    def lightning_callback(self, model: Callable[[Any], Any] | None = None) -> Any:
        """A callback for Lightning. `model` gives the transformer of a LightningModule, by default its `.model`.

        Measures before the first step, where due, and at the last, if that is known when it ends. Raises
        InductionKitError if Lightning is not installed.
        """
        from .lightning_callback import LightningWatch

        return LightningWatch(self, model)

    @contextlib.contextmanager
    def warning_of_errors(self, what: str) -> Iterator[None]:
        """Turn errors into warnings that start with `what`, one for each kind: the training must go on."""
        try:
            yield
        except Exception as error:
            kind = f"{type(error).__name__}: {re.sub('[0-9]+', '', str(error))}"
            if kind not in self._warned:
                self._warned.add(kind)
                _warn(f"{what}: {_advice(error)}")

    def _measure(self, model: Any, step: int, tokens_seen: float) -> bool:
        gathered = weights_of(model) if is_sharded(model) else None  # all ranks take part
        if process_rank() != 0:
            return False
        with restored_random_numbers(), undisturbed():
            lens = self._lens(model, gathered)
            kept = self._begin(lens, step)
            result = measure_all(self._measurements, lens)
            digest = weights_digest(lens.model)
        kept.drop_from(step)  # later steps are of a training that went back
        kept.write(step, marked(result, tokens_seen, digest))
        self._log.write_to(kept)
        return True

    def _tokens(self, step: int, tokens_seen: int | None) -> float:
        if tokens_seen is None:
            return np.nan if self.tokens_per_step is None else step * self.tokens_per_step
        return float(tokens_seen)

    def _lens(self, model: Any, gathered: Mapping[str, Tensor] | None) -> Lens:
        if hasattr(unwrapped(model), "hooks"):  # a TransformerLens model shows what is needed as it is
            return Lens(model)
        if self._beside is None:
            self._beside = ModelBeside(model)
        return self._beside.take(weights_of(model) if gathered is None else gathered)

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
        weakref.finalize(self, end, self._log, self._kept)
        return self._kept


def _step(step: Any) -> int:
    """A step as Python's own number; a tensor that counts steps changes in place."""
    return whole_number(step.item() if isinstance(step, Tensor) else step, "step", 0, HistoryError)


def _every(every: Any) -> int | frozenset[int]:
    if isinstance(every, Collection) and not isinstance(every, str):
        return frozenset(whole_number(step, "every", 0, HistoryError) for step in every)
    return whole_number(every, "every", 1, HistoryError)


def _advice(error: Exception) -> str:
    """What went wrong and what to do: errors of this project say both."""
    if isinstance(error, InductionKitError):
        return f"{error}. The training goes on"
    return f"{error!r}. The training goes on; scan its checkpoints with scan_run to see where the error comes from"


def _warn(message: str) -> None:
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=5)
    except RuntimeWarning:  # warnings are errors here, which would end the training
        print(message, file=sys.stderr)
