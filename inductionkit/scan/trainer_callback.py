"""A watch as a callback of the Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from .watch_interface import Watch

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class TrainerWatch(TrainerCallback):
    """See `TrainingWatch.trainer_callback`."""

    def __init__(self, watch: Watch):
        self._watch = watch
        self._counting = False  # whether the Trainer counts tokens because of this callback

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        with self._following():
            counts = args.include_num_input_tokens_seen != "no"
            can_count = state.global_step == 0 or state.num_input_tokens_seen  # all, or on from what was counted
            if self._watch.tokens_per_step is None and can_count and not counts:
                args.include_num_input_tokens_seen, self._counting = "all", True
            for record in state.log_history:  # of a training that goes on from a checkpoint
                if "loss" in record and record["step"] <= state.global_step:
                    tokens = record.get("num_input_tokens_seen")
                    self._watch.log(int(record["step"]), record["loss"], None if tokens is None else int(tokens))
            self._watch(model, state.global_step, _tokens(state))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        is_last = control.should_training_stop or state.global_step >= state.max_steps
        self._watch(model, state.global_step, _tokens(state), due=is_last)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            self._watch.log(state.global_step, logs["loss"], _tokens(state))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._watch.write_log()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        # The best model is in place by now, which is not that of the last step.
        self._watch(model, state.global_step, _tokens(state), due=not args.load_best_model_at_end)
        self._watch.write_log()
        if self._counting:
            args.include_num_input_tokens_seen, self._counting = "no", False

    def _following(self) -> AbstractContextManager[None]:
        return self._watch.warning_of_errors("the Trainer was not followed")


def _tokens(state: TrainerState) -> int | None:
    """Tokens that the Trainer counted, None if it counts none."""
    return state.num_input_tokens_seen or (0 if state.global_step == 0 else None)
