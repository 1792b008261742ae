"""Losses, steps and tokens as users of the frameworks count them, and callbacks that never end a training."""

from __future__ import annotations

import math
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from trainings import TEXT, tiny_gpt2
from transformers import Trainer, TrainingArguments

from inductionkit.errors import HistoryError
from inductionkit.scan.watching import TrainingWatch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_lightning as lightning

N_TOKENS = 128
KNOWN_LOSS = math.log(120)  # of a model that predicts all 120 tokens alike
TRAINERS_SHARE = 127 / 128  # the Trainer divides the sum by the number of labels, the first of which is not predicted


def even_gpt2():
    """A model whose logits are all 0."""
    model = tiny_gpt2(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return model


def log_of(watch: TrainingWatch) -> list[tuple[int, float, float]]:
    history = watch.history
    columns = (history[name].values.tolist() for name in ("log_step", "log_tokens_seen", "training_loss"))
    return list(zip(*columns))


def assert_log(watch: TrainingWatch, n_steps: int, tokens_per_step: int, loss: float = KNOWN_LOSS) -> None:
    """One entry a step, of the undivided loss; nothing is learned at a rate of 0."""
    steps, tokens, losses = zip(*log_of(watch))
    assert list(steps) == list(range(1, n_steps + 1))
    assert list(tokens) == [step * tokens_per_step for step in steps]
    np.testing.assert_allclose(losses, loss, rtol=1e-4)


def train_with_trainer(model, watch: TrainingWatch, folder, rows=None, **options) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        **{"max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 1, "learning_rate": 0.0} | options,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = rows or [{"input_ids": row, "labels": row} for row in torch.from_numpy(TEXT)]
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[watch.trainer_callback()])
    trainer.train(resume_from_checkpoint=options.get("resume_from_checkpoint"))
    return trainer


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("counted", [False, True])
def test_the_trainers_losses_and_tokens(accumulated, counted, tmp_path):
    watch = TrainingWatch(TEXT, every=2, n_evaluation=4)
    options = {"include_num_input_tokens_seen": True} if counted else {}
    trainer = train_with_trainer(
        even_gpt2(), watch, tmp_path, gradient_accumulation_steps=accumulated, bf16=True, **options
    )
    assert_log(watch, 4, 2 * accumulated * N_TOKENS, TRAINERS_SHARE * KNOWN_LOSS)
    assert watch.history["step"].values.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(watch.history["tokens_seen"], [2 * accumulated * N_TOKENS * n for n in (0, 2, 4)])
    assert trainer.args.include_num_input_tokens_seen == ("all" if counted else "no")


def test_a_trainer_that_did_not_count_before_it_was_resumed(tmp_path):
    """Tokens of the resumed part alone would be wrong for all steps; they are unknown."""
    quiet = TrainingWatch(TEXT, every=100, n_evaluation=4, tokens_per_step=1)
    train_with_trainer(even_gpt2(), quiet, tmp_path, max_steps=2, save_steps=2)
    watch = TrainingWatch(TEXT, every=2, n_evaluation=4)
    train_with_trainer(even_gpt2(), watch, tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [row[0] for row in log_of(watch)] == [1, 2, 3, 4]  # the Trainer's log tells the losses before
    assert np.isnan(watch.history["log_tokens_seen"]).all() and np.isnan(watch.history["tokens_seen"]).all()


class Module(lightning.LightningModule):
    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.model, self.rate = even_gpt2(), rate

    def training_step(self, batch, batch_idx):
        batch = batch["input_ids"] if isinstance(batch, dict) else batch
        return self.model(batch, labels=batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), self.rate)


class TwoOptimisers(Module):
    """Both step after each batch, as Muon and AdamW do side by side."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        for optimiser in self.optimizers():
            optimiser.zero_grad()
        self.manual_backward(loss)
        for optimiser in self.optimizers():
            optimiser.step()
        return loss

    def configure_optimizers(self):
        halves = list(self.parameters())
        return [torch.optim.AdamW(halves[::2], self.rate), torch.optim.SGD(halves[1::2], self.rate)]


def train_with_lightning(module, watch: TrainingWatch, n_steps: int, rows=None, resumed=None, before=(), **options):
    trainer = lightning.Trainer(
        max_steps=n_steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False} | options,
        callbacks=[*before, watch.lightning_callback()],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        batches = torch.utils.data.DataLoader(rows or torch.from_numpy(TEXT), batch_size=2)
        trainer.fit(module, batches, ckpt_path=resumed)
    return trainer


def test_lightning_with_accumulated_gradients():
    watch = TrainingWatch(TEXT, every=2, n_evaluation=4)
    train_with_lightning(Module(), watch, 5, accumulate_grad_batches=4)
    assert_log(watch, 5, 4 * 2 * N_TOKENS)
    assert watch.history["step"].values.tolist() == [0, 2, 4, 5]
    np.testing.assert_array_equal(watch.history["tokens_seen"], np.array([0, 2, 4, 5]) * 4 * 2 * N_TOKENS)


def test_lightning_with_two_optimisers():
    watch = TrainingWatch(TEXT, every=2, n_evaluation=4)
    trainer = train_with_lightning(TwoOptimisers(), watch, 10)
    assert trainer.global_step == 10  # Lightning counts the steps of both
    assert_log(watch, 5, 2 * N_TOKENS)
    assert watch.history["step"].values.tolist() == [0, 2, 4, 5]


def test_lightning_resumed_counts_on(tmp_path):
    first = TrainingWatch(TEXT, every=2, n_evaluation=4, store=tmp_path / "live")
    rows = [{"input_ids": row} for row in torch.from_numpy(TEXT)]
    trainer = train_with_lightning(Module(), first, 3, rows)
    trainer.save_checkpoint(tmp_path / "at3.ckpt")
    first.close()
    watch = TrainingWatch(TEXT, every=2, n_evaluation=4, store=tmp_path / "live")
    train_with_lightning(Module(), watch, 6, rows, resumed=tmp_path / "at3.ckpt")
    assert_log(watch, 6, 2 * N_TOKENS)
    assert watch.history["step"].values.tolist() == [0, 2, 3, 4, 6]
    watch.close()


def test_lightning_watches_a_compiled_part():
    module = Module()
    module.model = torch.compile(module.model, backend="eager")
    watch = TrainingWatch(TEXT, every=1, n_evaluation=4)
    train_with_lightning(module, watch, 1)
    assert watch.history["step"].values.tolist() == [0, 1]


def test_a_callback_that_cannot_find_the_model_ends_no_training():
    watch = TrainingWatch(TEXT, every=1)
    module = Module()
    module.transformer = module.model
    del module.model
    module.training_step = lambda batch, batch_idx: module.transformer(batch, labels=batch).loss
    with pytest.warns(
        RuntimeWarning, match=r"not followed: .*lightning_callback\(model=.*The training goes on"
    ) as told:
        trainer = train_with_lightning(module, watch, 3)
    assert trainer.global_step == 3
    assert sum("not followed" in str(warning.message) for warning in told) == 1


def test_errors_of_all_kinds_end_no_training(tmp_path, capsys):
    """Also where warnings are errors, and whatever is called a model, a step or a loss."""
    model = tiny_gpt2()
    watch = TrainingWatch(TEXT, every=1, n_evaluation=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bad in (None, "a model", torch.nn.Linear(2, 2), object()):
            assert not watch(bad, 1)
        assert not watch(model, "one")
        assert watch(model, 2, loss="high")  # the model is measured all the same
        watch.log(3, torch.nn)
    assert "The training goes on" in capsys.readouterr().err
    other = TrainingWatch(TEXT, every=1, n_evaluation=4, store=tmp_path / "held")
    assert other(model, 0)
    with pytest.warns(RuntimeWarning, match="another process is scanning into.*The training goes on"):
        assert not TrainingWatch(TEXT, every=1, n_evaluation=4, store=tmp_path / "held")(model, 0)
    other.close()
    short = TrainingWatch(TEXT[:, :21], every=1)
    with pytest.warns(RuntimeWarning) as told:
        assert not any(short(model, step) for step in range(5))
    assert len(told) == 1


def test_the_last_step_has_its_own_weights_where_the_best_model_is_loaded(tmp_path):
    rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(TEXT[:4])]
    histories = []
    for best in (False, True):
        watch = TrainingWatch(TEXT, every=3, n_evaluation=4)
        options = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": best}
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(best)), **options, metric_for_best_model="eval_loss", greater_is_better=True,
            max_steps=4, learning_rate=1e-2, report_to="none", use_cpu=True, disable_tqdm=True, seed=0,
        )  # fmt: skip
        Trainer(
            tiny_gpt2(), arguments, train_dataset=rows, eval_dataset=rows, callbacks=[watch.trainer_callback()]
        ).train()
        histories.append(watch.history)
    assert histories[0]["step"].values.tolist() == histories[1]["step"].values.tolist() == [0, 3, 4]
    np.testing.assert_array_equal(histories[0]["weights_digest"], histories[1]["weights_digest"])


class Replacing(lightning.Callback):
    """Replaces the weights when the training ends, as averaging callbacks do."""

    def on_train_end(self, trainer, module):
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(0.5)


def test_lightning_measures_the_last_step_before_weights_are_replaced():
    digests = []
    for callbacks in ([], [Replacing()]):
        watch = TrainingWatch(TEXT, every=100, n_evaluation=4)
        train_with_lightning(Module(1e-2), watch, -1, max_epochs=2, before=callbacks, limit_train_batches=2)
        assert watch.history["step"].values.tolist() == [0, 4]
        digests.append(watch.history["weights_digest"].values.tolist())
    assert digests[0] == digests[1] and digests[0][0] != digests[0][1]


def test_two_watches_with_lightning(tmp_path):
    watches = [TrainingWatch(TEXT, every=1, n_evaluation=4, store=tmp_path / name) for name in "ab"]
    train_with_lightning(Module(), watches[0], 1, before=[watches[1].lightning_callback()])
    assert [watch.history["step"].values.tolist() for watch in watches] == [[0, 1]] * 2
    assert len({watch.lightning_callback().state_key for watch in watches}) == 2


def test_callbacks_can_be_sent_to_other_processes():
    watch = TrainingWatch(TEXT, every=3)
    for callback in (watch.trainer_callback(), watch.lightning_callback()):
        assert type(pickle.loads(pickle.dumps(callback))) is type(callback)


def test_lightning_counts_the_ids_of_a_batch():
    from inductionkit.scan.lightning_callback import _n_tokens

    ids, numbers = torch.zeros(2, 5, dtype=torch.long), torch.arange(2)
    for batch in (ids, {"input_ids": ids, "labels": ids}, (ids, ids), [numbers, ids], (torch.zeros(2, 5), ids)):
        assert _n_tokens(batch) == 10
    for batch in (numbers, torch.zeros(2, 5), {"text": ids}, [], "text", None):
        assert _n_tokens(batch) is None


def test_steps_are_numbers_of_their_own():
    model, step = tiny_gpt2(), torch.tensor(0)
    watch = TrainingWatch(TEXT, every=[0, 2], n_evaluation=4)
    for loss in (3.0, 2.0, 1.0):
        watch(model, step, loss=loss)
        step += 1
    assert watch(model, np.int64(2)) is False
    assert watch.history["step"].values.tolist() == [0, 2]
    for bad in (None, 1.5, -1, True, "3"):
        with pytest.warns(RuntimeWarning, match="step=.* must be a whole number"):
            assert not TrainingWatch(TEXT, every=1)(model, bad)
        watch.log(bad, 1.0)
    watch.log(3, torch.tensor(1.0, device="meta"))
    watch.log(4, 0.5)
    assert [row[0] for row in log_of(watch)] == [0, 1, 2, 4]


def test_a_store_that_was_removed_is_not_begun_again(tmp_path):
    model, store = tiny_gpt2(), tmp_path / "live"
    watch = TrainingWatch(TEXT, every=1, n_evaluation=4, store=store)
    assert watch(model, 0, loss=1.0) and watch(model, 1, loss=1.0)
    shutil.rmtree(store)
    with pytest.warns(RuntimeWarning, match="is gone or damaged"):
        watch(model, 2, loss=1.0)
    watch.write_log()
    watch.close()
    assert not store.exists()
    assert TrainingWatch(TEXT, every=1, n_evaluation=4, store=store)(model, 0)


def test_a_step_is_tried_once_and_again_when_the_training_went_back():
    model = tiny_gpt2()
    watch = TrainingWatch(TEXT, every=10, n_evaluation=4)
    assert watch(model, 10) and not watch(model, 10, due=True)
    assert not watch(model, 7)
    assert watch(model, 10)


def test_other_ranks_do_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    watch = TrainingWatch(TEXT, every=1)
    assert not watch(tiny_gpt2(), 0, loss=1.0)
    with pytest.raises(HistoryError, match="rank 0 keeps the history; this is rank 1"):
        _ = watch.history
