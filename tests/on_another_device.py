"""Models on another device, which `DEVICE` names: what is measured there is what the CPU measures.

`test_devices.py` runs this in a process of its own, on the stand-in `elsewhere` and on a GPU where there is one.
"""

from __future__ import annotations

import copy
import os

import elsewhere
import numpy as np
import pytest
import torch
import xarray as xr
from architectures import random_hugging_face_model, save
from checkpoint_folders import TOKENS
from conftest import random_model

import inductionkit as ik
from inductionkit import open_run, scan_heads, scan_run
from inductionkit.ablation import compare_with_random_heads, scan_ablations
from inductionkit.errors import InductionKitError, ModelError
from inductionkit.lens import Lens, open_model
from inductionkit.scan.behaviours import repeated_tokens_behaviour, scan_behaviours
from inductionkit.scan.fuzzy import scan_fuzzy
from inductionkit.scores.fuzzy import token_class_prompts
from inductionkit.system.devices import moved
from inductionkit.train import train
from inductionkit.train.loop import begin
from inductionkit.train.run_folder import RunFolder
from inductionkit.widgets.attention_view import _patterns

DEVICE = os.environ.get("DEVICE", elsewhere.NAME)
# Positions that are learned, rotary and ALiBi's; grouped queries, capped scores, one key for all queries.
KINDS = ["gpt2", "gpt_neox", "llama", "gemma2", "bloom", "gpt_bigcode"]


@pytest.fixture(autouse=True, scope="module")
def registered():
    """Whoever only imports this module, as a search for doctests does, keeps a process without the device."""
    if DEVICE == elsewhere.NAME:
        elsewhere.register()


def copy_on(device: str, model):
    return moved(copy.deepcopy(model), device)


def assert_equal(there: xr.Dataset, here: xr.Dataset) -> None:
    assert there.data_vars.keys() == here.data_vars.keys()
    for name in here.data_vars:
        if here[name].dtype.kind == "f":
            # Copying divides a head's sums, which on some tokens nearly cancel.
            np.testing.assert_allclose(there[name], here[name], atol=1e-4, rtol=1e-4, err_msg=name)
        elif here[name].dtype.kind == "u":
            assert abs(there[name].astype(int) - here[name].astype(int)).max() <= 1, name
        else:
            np.testing.assert_array_equal(there[name], here[name], err_msg=name)


def assert_all_on(model, device: str) -> None:
    assert {parameter.device.type for parameter in model.parameters()} == {torch.device(device).type}


@pytest.mark.parametrize("changes", [{}, {"d_mlp": 32}, {"smeared_keys": True}], ids=["attention", "mlps", "smeared"])
def test_head_scores_are_those_of_the_cpu(changes):
    model, text = random_model(**changes), TOKENS % 60
    there = copy_on(DEVICE, model)
    effective = "d_mlp" in changes
    arguments = dict(scores="all", n_nulls=1, effective_embedding=effective, progress=False)
    assert_equal(scan_heads(there, held_out=text, **arguments), scan_heads(model, held_out=text, **arguments))
    assert_all_on(there, DEVICE)
    # Tokens may lie on the model's device, or be NumPy's.
    assert_equal(
        scan_heads(there, held_out=text.to(DEVICE), progress=False),
        scan_heads(model, held_out=text.numpy(), progress=False),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_models_are_scored_where_they_are(kind):
    model = random_hugging_face_model(kind)
    here = scan_heads(model, held_out=TOKENS, scores="all", progress=False)
    assert_all_on(model.to(DEVICE), DEVICE)
    assert_equal(scan_heads(model, held_out=TOKENS, scores="all", progress=False), here)
    assert Lens(model).device.type == torch.device(DEVICE).type
    assert_all_on(model, DEVICE)


@pytest.mark.parametrize("kind", ["full", "pattern_preserving"])
@pytest.mark.parametrize("name", ["native", *KINDS])
def test_ablations_are_those_of_the_cpu(name, kind):
    model = random_model() if name == "native" else open_model(random_hugging_face_model(name))
    there = copy_on(DEVICE, model)
    heads = [(0, 0), [(0, 1), (1, 2)]]
    for tokens in (TOKENS % 60, (TOKENS % 60).to(DEVICE)):
        assert_equal(
            scan_ablations(there, tokens, heads, kind, progress=False),
            scan_ablations(model, TOKENS % 60, heads, kind, progress=False),
        )
    assert_all_on(there, DEVICE)


def test_ablations_against_random_heads():
    model = random_model(n_heads=4, d_head=6)
    seen = [
        compare_with_random_heads(each, TOKENS % 60, [(1, 0)], n_draws=3, progress=False)
        for each in (copy_on(DEVICE, model), model)
    ]
    assert_equal(*seen)


def test_fuzzy_induction():
    model = random_model()
    prompts = token_class_prompts(60, 0, classes=[[token, token + 1] for token in range(1, 59, 2)], n_distinct=20)
    assert_equal(scan_fuzzy(copy_on(DEVICE, model), prompts), scan_fuzzy(model, prompts))


def test_a_run_is_scanned_where_it_is_sent(run_path, capsys):
    run = open_run(run_path)
    there = run.to(DEVICE)
    assert run.device is None and there.steps == run.steps
    assert_all_on(there.load_model(), DEVICE)
    assert_equal(scan_run(there, progress=False), scan_run(run, progress=False))
    assert_equal(
        scan_ablations(there, n_evaluation=4, progress=False), scan_ablations(run, n_evaluation=4, progress=False)
    )
    behaviours = [repeated_tokens_behaviour(run.model["d_vocab"], 0)]
    assert_equal(scan_behaviours(there, behaviours, progress=False), scan_behaviours(run, behaviours, progress=False))
    assert capsys.readouterr().out == ""


def test_a_run_of_ones_own_model_is_scanned_where_that_is():
    model, other = random_model(), random_model(seed=1)
    text = np.random.default_rng(0).integers(1, 60, (16, 64))
    histories = []
    for where in (DEVICE, "cpu"):
        states = [(step, copy_on(where, each).state_dict) for step, each in ((0, model), (1, other))]
        run = open_run(states, model=copy_on(where, model))
        assert_all_on(run.standing_model(), where)
        histories.append(scan_run(run, held_out=text, n_nulls=0, progress=False))
    assert_equal(*histories)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_in_hugging_face_layout_are_scanned_where_the_run_is_sent(kind, tmp_path):
    for step in (0, 1):
        save(random_hugging_face_model(kind, step), tmp_path / f"step{step}")
    run = open_run(tmp_path)
    text = np.random.default_rng(0).integers(4, 96, (16, 64))
    seen = [scan_run(each, held_out=text, n_nulls=0, progress=False) for each in (run.to(DEVICE), run)]
    assert_equal(*seen)


def test_training_and_watching(recipe, tmp_path):
    """Also over an interruption; the watch measures on the model's device."""
    measured_on = set()
    watches = {}

    class Stop(Exception):
        pass

    def watched(where: str, stop_at: int | None):
        run = ik.open_run(tmp_path / where)
        watch = watches.setdefault(where, ik.TrainingWatch(run.held_out(), every=20, tokens_per_step=416))

        def on_step(model, step, tokens_seen, loss):
            if watch(model, step, tokens_seen, loss):
                measured_on.add(watch._beside.lens.device.type)
            if step == stop_at:
                raise Stop

        return on_step

    for where in ("cpu", DEVICE):
        begin(recipe, tmp_path / where)
        if where == DEVICE:
            with pytest.raises(Stop):
                train(recipe, tmp_path / where, progress=False, on_step=watched(where, 25), device=where)
        train(recipe, tmp_path / where, progress=False, on_step=watched(where, None), device=where)
    assert measured_on == {"cpu", torch.device(DEVICE).type}
    one, other = (RunFolder.open(tmp_path / where) for where in ("cpu", DEVICE))
    for first, second in zip(one.manifest["checkpoints"], other.manifest["checkpoints"], strict=True):
        weights = other.read_checkpoint(second)
        for name, weight in one.read_checkpoint(first).items():
            if name.endswith("attn.k.bias"):
                continue  # softmax cancels it: its gradient is rounding alone, which AdamW makes as large as any
            np.testing.assert_allclose(weights[name], weight, atol=1e-3, err_msg=name)
    assert_equal(*(watches[where].history.drop_vars(["training_loss", "weights_digest"]) for where in (DEVICE, "cpu")))


def test_a_device_that_is_not_there_is_refused(run_path, recipe, tmp_path):
    run = open_run(run_path)
    with pytest.raises(InductionKitError, match="torch cannot use the device 'nowhere'"):
        run.to("nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(InductionKitError, match="torch cannot use the device 'cuda'"):
            run.to("cuda")
    with pytest.raises(InductionKitError, match="torch cannot use the device 'nowhere'"):
        train(recipe, tmp_path / "run", progress=False, device="nowhere")
    assert not (tmp_path / "run").exists()


def test_attention_is_shown():
    model = random_model()
    there, here = (_patterns(Lens(each), TOKENS[:1] % 60, None) for each in (copy_on(DEVICE, model), model))
    assert there.keys() == here.keys()
    for head, levels in here.items():
        assert abs(there[head].astype(int) - levels).max() <= 1


def test_a_model_on_two_devices_is_refused():
    model = random_model()
    model.blocks[1].to(torch.device(DEVICE))
    with pytest.raises(ModelError, match=f"on several devices, its .* on {DEVICE}.* on cpu; move it to one"):
        scan_heads(model, progress=False)
