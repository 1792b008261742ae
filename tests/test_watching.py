"""Watching a run while it trains: own loop, Hugging Face Trainer, Lightning; what is kept equals a scan afterwards."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest
import torch
import zarr
from conftest import random_model
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from inductionkit import PhaseExplorer, open_history, open_run, scan_run
from inductionkit.errors import HistoryError
from inductionkit.history import history_steps
from inductionkit.scan import store as stores
from inductionkit.scan.watching import TrainingWatch
from inductionkit.train import Transformer, train

N_EVALUATION = 4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums come out the same to the last bit in training and in scanning."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def tiny_gpt2(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_positions=128, n_embd=16, n_layer=2, n_head=2, bos_token_id=0))


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 120, (64, 128))


def assert_equal(watched, scanned) -> None:
    """All that a checkpoint's measurement gives is the same, to the last bit."""
    assert watched["step"].values.tolist() == scanned["step"].values.tolist()
    for name in scanned.data_vars:
        if name != "training_loss":
            np.testing.assert_array_equal(watched[name].values, scanned[name].values, err_msg=name)
    np.testing.assert_array_equal(watched["tokens_seen"].values, scanned["tokens_seen"].values)


@pytest.fixture(params=["memory", "store"])
def store(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "live.zarr"


def test_watching_ones_own_loop_equals_a_scan_of_its_checkpoints(recipe, run_path, store, tmp_path):
    run = open_run(run_path)
    watch = TrainingWatch(
        *(run.held_out(), run.steps, store, run.tokenizer_json()), n_evaluation=N_EVALUATION, name=run.name
    )
    assert repr(watch) == "TrainingWatch(nothing measured yet)"
    with pytest.raises(HistoryError, match="nothing has been measured"):
        _ = watch.history
    begun = Transformer(recipe.model, recipe.seed)
    begun.load_state_dict({name: torch.from_numpy(w) for name, w in run.checkpoint(0).read().items()})
    assert watch(begun, step=0, tokens_seen=0)
    explorer = PhaseExplorer(watch.history).follow(watch)
    folder = train(recipe, tmp_path / "run", progress=False, on_step=watch)
    assert_equal(watch.history, scan_run(run, n_evaluation=N_EVALUATION, n_nulls=0, progress=False))
    assert explorer.step == run.steps[-1]
    assert repr(watch) == f"TrainingWatch({len(run.steps)} measurements, steps 0 to 40)"
    # Watching changed nothing of the run, and every step's loss was noted.
    assert open_run(folder.path).checkpoints[-1].read().keys() == run.checkpoints[-1].read().keys()
    for name, weight in run.checkpoints[-1].read().items():
        np.testing.assert_array_equal(open_run(folder.path).checkpoints[-1].read()[name], weight)
    assert watch.history.sizes["log"] == 40
    logged = next(record["loss"] for record in run.log() if "loss" in record)
    np.testing.assert_allclose(watch.history["training_loss"][:10].mean(), logged, atol=1e-5)
    watch.close()
    if store is not None:
        assert_equal(open_history(store), watch.history)


def test_the_hugging_face_trainer(text, tmp_path):
    model = tiny_gpt2()
    watch = TrainingWatch(text, every=4, store=tmp_path / "live.zarr", n_evaluation=N_EVALUATION, tokens_per_step=1024)
    rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(text)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=10,
        per_device_train_batch_size=8,
        save_steps=2,
        logging_steps=1,
        learning_rate=1e-2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    Trainer(model, arguments, train_dataset=rows, callbacks=[watch.trainer_callback()]).train()
    assert model.training
    history = watch.history
    assert history["step"].values.tolist() == [0, 4, 8, 10]
    assert history["tokens_seen"].values.tolist() == [0, 4096, 8192, 10240]
    run = open_run(tmp_path / "run", checkpoints=[4, 8, 10], tokens_per_step=1024)
    assert_equal(
        history.isel(step=slice(1, None)),
        scan_run(run, held_out=text, n_evaluation=N_EVALUATION, n_nulls=0, progress=False),
    )
    assert history["training_loss"].values[-1] < history["training_loss"].values[0]
    assert history.sizes["log"] >= 9


def test_lightning(text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning as lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = tiny_gpt2()

        def training_step(self, batch, batch_idx):
            return self.model(batch, labels=batch).loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 1e-2)

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step in (3, 6, 7):
                module.model.save_pretrained(tmp_path / "run" / f"step{trainer.global_step}")

    watch = TrainingWatch(text, every=3, n_evaluation=N_EVALUATION, tokens_per_step=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=7,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch.lightning_callback(), Save()],
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(torch.from_numpy(text), batch_size=8))
    assert watch.history["step"].values.tolist() == [0, 3, 6, 7]
    run = open_run(tmp_path / "run", tokens_per_step=1024)
    assert_equal(
        watch.history.isel(step=slice(1, None)),
        scan_run(run, held_out=text, n_evaluation=N_EVALUATION, n_nulls=0, progress=False),
    )
    assert watch.history.sizes["log"] == 7


def test_a_transformer_lens_model_is_measured_in_place():
    model = random_model().train()
    text = np.random.default_rng(0).integers(1, 60, (8, 64))
    watch = TrainingWatch(text, every=1, n_evaluation=N_EVALUATION)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.random.get_rng_state()
    watch(model, 1, tokens_seen=10)
    assert torch.equal(state, torch.random.get_rng_state()) and model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    with torch.no_grad():
        model.blocks[0].attn.q.weight.zero_()
    watch(model, 2, tokens_seen=20)
    prefix = watch.history["prefix_matching"]
    assert not np.allclose(prefix[0], prefix[1])


def test_a_training_that_goes_back_drops_what_was_measured_later(text, tmp_path):
    store, model = tmp_path / "live.zarr", tiny_gpt2()

    def watch_from(first: int, last: int) -> TrainingWatch:
        watch = TrainingWatch(text, every=2, store=store, n_evaluation=N_EVALUATION)
        for step in range(first, last + 1):
            watch(model, step)
        watch.close()
        return watch

    watch_from(0, 8)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(0.5)
    watch = watch_from(5, 7)
    assert watch.history["step"].values.tolist() == [0, 2, 4, 6]
    loss = watch.history["loss"].values
    assert loss[2] == loss[1] != loss[3]
    assert np.isnan(watch.history["tokens_seen"]).all()
    with pytest.warns(RuntimeWarning, match="step 8 was not measured: .*other settings"):
        assert not TrainingWatch(text, every=2, store=store, n_evaluation=2)(model, 8)


def test_a_history_that_cannot_be_kept_does_not_end_the_training(text, monkeypatch, tmp_path):
    monkeypatch.setattr(stores, "MIN_ROOM", 2)
    watch, model = TrainingWatch(text, every=1, store=tmp_path / "live", n_evaluation=N_EVALUATION), tiny_gpt2()
    assert watch(model, 0) and watch(model, 1)
    with pytest.warns(RuntimeWarning, match="step 2 was not measured: .* is full with 2 steps"):
        assert not watch(model, 2)
    assert watch.history["step"].values.tolist() == [0, 1]


def diverged() -> GPT2LMHeadModel:
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.wte.weight.fill_(torch.nan)
    return model


def test_a_measurement_that_fails_does_not_end_the_training(text, tmp_path):
    watch, model = TrainingWatch(text, every=1, n_evaluation=N_EVALUATION), tiny_gpt2()
    assert watch(model, 0)
    with pytest.warns(RuntimeWarning, match="step 1 was not measured: .*NaN") as told:
        assert not watch(diverged(), 1) and not watch(diverged(), 2)
    assert len(told) == 1  # once for each kind
    assert watch(model, 3)
    assert watch.history["step"].values.tolist() == [0, 3]
    with pytest.warns(RuntimeWarning, match="was not measured: held_out has rows of 21 tokens"):
        assert not TrainingWatch(text[:, :21], every=1)(model, 0)
    with pytest.warns(RuntimeWarning, match="was not measured"):
        assert not watch(torch.nn.Linear(2, 2), 4)


def losses(first: int, last: int) -> list[tuple[int, float]]:
    return [(step, step / 10) for step in range(first, last + 1)]


def logged(history) -> list[tuple[int, float]]:
    return [
        (step, round(loss, 4))
        for step, loss in zip(history["log_step"].values.tolist(), history["training_loss"].values.tolist())
    ]


def test_the_log_is_whole_and_in_order_after_a_resume(text, store):
    """Killed at step 23, gone on from the checkpoint of step 15; all that was logged is there once."""
    model = tiny_gpt2()

    def train(first: int, last: int, closes: bool) -> TrainingWatch:
        watch = TrainingWatch(text, every=10, store=store, n_evaluation=N_EVALUATION, tokens_per_step=100)
        for step, loss in losses(first, last):
            watch(model, step, loss=loss)
        if closes:
            watch.close()
        return watch

    if store is None:
        watch = train(0, 23, closes=False)
        for step, loss in losses(16, 29):
            watch(model, step, loss=loss)
    else:
        killed = train(0, 23, closes=False)
        killed._kept.close()  # the system does so for a process that is killed; what was not written is lost
        watch = train(16, 29, closes=True)
    assert logged(watch.history) == losses(0, 29)
    assert watch.history["log_tokens_seen"].values.tolist() == [100 * step for step in range(30)]
    assert watch.history["step"].values.tolist() == [0, 10, 20]
    if store is not None:
        assert logged(open_history(store)) == losses(0, 29)
        killed._log.__init__()  # its end must write nothing more


def test_the_last_loss_is_kept_whoever_ends(text, tmp_path):
    for ends in ("close", "gone"):
        store = tmp_path / ends
        watch = TrainingWatch(text, every=2, store=store, n_evaluation=N_EVALUATION)
        model = tiny_gpt2()
        for step, loss in losses(0, 5):
            watch(model, step, loss=loss)
        if ends == "close":
            watch.close()
        del watch
        gc.collect()
        assert logged(open_history(store)) == losses(0, 5)


def test_several_entries_of_one_step_are_all_kept(text, store):
    watch, model = TrainingWatch(text, every=1, store=store, n_evaluation=N_EVALUATION), tiny_gpt2()
    watch.log(0, 1.0)
    watch(model, 0)
    watch.log(0, 2.0)
    watch.log(1, 3.0)
    watch(model, 1)
    assert logged(watch.history) == [(0, 1.0), (0, 2.0), (1, 3.0)]
    watch.close()


def test_the_steps_of_a_growing_store_are_read_alone(text, tmp_path, monkeypatch):
    watch, model = TrainingWatch(text, every=1, store=tmp_path / "live", n_evaluation=N_EVALUATION), tiny_gpt2()
    for step in range(3):
        watch(model, step)
    read = []
    original = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, at: read.append(self.basename) or original(self, at))
    assert history_steps(tmp_path / "live") == [0, 1, 2]
    assert not {"pattern", "loss", "prefix_matching", "training_loss"} & set(read)
    watch.close()


def test_bad_input(text):
    with pytest.raises(HistoryError, match="every=0 must be a whole number of at least 1"):
        TrainingWatch(text, every=0)
