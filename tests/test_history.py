"""Scanning a run into a store: resumable, unmixed, the same as without a store."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import slow_scores
import xarray as xr

from inductionkit import induction_heads, open_history, open_run, scan_heads, scan_run
from inductionkit.errors import HistoryError, ModelError
from inductionkit.history import VARIABLES, save_history, validate
from inductionkit.lens import Lens
from inductionkit.scan import checkpoints
from inductionkit.scan.heads import DEFAULT_SCORES
from inductionkit.scores.icl import icl_score, icl_settings
from inductionkit.scores.prompts import PromptSettings
from inductionkit.scores.score import SCORES
from inductionkit.testing import synthetic_history


@pytest.fixture(scope="module")
def run(run_path):
    return open_run(run_path)


@pytest.fixture(scope="module")
def history(run):
    return scan_run(run, n_evaluation=8, n_nulls=1, scores="all", progress=False)


def test_a_history_follows_the_schema(history, run):
    validate(history, (*VARIABLES, *SCORES))
    assert history["step"].values.tolist() == run.steps
    assert history.attrs["icl_late"] == round(500 / 512 * 104)
    assert history["prefix_matching"].attrs["units"] == "1"
    assert all(np.isfinite(history[name]).all() for name in (*DEFAULT_SCORES, "loss", "icl_score", "loss_by_position"))


def test_it_agrees_with_scanning_one_model(history, run):
    import torch

    held_out = run.held_out()
    text = torch.from_numpy(held_out[[len(held_out) * i // 8 for i in range(8)]].astype(np.int64))
    model = run.load_model(40)
    scores = scan_heads(model, text)
    for name in DEFAULT_SCORES:
        np.testing.assert_allclose(history[name].sel(step=40), scores[name], atol=1e-6)
    np.testing.assert_allclose(history["loss"].sel(step=40), Lens(model).token_losses(text).mean(), atol=1e-5)
    patterns = []
    tokens = torch.tensor([[int(t) for t in run.held_out()[0, :64]]])
    Lens(model).visit_attention(tokens, lambda layer, pattern, values: patterns.append(pattern[0].numpy()))
    shown = history["pattern"].sel(step=40, text="held-out text").values[..., :64, :64] / 255
    np.testing.assert_allclose(shown, patterns, atol=0.5 / 255 + 1e-6)


def test_ov_lift_of_each_token_equals_the_slow_one(history, run):
    state = run.checkpoint(40).read()
    tokens = run.held_out()[0, :64].astype(int)
    _, written, _, sigma = slow_scores.run(state, tokens, run.model["n_heads"])
    lifts = np.array(
        [
            # Attending to one token alone, "copying" is the lift of that token.
            [slow_scores.copying_terms(np.eye(64), head, tokens, state, np.ones(64))[2] for head in layer]
            for layer in written
        ]
    ) * [np.mean(1 / sigma[key:]) for key in range(64)]  # the final norm divides at the queries that see the key
    assert np.abs(lifts).max() > 0.01
    found = history["ov_lift"].sel(step=40, text="held-out text")
    np.testing.assert_allclose(found[..., :64], lifts, atol=1e-4)
    assert np.isnan(found[..., 64:]).all()


def test_a_store_holds_the_same(history, run, tmp_path):
    stored = scan_run(run, store=tmp_path / "scan.zarr", n_evaluation=8, n_nulls=1, scores="all", progress=False)
    xr.testing.assert_identical(stored, history)
    xr.testing.assert_identical(open_history(tmp_path / "scan.zarr"), history)
    save_history(history, tmp_path / "scan.zarr.zip")
    xr.testing.assert_identical(open_history(tmp_path / "scan.zarr.zip"), history)


def test_an_interrupted_scan_goes_on(history, run, tmp_path, monkeypatch):
    store, original, scanned = tmp_path / "scan.zarr", checkpoints.measure_all, []

    def interrupted(*arguments):
        if len(scanned) == 3:
            raise KeyboardInterrupt
        scanned.append(1)
        return original(*arguments)

    monkeypatch.setattr(checkpoints, "measure_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan_run(run, store=store, n_evaluation=8, n_nulls=1, scores="all", progress=False)
    assert open_history(store).sizes["step"] == 3
    monkeypatch.undo()
    again = []
    monkeypatch.setattr(checkpoints, "measure_all", lambda *arguments: again.append(1) or original(*arguments))
    xr.testing.assert_identical(
        scan_run(run, store=store, n_evaluation=8, n_nulls=1, scores="all", progress=False), history
    )
    assert len(again) == len(run.steps) - 3


def test_other_settings_do_not_mix(history, run, tmp_path):
    store = tmp_path / "scan.zarr"
    scan_run(run, store=store, n_evaluation=8, n_nulls=1, scores="all", progress=False)
    with pytest.raises(HistoryError, match="n_evaluation: stored 8, now 4"):
        scan_run(run, store=store, n_evaluation=4, n_nulls=1, progress=False)
    with pytest.raises(HistoryError, match="prompts_seed: stored 0, now 1"):
        scan_run(run, store=store, n_evaluation=8, prompts=PromptSettings(seed=1), n_nulls=1, progress=False)
    other = dataclasses.replace(run, name="other")
    with pytest.raises(HistoryError, match="model: stored 'tiny', now 'other'"):
        scan_run(other, store=store, n_evaluation=8, n_nulls=1, scores="all", progress=False)


def test_a_text_longer_than_the_context(run):
    with pytest.raises(ModelError, match="text 'long' has 105 tokens; the model's context takes 1 to 104"):
        scan_run(run, texts={"long": [1] * 105}, progress=False)


def test_stores_that_are_none(tmp_path, run):
    with pytest.raises(HistoryError, match="there is no history at"):
        open_history(tmp_path / "none.zarr")
    (tmp_path / "file.zarr").mkdir()
    with pytest.raises(HistoryError, match="not a Zarr store"):
        open_history(tmp_path / "file.zarr")
    xr.Dataset({"x": ("y", [1, 2])}).to_zarr(tmp_path / "other.zarr", zarr_format=2)
    with pytest.raises(HistoryError, match="not a history of inductionkit"):
        open_history(tmp_path / "other.zarr")
    shutil.rmtree(tmp_path / "other.zarr")


@pytest.mark.parametrize("zipped", [False, True])
def test_pickled_objects_are_refused_unread(tmp_path, zipped):
    """Zarr's format 2 can name the pickle codec; opening a stranger's history must not get as far as its chunks."""
    path = tmp_path / "hostile.zarr"
    synthetic_history(n_steps=4).to_zarr(path, zarr_format=2, consolidated=False)
    array = json.loads((path / "loss" / ".zarray").read_text())
    array |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}
    (path / "loss" / ".zarray").write_text(json.dumps(array).replace("pickle", "\\u0070ickle"))
    if zipped:
        path = Path(shutil.make_archive(str(tmp_path / "hostile"), "zip", path))
    with pytest.raises(HistoryError, match="pickled objects"):
        open_history(path)


def test_validation_names_what_is_wrong():
    history = synthetic_history()
    with pytest.raises(HistoryError, match="not list"):
        validate([])
    with pytest.raises(HistoryError, match="lacks loss"):
        validate(history.drop_vars("loss"), ("loss",))
    with pytest.raises(HistoryError, match="expected"):
        validate(history.assign(loss=history["icl_score"].rename(step="time")))
    with pytest.raises(HistoryError, match="must increase"):
        validate(history.isel(step=[1, 0]))
    with pytest.raises(HistoryError, match="no checkpoints"):
        validate(history.isel(step=[]))


def test_icl_score_is_late_minus_early():
    by_position = np.arange(1.0, 512.0)
    assert icl_settings(512) == {"icl_early": 50, "icl_late": 500, "icl_half_width": 10}
    assert icl_score(by_position, 50, 500, 0) == 450.0
    assert icl_score(by_position, 50, 500, 10) == pytest.approx(450.0)
    for n_ctx in (8, 64, 104, 256, 2048):
        s = icl_settings(n_ctx)
        assert 1 <= s["icl_early"] - s["icl_half_width"] and s["icl_late"] + s["icl_half_width"] <= n_ctx - 1


def test_induction_heads_meet_both_properties():
    at_end = synthetic_history().isel(step=-1)
    heads = induction_heads(at_end)
    assert heads.index.tolist() == [(1, 0), (1, 1)]
    assert induction_heads(at_end, min_prefix_matching=0.8).index.tolist() == [(1, 0)]
    assert induction_heads(synthetic_history().isel(step=0)).empty
    only_matching = at_end.assign(copying=at_end["copying"] * 0 + 4 / 26 - 1)
    assert induction_heads(only_matching).empty
    with pytest.raises(HistoryError, match="choose one step"):
        induction_heads(synthetic_history())
    with pytest.raises(HistoryError, match="lack copying"):
        induction_heads(at_end.drop_vars("copying"))
