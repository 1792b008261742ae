"""Watching a run while it trains: own loop, Hugging Face Trainer, Lightning; what is kept equals a scan afterwards."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from conftest import random_model
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from inductionkit import PhaseExplorer, open_history, open_run, scan_run
from inductionkit.errors import HistoryError
from inductionkit.scan.store import LiveStore
from inductionkit.scan.watching import TrainingWatch
from inductionkit.train import begin, train

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
    begun = open_run(begin(recipe, tmp_path / "run").path)
    assert watch(begun.load_model(), step=0, tokens_seen=0)
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
        scan_run(run, evaluation=text, n_evaluation=N_EVALUATION, n_nulls=0, progress=False),
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
        scan_run(run, evaluation=text, n_evaluation=N_EVALUATION, n_nulls=0, progress=False),
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
    with pytest.raises(HistoryError, match="other settings"):
        TrainingWatch(text, every=2, store=store, n_evaluation=2)(model, 8)


def test_a_history_that_cannot_be_kept_does_not_end_the_training(text, monkeypatch):
    monkeypatch.setattr(LiveStore, "MAX_STEPS", 2)
    watch, model = TrainingWatch(text, every=1, n_evaluation=N_EVALUATION), tiny_gpt2()
    assert watch(model, 0) and watch(model, 1)
    with pytest.warns(RuntimeWarning, match="step 2 was measured but not kept: .* is full with 2 steps"):
        assert not watch(model, 2)
    assert watch.history["step"].values.tolist() == [0, 1]


def test_more_losses_than_there_is_room_for_are_thinned_evenly(text, monkeypatch):
    monkeypatch.setattr("inductionkit.scan.watching.N_LOGGED", 5)
    watch = TrainingWatch(text, every=1, n_evaluation=N_EVALUATION, tokens_per_step=1)
    for step in range(1, 12):
        watch.log(step, 1.0 * step)
    watch(tiny_gpt2(), 11)
    assert watch.history["training_loss"].values.tolist() == [1, 3, 6, 8, 11]
    assert watch.history["log_tokens_seen"].values.tolist() == [1, 3, 6, 8, 11]


def test_bad_input(text):
    with pytest.raises(HistoryError, match="every=0 must be at least 1"):
        TrainingWatch(text, every=0)
