"""A watch as the callback that the Hugging Face Trainer or Lightning expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InductionKitError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class Watch(Protocol):
    """What a callback needs of a `TrainingWatch`."""

    def __call__(self, model: Any, step: int, tokens_seen: int | None = None, *, due: bool = False) -> bool: ...

    def log(self, step: int, loss: float, tokens_seen: int | None = None) -> None: ...

    def write_log(self) -> None: ...


def trainer_callback(watch: Watch) -> Any:
    """See `TrainingWatch.trainer_callback`."""
    from transformers import TrainerCallback

    class WatchCallback(TrainerCallback):
        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
        ) -> None:
            watch(model, state.global_step, _tokens(state))

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
        ) -> None:
            watch(model, state.global_step, _tokens(state))

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: Mapping[str, float] | None = None,
            **_: Any,
        ) -> None:
            if logs and "loss" in logs:
                watch.log(state.global_step, logs["loss"], _tokens(state))

        def on_train_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
        ) -> None:
            watch(model, state.global_step, _tokens(state), due=True)
            watch.write_log()

    return WatchCallback()


def _tokens(state: TrainerState) -> int | None:
    """Tokens that the Trainer counted; it counts none unless `include_num_input_tokens_seen` is set."""
    return state.num_input_tokens_seen or (0 if state.global_step == 0 else None)


def lightning_callback(watch: Watch, model: Callable[[Any], Any]) -> Any:
    """See `TrainingWatch.lightning_callback`."""
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError:
            raise InductionKitError("a Lightning callback needs Lightning: pip install lightning") from None

    class WatchCallback(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            watch(model(pl_module), trainer.global_step)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            if loss is not None:
                watch.log(trainer.global_step, float(loss))
            watch(model(pl_module), trainer.global_step)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            watch(model(pl_module), trainer.global_step, due=True)
            watch.write_log()

    return WatchCallback()
