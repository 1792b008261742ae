"""Runs on disk: damage is found and named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from inductionkit.errors import InductionKitError, ModelError, RunError
from inductionkit.runs import export_run, open_run


@pytest.fixture
def copy(run_path, tmp_path):
    shutil.copytree(run_path, tmp_path / "copy")
    return tmp_path / "copy"


def edit_manifest(path, change):
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_tells_what_it_is(run_path):
    run = open_run(run_path)
    assert repr(run).startswith("Run(tiny: 2 layers x 2 heads, attention-only; ")
    assert run.checkpoint(40).tokens_seen == 40 * 4 * 104
    with pytest.raises(RunError, match="no checkpoint of step 7; it has"):
        run.checkpoint(7)


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "the folder does not exist"), ("bundled:three-layer", "no bundled run 'three-layer'")],
)
def test_a_missing_run(source, message):
    with pytest.raises(RunError, match=message):
        open_run(source)


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(RunError, match=r"no manifest\.json"):
        open_run(tmp_path)


def test_a_truncated_checkpoint(copy):
    file = sorted((copy / "checkpoints").iterdir())[-1]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match="does not match the manifest's SHA-256: it was cut short or changed"):
        open_run(copy).load_model()


def test_a_checkpoint_that_is_gone(copy):
    sorted((copy / "checkpoints").iterdir())[-1].unlink()
    with pytest.raises(RunError, match="listed in the manifest but missing"):
        open_run(copy).load_model()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m.update(format="other"), RunError, "not the manifest of an inductionkit run"),
        (lambda m: m.update(format_version=9), RunError, "format version 9"),
        (lambda m: m.pop("model"), RunError, "lacks model"),
        (lambda m: m["checkpoints"].clear(), RunError, "no checkpoints yet"),
        (lambda m: m["checkpoints"].reverse(), RunError, "out of order"),
        (lambda m: m["checkpoints"][-1].pop("sha256"), RunError, "lacks sha256"),
        (lambda m: m["checkpoints"][-1].update(file="../../secret"), RunError, "outside the run"),
        (lambda m: m["model"].update(d_model=32), ModelError, r"embed\.weight|ln1|attn"),
        (
            lambda m: m["model"].update(n_layers=1),
            ModelError,
            r"not in the model: blocks\.1\.attn\.\S+ \(\d+.* and \d+ more",
        ),
    ],
)
def test_a_manifest_that_does_not_match(copy, change, error, message):
    edit_manifest(copy, change)
    with pytest.raises(error, match=message) as raised:
        open_run(copy).load_model()
    assert isinstance(raised.value, InductionKitError)


def test_a_manifest_that_is_no_json(copy):
    (copy / "manifest.json").write_text('{"format": ')
    with pytest.raises(RunError, match="not readable JSON"):
        open_run(copy)


def test_export_keeps_a_selection_in_half_precision(run_path, tmp_path):
    full = open_run(run_path)
    export_run(run_path, tmp_path / "small", steps=[0, 40], n_held_out=5)
    small = open_run(tmp_path / "small")
    assert small.steps == [0, 40] and small.log() == full.log() and len(small.held_out()) == 5
    tokens = torch.from_numpy(small.held_out().astype(np.int64))
    with torch.no_grad():
        torch.testing.assert_close(small.load_model()(tokens), full.load_model()(tokens), atol=2e-2, rtol=0)
    with pytest.raises(RunError, match="not checkpoints"):
        export_run(run_path, tmp_path / "other", steps=[3], n_held_out=5)
    with pytest.raises(RunError, match="holds a run already"):
        export_run(run_path, tmp_path / "small", steps=[0], n_held_out=5)
