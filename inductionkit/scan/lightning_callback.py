"""A watch as a callback of Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..errors import InductionKitError, ModelError
from .watch_interface import Watch

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise InductionKitError("a Lightning callback needs Lightning: pip install lightning") from None


class LightningWatch(Callback):
    """See `TrainingWatch.lightning_callback`.

    Counts steps of all optimisers together as one, and the tokens of the batches on every rank. Lightning's own
    `global_step` counts each optimiser by itself.
    """

    def __init__(self, watch: Watch, model: Callable[[Any], Any] | None):
        self._watch, self._model = watch, model or _dot_model
        self._n_steps: int | None = None
        self._n_tokens: int | None = 0
        self._global_step = 0
        self._losses: list[Tensor] = []

    @property
    def state_key(self) -> str:
        """Tells the callbacks of several watches apart in Lightning's checkpoints."""
        return f"{type(self).__qualname__}: {self._watch.place}"

    def state_dict(self) -> dict[str, int | None]:
        return {"n_steps": self._n_steps, "n_tokens": self._n_tokens}

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        self._n_steps, self._n_tokens = state_dict["n_steps"], state_dict["n_tokens"]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        with self._following():
            self._global_step, self._losses = trainer.global_step, []
            if self._n_steps is None or trainer.global_step == 0:
                self._n_steps = trainer.global_step // max(1, len(trainer.optimizers))
                self._n_tokens = None if self._n_steps else 0  # a checkpoint without this callback does not tell
            self._watch(self._model(pl_module), self._n_steps, self._tokens())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        with self._following():
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            if isinstance(loss, Tensor):
                # Lightning divides what it accumulates.
                n_parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
                self._losses.append(loss.detach().float().mean() * n_parts)
            n_tokens = _n_tokens(batch)
            if self._n_tokens is not None:
                self._n_tokens = None if n_tokens is None else self._n_tokens + n_tokens * trainer.world_size
            if trainer.global_step == self._global_step or self._n_steps is None:
                return  # gradients are being accumulated
            self._global_step, self._n_steps = trainer.global_step, self._n_steps + 1
            if self._losses:
                self._watch.log(self._n_steps, torch.stack(self._losses).mean(), self._tokens())
                self._losses = []
            # Callbacks that average weights replace them when the training ends.
            self._watch(self._model(pl_module), self._n_steps, self._tokens(), due=_is_last(trainer))

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._watch.write_log()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._watch.write_log()

    def _following(self) -> AbstractContextManager[None]:
        return self._watch.warning_of_errors("Lightning was not followed")

    def _tokens(self) -> int | None:
        return self._n_tokens if self._watch.tokens_per_step is None else None


def _is_last(trainer: Any) -> bool:
    """Whether no step follows, as far as it is known at the end of a batch."""
    is_last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return bool(
        trainer.should_stop
        or 0 < trainer.max_steps <= trainer.global_step
        or (is_last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)
    )


def _dot_model(module: Any) -> Any:
    if not hasattr(module, "model"):
        raise ModelError(
            f"{type(module).__name__} has no attribute `model`; pass watch.lightning_callback(model=...), a function "
            f"that returns the transformer of a LightningModule"
        )
    return module.model


def _n_tokens(batch: Any) -> int | None:
    """Tokens in a batch: a tensor of ids, the `input_ids` of a dictionary or the first matrix of ids; else None."""
    if isinstance(batch, Tensor):
        return None if batch.is_floating_point() or batch.ndim < 2 else batch.numel()
    if isinstance(batch, Mapping):
        return _n_tokens(batch.get("input_ids"))
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return next((n_tokens for part in batch if (n_tokens := _n_tokens(part)) is not None), None)
    return None
