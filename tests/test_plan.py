"""What a scan would take, told before: against what the sources and a scan really have."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_folders import LAYOUTS, save_checkpoint
from conftest import random_model
from stand_in_hub import StandInHub

from inductionkit import open_run, scan_run
from inductionkit.scan.plan import plan_scan

pytest_plugins = ("run_fixtures",)


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind))


def test_a_run_of_our_own_and_what_is_left_of_it(run_path, tmp_path):
    run = open_run(run_path)
    files = sorted((run_path / "checkpoints").iterdir())
    plan = plan_scan(run, tmp_path / "scan.zarr")
    assert (plan.n_checkpoints, plan.n_scanned, plan.download_bytes) == (len(files), 0, None)
    assert plan.checkpoint_bytes == max(files[0].stat().st_size, files[-1].stat().st_size)
    assert plan.read_bytes == plan.checkpoint_bytes * len(files)
    assert "nothing is downloaded" in repr(plan) and f"{len(files)} of {len(files)}" in repr(plan)
    assert plan_scan(run, n_workers=3).memory_bytes == 3 * plan.memory_bytes
    scan_run(run, store=tmp_path / "scan.zarr", n_evaluation=2, n_nulls=0, progress=False)
    done = plan_scan(run, tmp_path / "scan.zarr")
    assert (done.n_scanned, done.read_bytes) == (len(files), 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_in_every_layout(layout, tmp_path):
    folder = save_checkpoint(tmp_path / "run" / "step500", seed=500)
    LAYOUTS[layout](folder)
    plan = plan_scan(open_run(tmp_path / "run"))
    assert plan.checkpoint_bytes == plan.read_bytes == weight_bytes(folder)


def test_downloads_are_told_and_not_begun(hub: StandInHub, steps, tmp_path):
    for step in (0, 500, 1000):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    size = weight_bytes(steps / "step500")
    for keep, expected in (("all", 3 * size), ("none", 2 * size), (size // 2, 2 * size + size // 2)):
        plan = plan_scan(open_run("hf:org/tiny", keep=keep))
        assert plan.read_bytes == 3 * size
        assert plan.download_bytes == expected, keep
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_list_tells_no_sizes():
    model = random_model()
    plan = plan_scan(open_run([(0, model.state_dict), (1, model.state_dict)], model=model))
    assert plan.read_bytes is None and "of unknown size" in repr(plan)
