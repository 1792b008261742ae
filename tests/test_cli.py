"""The command line, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from inductionkit.history import save_history
from inductionkit.testing import synthetic_history


def inductionkit(*arguments: object):
    command = [str(Path(sys.executable).parent / "inductionkit"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_demo_shows_the_phase_change(tmp_path):
    done = inductionkit("demo", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Phase change from" in done.stdout
    assert "The one-layer control: No phase change" in done.stdout
    assert (tmp_path / "out" / "phase.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "two-layer.zarr").is_dir()


def test_scan_then_explore(run_path, tmp_path):
    done = inductionkit("scan", run_path, "--store", tmp_path / "scan.zarr")
    assert done.returncode == 0, done.stderr
    assert "No phase change: no head's prefix matching rises" in done.stdout
    done = inductionkit("explore", tmp_path / "scan.zarr", "--out", tmp_path / "page.html", "--no-show")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").is_file()


def test_explore_opens_a_zipped_history(tmp_path):
    save_history(synthetic_history(), tmp_path / "h.zarr.zip")
    done = inductionkit("explore", tmp_path / "h.zarr.zip", "-o", tmp_path / "page.html", "--no-show")
    assert done.returncode == 0 and (tmp_path / "page.html").is_file()


def test_errors_are_one_line_and_exit_status_one(tmp_path):
    done = inductionkit("scan", tmp_path / "none", "--store", tmp_path / "s.zarr")
    assert done.returncode == 1
    assert "error: there is no run at" in done.stderr and "Traceback" not in done.stderr
    done = inductionkit("train", "no-such-recipe", "--out", tmp_path / "r")
    assert done.returncode == 1 and "neither a file nor one of" in done.stderr
