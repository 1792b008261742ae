"""Scans that are interrupted lose nothing, repeat nothing and leave nothing behind."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from inductionkit import open_history, open_run
from inductionkit.errors import HistoryError, RunError
from inductionkit.history import history_steps
from inductionkit.scan import checkpoints
from inductionkit.scan.checkpoints import CheckpointTask
from inductionkit.scan.restarting_pool import RestartingPool
from inductionkit.scan.run_scan import scan_run
from inductionkit.scan.store import HistoryStore
from inductionkit.train import CheckpointSpec, train

KILLED_SCANS = Path(__file__).with_name("killed_scans.py")


@pytest.fixture(scope="module")
def run_of_40(recipe, tmp_path_factory):
    """A checkpoint at each of 40 steps."""
    path = tmp_path_factory.mktemp("run") / "forty"
    every = CheckpointSpec(first=416, n_log=2, dense=(416, 416 * 40), n_dense=40)
    train(dataclasses.replace(recipe, name="forty", checkpoints=every), path, progress=False)
    run = open_run(path)
    assert len(run.steps) >= 40
    return path


def files(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("kind", "n_kills"), [("run", 40), ("heads", 8), ("ablations", 8), ("behaviours", 8), ("fuzzy", 8)]
)
def test_kills_at_random_moments(kind, n_kills, run_of_40, tmp_path):
    killed, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"

    def scan(store: Path, n_kills: int = 0, first: float = 0.0, following: float = 0.0) -> list[dict]:
        numbers = [str(n_kills), str(first), str(following)]
        command = [sys.executable, KILLED_SCANS, kind, run_of_40, store, f"{store}.log", *numbers]
        subprocess.run(command, check=True, timeout=500)
        return [json.loads(line) for line in Path(f"{store}.log").read_text().splitlines()]

    undisturbed = [record["seconds"] for record in scan(whole)]
    records = scan(killed, n_kills, undisturbed[0], float(np.median(np.diff(undisturbed))))
    assert files(killed) == files(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}{end}" for name in ("killed.zarr", "whole.zarr") for end in ("", ".log")
    )
    assert len({record["pid"] for record in records}) > n_kills / 3  # a third of the kills came in the midst of work
    assert all(record["step"] not in record["before"] for record in records)
    # Measured twice is what was measured but not yet written when the kill came: once an attempt at most.
    repeated = sum(n - 1 for n in Counter(record["step"] for record in records).values())
    assert repeated <= n_kills


def test_a_store_takes_one_scan_at_a_time(run_path, tmp_path):
    run, store = open_run(run_path), tmp_path / "scan.zarr"
    scan_run(run, store=store, n_evaluation=4, progress=False)
    stored = open_history(store)
    with HistoryStore(store, stored.attrs, xr.Dataset()):
        with pytest.raises(HistoryError, match="another process is scanning into"):
            scan_run(run, store=store, n_evaluation=4, progress=False)
    scan_run(run, store=store, n_evaluation=4, progress=False)  # let go


def test_stores_that_begin_at_once_in_one_folder_take_turns(run_path, tmp_path):
    program = (
        "import sys; from inductionkit import open_run, scan_run;"
        "scan_run(open_run(sys.argv[1]), store=sys.argv[2], n_evaluation=4, progress=False)"
    )
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # as the other does while it lays out its store
        process = subprocess.Popen([sys.executable, "-c", program, run_path, tmp_path / "scan.zarr"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(12)
        assert not (tmp_path / "scan.zarr").exists()
    finally:
        os.close(descriptor)
    assert process.wait(120) == 0
    assert open_history(tmp_path / "scan.zarr").sizes["step"] == len(open_run(run_path).steps)


def test_a_write_that_fails_is_told_and_gone_on_from(run_path, tmp_path, monkeypatch):
    run, store = open_run(run_path), tmp_path / "scan.zarr"
    write, marks = zarr.Array.__setitem__, []

    def full(self, index, value):
        if self.basename == "scanned" and np.any(value):
            marks.append(index)
            if len(marks) == 2:  # of the second checkpoint
                raise OSError(28, "No space left on device")
        write(self, index, value)

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(HistoryError, match=r"step \d+ could not be written .*No space left.*goes on from there"):
        scan_run(run, store=store, n_evaluation=4, progress=False)
    monkeypatch.undo()
    assert open_history(store).sizes["step"] == 1
    went_on = scan_run(run, store=store, n_evaluation=4, progress=False)
    xr.testing.assert_identical(went_on, scan_run(run, store=tmp_path / "new.zarr", n_evaluation=4, progress=False))


@pytest.fixture
def damaged(run_path, tmp_path):
    """The run with a flipped byte in a checkpoint in its middle."""
    copy = tmp_path / "damaged"
    subprocess.run(["cp", "-r", run_path, copy], check=True)
    file = sorted((copy / "checkpoints").iterdir())[3]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return open_run(copy)


def test_a_damaged_checkpoint_stops_the_scan_or_is_skipped(damaged, tmp_path):
    with pytest.raises(RunError, match=r"(?i)sha-?256|differs"):
        scan_run(damaged, store=tmp_path / "scan.zarr", n_evaluation=4, progress=False)
    assert open_history(tmp_path / "scan.zarr").sizes["step"] == 3
    for store in (tmp_path / "scan.zarr", None):
        skipping = scan_run(damaged, store=store, n_evaluation=4, on_error="skip", progress=False)
        assert skipping["step"].values.tolist() == [step for i, step in enumerate(damaged.steps) if i != 3]
        assert list(json.loads(skipping.attrs["skipped"])) == [str(damaged.steps[3])]


def test_a_store_by_url(run_path):
    run = open_run(run_path)
    stored = scan_run(run, store="memory://somewhere/scan.zarr", n_evaluation=4, progress=False)
    again = scan_run(run, store="memory://somewhere/scan.zarr", n_evaluation=4, progress=False)
    xr.testing.assert_identical(stored, again)
    xr.testing.assert_identical(open_history("memory://somewhere/scan.zarr"), stored)
    with pytest.raises(HistoryError, match="other settings"):
        scan_run(run, store="memory://somewhere/scan.zarr", n_evaluation=5, progress=False)
    with pytest.raises(HistoryError, match="not a Zarr store"):
        open_history("memory://nowhere/scan.zarr")


class DiesOnce(CheckpointTask):
    """Kills the worker that measures the third checkpoint, the first time."""

    def read(self, step):
        mark = Path(os.environ["INDUCTIONKIT_TEST_MARK"])
        if step == self.run.steps[2] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(step)


@pytest.mark.parametrize("kind", ["restarting", "plain"])
def test_a_worker_that_dies_costs_a_new_attempt(kind, run_path, tmp_path, monkeypatch):
    run = open_run(run_path)
    expected = scan_run(run, n_evaluation=4, progress=False)
    monkeypatch.setenv("INDUCTIONKIT_TEST_MARK", str(tmp_path / "died"))
    monkeypatch.setattr("inductionkit.scan.engine.CheckpointTask", DiesOnce)
    pool = RestartingPool(2) if kind == "restarting" else ProcessPoolExecutor(2, get_context("spawn"))
    told = pytest.warns(RuntimeWarning, match="the executor broke") if kind == "plain" else nullcontext()
    with pool, told:
        found = scan_run(run, n_evaluation=4, executor=pool, progress=False)
    assert (tmp_path / "died").exists()
    assert found["step"].values.tolist() == run.steps
    for name in ("loss", "prefix_matching", "copying"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


FULL_DISK = """
import subprocess, sys
from pathlib import Path
from inductionkit import open_run, scan_run
from inductionkit.errors import HistoryError
from inductionkit.history import history_steps

disk, run = Path(sys.argv[1]), open_run(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=True)
try:
    scan_run(run, store=disk / "scan.zarr", n_evaluation=4, progress=False)
except HistoryError as error:
    print(error)
subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
scanned = len(history_steps(disk / "scan.zarr"))
scan_run(run, store=disk / "scan.zarr", n_evaluation=4, progress=False)
print(scanned)
subprocess.run(["cp", "-r", disk / "scan.zarr", sys.argv[3]], check=True)
"""
IN_OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*IN_OWN_MOUNTS, "true"], capture_output=True).returncode != 0,
    reason="this system lets nobody mount a small disk of their own",
)
def test_a_full_disk(run_path, tmp_path):
    (tmp_path / "disk").mkdir()
    command = [*IN_OWN_MOUNTS, sys.executable, "-c", FULL_DISK, tmp_path / "disk", run_path, tmp_path / "kept.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told, n_scanned = done.stdout.strip().splitlines()
    assert "could not be written" in told and "No space left" in told and "goes on from there" in told
    assert 0 < int(n_scanned) < 8
    scan_run(open_run(run_path), store=tmp_path / "whole.zarr", n_evaluation=4, progress=False)
    assert files(tmp_path / "kept.zarr") == files(tmp_path / "whole.zarr")


def test_ctrl_c_in_the_middle(run_of_40, tmp_path):
    store = tmp_path / "scan.zarr"
    # The interruption must reach the caller. What status Python gives to one that nobody catches depends on what
    # other packages do at exit, so the program catches it and says so by a status of its own.
    program = (
        "import sys; from inductionkit import open_run, scan_run\n"
        "try: scan_run(open_run(sys.argv[1]), store=sys.argv[2], n_evaluation=4, progress=False)\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, run_of_40, store],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells have it ignored in the background
    )
    while process.poll() is None and not history_steps(store):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert 1 <= open_history(store).sizes["step"] < 40
    for path in (store, tmp_path / "whole.zarr"):
        scan_run(open_run(run_of_40), store=path, n_evaluation=4, progress=False)
    assert files(store) == files(tmp_path / "whole.zarr")


def test_a_source_that_vanishes_is_told_and_gone_on_from(run_path, tmp_path, monkeypatch):
    copy, away, store = tmp_path / "run", tmp_path / "away", tmp_path / "scan.zarr"
    shutil.copytree(run_path, copy)
    run, measure, measured = open_run(copy), checkpoints.measure_all, []

    def vanishing(*arguments):
        measured.append(1)
        if len(measured) == 3:
            (copy / "checkpoints").rename(away)
        return measure(*arguments)

    monkeypatch.setattr(checkpoints, "measure_all", vanishing)
    with pytest.raises(RunError, match=r"step_\d+.safetensors"):
        scan_run(run, store=store, n_evaluation=4, n_nulls=0, progress=False)
    monkeypatch.undo()
    n_scanned = open_history(store).sizes["step"]
    assert 3 <= n_scanned < len(run.steps)
    skipping = scan_run(run, store=store, n_evaluation=4, n_nulls=0, on_error="skip", progress=False)
    assert len(json.loads(skipping.attrs["skipped"])) == len(run.steps) - n_scanned
    away.rename(copy / "checkpoints")
    whole = scan_run(run, store=store, n_evaluation=4, n_nulls=0, progress=False)
    xr.testing.assert_identical(whole, scan_run(run, store=tmp_path / "b", n_evaluation=4, n_nulls=0, progress=False))


def test_dask_workers_on_a_local_cluster(run_path, tmp_path):
    from distributed import Client, LocalCluster

    run = open_run(run_path)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2 and os.getpid() not in pids
        found = scan_run(run, store=tmp_path / "a", n_evaluation=4, executor=client.get_executor(), progress=False)
        again = scan_run(run, store=tmp_path / "a", n_evaluation=4, executor=client.get_executor(), progress=False)
    expected = scan_run(run, store=tmp_path / "b", n_evaluation=4, progress=False)
    xr.testing.assert_identical(again, found)
    for name in expected.data_vars:
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)
