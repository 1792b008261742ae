"""Two ranks that train together, killed and resumed: rank 0 keeps what a scan of the checkpoints gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trainings
import xarray as xr

import inductionkit as ik

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums come out the same to the last bit in training and in scanning."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def run_on_two_ranks(kind: str, folder: Path, *options: object) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(HERE / "trainings.py"), kind, str(folder), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, start_new_session=True)


def assert_equals_a_scan_of_its_checkpoints(folder: Path, tokens_per_step: int | None) -> xr.Dataset:
    history = ik.open_history(folder / "live.zarr")
    run = ik.open_run(folder / "run", tokens_per_step=tokens_per_step)
    scanned = ik.scan_run(run, trainings.TEXT, n_evaluation=trainings.N_EVALUATION, progress=False)
    assert sorted({0, *run.steps}) == history["step"].values.tolist(), (folder / "rank0.json").read_text()
    saved = history.sel(step=run.steps)
    assert len(run.steps) >= trainings.N_STEPS // trainings.EVERY
    for name in scanned.data_vars:
        if name != "training_loss":
            np.testing.assert_array_equal(saved[name].values, scanned[name].values, err_msg=name)
    np.testing.assert_array_equal(saved["tokens_seen"].values, scanned["tokens_seen"].values)
    return history


def assert_ranks(folder: Path) -> None:
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert "measurements, steps 0 to 12" in first["repr"] and second["repr"] == "TrainingWatch(nothing measured yet)"
    assert first["warnings"] == second["warnings"] == []


def test_the_trainer_in_bfloat16_with_accumulation_killed_three_times(tmp_path):
    tokens_per_step = 2 * 2 * trainings.ACCUMULATED * 128  # ranks, rows
    rng = random.Random()
    killed_at = [(rng.randrange(low, low + 4), round(rng.uniform(0, 0.15), 3)) for low in (0, 4, 8)]
    for at, seconds in killed_at:
        assert run_on_two_ranks("trainer", tmp_path, at, seconds).returncode != 0, killed_at
    finished = run_on_two_ranks("trainer", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_ranks(tmp_path)
    history = assert_equals_a_scan_of_its_checkpoints(tmp_path, None)
    np.testing.assert_array_equal(history["tokens_seen"], history["step"] * tokens_per_step, err_msg=str(killed_at))
    steps = np.arange(1, trainings.N_STEPS + 1)
    np.testing.assert_array_equal(history["log_step"], steps, err_msg=str(killed_at))
    np.testing.assert_array_equal(history["log_tokens_seen"], steps * tokens_per_step)
    last = json.loads((tmp_path / "run" / f"checkpoint-{trainings.N_STEPS}" / "trainer_state.json").read_text())
    logged = [record["loss"] for record in last["log_history"] if "loss" in record]
    np.testing.assert_allclose(history["training_loss"], logged, rtol=1e-6)
    assert 4 < logged[0] < 6  # nats of 120 tokens: log(120) = 4.8


@pytest.mark.parametrize("kind", [["lightning"], ["loop", "ddp"], ["loop", "fsdp"], ["loop", "fsdp1"]], ids=" ".join)
def test_rank_0_measures_alone(kind, tmp_path):
    finished = run_on_two_ranks(kind[0], tmp_path, *kind[1:])
    assert finished.returncode == 0, finished.stderr
    assert_ranks(tmp_path)
    rows = 2 * 2 * (trainings.ACCUMULATED if kind[0] == "lightning" else 1)
    history = assert_equals_a_scan_of_its_checkpoints(tmp_path, rows * 128)
    assert history["log_step"].values.tolist() == list(range(kind[0] == "lightning", trainings.N_STEPS + 1))
    np.testing.assert_array_equal(history["log_tokens_seen"], history["log_step"] * rows * 128)
