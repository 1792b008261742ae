"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import inductionkit as ik
from inductionkit.history import save_history
from inductionkit.testing import synthetic_history

COMMAND = str(Path(sys.executable).parent / "inductionkit")


def inductionkit(*arguments: object):
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories")
    for name, window in (("two", (8e6, 2e7)), ("one", None)):
        save_history(synthetic_history(window=window), folder / f"{name}.zarr.zip")
    return folder


def test_demo_shows_the_phase_change(tmp_path):
    done = inductionkit("demo", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Phase change from" in done.stdout
    assert "The one-layer control: No phase change" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Measured on 9 checkpoints, steps 0 to 3,906; 64 held-out examples; in-context-learning score:" in said
    assert "-0.43 ± 0.08 nats (256 held-out examples)" in said, "of the bundled history"
    assert (tmp_path / "out" / "phase.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "two-layer.zarr").is_dir()


def test_scan_then_explore(run_path, tmp_path):
    done = inductionkit("scan", run_path, "--circuit", "--store", tmp_path / "scan.zarr")
    assert done.returncode == 0, done.stderr
    assert "edge_share" in ik.open_history(tmp_path / "scan.zarr")
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


def test_a_commands_results_are_json_and_nothing_else_on_stdout(stored, run_path, tmp_path):
    done = inductionkit("phase", stored / "two.zarr.zip", stored / "one.zarr.zip", "--json")
    found = json.loads(done.stdout)
    expected = ik.find_phase_change(ik.open_history(stored / "two.zarr.zip"))
    assert found["two"]["start"] == expected.start
    assert found["two"]["heads"] == [list(head) for head in expected.heads]
    assert found["one"]["found"] is False and found["one"]["icl_before"] is None, "what was not measured is null"

    store = tmp_path / "scan.zarr"
    plan = json.loads(inductionkit("scan", run_path, "--store", store, "--dry-run", "--json").stdout)
    assert plan["n_scanned"] == 0 and plan["read_bytes"] > 0 and not store.exists()
    done = inductionkit("scan", run_path, "--store", store, "--json")
    assert json.loads(done.stdout)["phase_change"]["found"] is False
    assert "history of" in done.stderr, "progress goes to stderr"
    page = json.loads(inductionkit("explore", store, "-o", tmp_path / "p.html", "--no-show", "--json").stdout)["page"]
    assert Path(page).is_file()


def test_a_report_of_several_histories(stored, tmp_path):
    done = inductionkit("report", stored / "two.zarr.zip", stored / "one.zarr.zip", "-o", tmp_path / "r.html")
    assert done.returncode == 0 and done.stdout == f"wrote {tmp_path / 'r.html'}\n"
    assert "Phase change: two, one" in (tmp_path / "r.html").read_text()
    done = inductionkit("report", stored / "two.zarr.zip", "-o", tmp_path / "r.pdf")
    assert done.returncode == 1 and "must end in .html or .md" in done.stderr and not done.stdout


def test_histories_named_alike_are_told_apart_by_their_paths(stored, tmp_path):
    save_history(synthetic_history(), tmp_path / "two.zarr.zip")
    found = json.loads(inductionkit("phase", stored / "two.zarr.zip", tmp_path / "two.zarr.zip", "--json").stdout)
    assert list(found) == [str(stored / "two.zarr.zip"), str(tmp_path / "two.zarr.zip")]


def test_exit_status_tells_errors_from_misuse_and_interruption(run_path, tmp_path):
    assert inductionkit("--version").stdout == f"{ik.__version__}\n"
    assert inductionkit("--help").returncode == 0
    assert inductionkit("phase").returncode == inductionkit("no-such-command").returncode == 2
    training = subprocess.Popen(
        [COMMAND, "train", "two-layer", "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells have it ignored in the background
    )
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 2:  # within training, not while torch is imported
        assert training.poll() is None
        time.sleep(0.1)
    training.send_signal(signal.SIGINT)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 130 and b"Traceback" not in said


def test_a_device_that_is_not_there_is_told(tmp_path):
    done = subprocess.run(
        [COMMAND, "scan", "bundled", "--store", str(tmp_path / "scan.zarr"), "--device", "nowhere"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "error: torch cannot use the device 'nowhere'" in done.stderr


def test_every_command_and_option_says_what_it_does():
    import typer

    commands = typer.main.get_command(__import__("inductionkit.cli", fromlist=["app"]).app).commands
    assert set(commands) == {"demo", "train", "scan", "phase", "report", "explore"}
    for name, command in commands.items():
        assert command.help, name
        assert all(getattr(option, "help", None) for option in command.params), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_shells(shell):
    done = subprocess.run(
        [COMMAND], capture_output=True, text=True, env={"_INDUCTIONKIT_COMPLETE": f"source_{shell}", "PATH": "/usr/bin"}
    )
    assert done.returncode == 0 and "_INDUCTIONKIT_COMPLETE" in done.stdout
