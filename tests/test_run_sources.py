"""Runs in folders and in lists, their names, logs and the choice of checkpoints."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import threading

import numpy as np
import pytest
import torch
from architectures import D_VOCAB
from checkpoint_folders import LAYOUTS, booted, logits, save_checkpoint
from conftest import random_model
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from inductionkit.errors import RunError
from inductionkit.runs import choose, open_run
from inductionkit.runs.names import read_names

pytest_plugins = ("run_fixtures",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_weights(layout, steps, tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoint-500", seed=500)
    LAYOUTS[layout](folder)
    weights = open_run(tmp_path).checkpoint(500).read()
    expected = load_file(steps / "step500" / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    torch.testing.assert_close(logits(open_run(tmp_path).load_model()), logits(booted(steps / "step500")))


def test_a_folder_tells_what_it_is(steps):
    run = open_run(steps, tokens_per_step=2_097_152)
    assert repr(run) == (
        f"Run({steps.name}: GPTNeoXForCausalLM; 3 checkpoints, steps 0 to 1,000, 0.00M to 2097.15M tokens)"
    )
    assert [run.model[name] for name in ("n_layers", "n_heads", "n_ctx", "d_vocab")] == [3, 3, 128, D_VOCAB]
    assert run.held_out() is None and run.log() == []
    assert json.loads(run.tokenizer_json())["model"]["vocab"]["t5"] == 5
    assert [checkpoint.tokens_seen for checkpoint in open_run(steps).checkpoints] == [None] * 3


def test_a_single_model_is_a_run_of_one(tmp_path):
    folder = save_checkpoint(tmp_path / "model")
    (folder / "trainer_state.json").write_text('{"global_step": 70, "num_input_tokens_seen": 7000}')
    run = open_run(folder)
    assert [(entry.step, entry.tokens_seen) for entry in run.checkpoints] == [(70, 7000)]


def test_reading_ahead_touches_no_model(steps):
    run = open_run(steps)
    standing = run.load_model(0)
    read: list = []
    thread = threading.Thread(target=lambda: read.append(run.checkpoint(500).read()))
    before = logits(standing)
    thread.start()
    thread.join()
    assert torch.equal(logits(standing), before)
    run.checkpoint(500).load_into(standing, read[0])
    torch.testing.assert_close(logits(standing), logits(booted(steps / "step500")), atol=1e-6, rtol=0)


def test_what_was_read_stays_when_its_file_goes(steps, tmp_path):
    """Weights are in memory, not views of a mapped file."""
    folder = save_checkpoint(tmp_path / "step1")
    weights = open_run(tmp_path).checkpoint(1).read()
    file = folder / "model.safetensors"
    expected = load_file(file)["embed_out.weight"].clone()
    with open(file, "r+b") as opened:
        opened.seek(-file.stat().st_size // 2, os.SEEK_END)
        opened.write(bytes(file.stat().st_size // 2))
    assert torch.equal(weights["embed_out.weight"], expected)


def test_a_run_can_be_sent_to_a_worker(steps):
    run = pickle.loads(pickle.dumps(open_run(steps)))
    torch.testing.assert_close(logits(run.load_model(500)), logits(booted(steps / "step500")), atol=1e-6, rtol=0)


def test_what_is_no_run(tmp_path, steps):
    with pytest.raises(RunError, match=r"no manifest\.json of this project, no config\.json and no folders"):
        open_run(tmp_path)
    (tmp_path / "step1").mkdir()
    with pytest.raises(RunError, match=r"has a config\.json"):
        open_run(tmp_path)
    (tmp_path / "step1" / "config.json").write_text((steps / "step0" / "config.json").read_text())
    with pytest.raises(RunError, match=r"has no weights: seen \['config.json'\], looked for model.safetensors"):
        open_run(tmp_path).load_model()
    with pytest.raises(RunError, match="keep= does not go with"):
        open_run(steps, keep="none")


def test_a_list_of_loaders(steps):
    own = booted(steps / "step0")
    before = logits(own)
    pairs = [(step, lambda step=step: load_file(steps / f"step{step}" / "model.safetensors")) for step in (1000, 500)]
    run = open_run(pairs, model=own, tokens_per_step=100)
    assert [(entry.step, entry.tokens_seen) for entry in run.checkpoints] == [(500, 50_000), (1000, 100_000)]
    torch.testing.assert_close(logits(run.load_model(500)), logits(booted(steps / "step500")), atol=1e-6, rtol=0)
    assert torch.equal(logits(own), before) and run.model["n_layers"] == 3


def test_a_list_of_loaders_for_the_projects_own_model():
    models = {step: random_model(seed=step, d_vocab=D_VOCAB) for step in (1, 2)}
    run = open_run([(step, model.state_dict) for step, model in models.items()], model=models[1])
    torch.testing.assert_close(logits(run.load_model(2)), logits(models[2]))


def test_lists_that_are_none(steps):
    with pytest.raises(RunError, match="needs model="):
        open_run([(1, dict)])
    with pytest.raises(RunError, match="different steps"):
        open_run([(1, dict), (1, dict)], model=torch.nn.Linear(1, 1))
    with pytest.raises(RunError, match="a run is a folder"):
        open_run(7, model=torch.nn.Linear(1, 1))
    with pytest.raises(RunError, match="gave a list, not weights by name"):
        open_run([(1, list)], model=random_model()).load_model()


# Names, logs and choices


@pytest.mark.parametrize(
    ("name", "step", "tokens"),
    [
        ("step1000", 1000, None),
        ("checkpoint-500", 500, None),
        ("step1000-tokens4B", 1000, 4_000_000_000),
        ("stage1-step2000-tokens8.5B", 2000, 8_500_000_000),
        ("step_0000040", 40, None),
    ],
)
def test_names_of_the_field(name, step, tokens):
    assert [(entry.step, entry.tokens_seen) for entry in read_names([name])] == [(step, tokens)]


def test_other_names_are_left_out_and_patterns_bring_them_in():
    names = ["main", "v0", "stage2-step1000-tokens4B", "step10x", "step9"]
    assert [entry.step for entry in read_names(names)] == [9]
    assert [entry.step for entry in read_names(names, r"stage2-step(?P<step>\d+).*")] == [1000]
    assert read_names(["ckpt_5M"], r"ckpt_(?P<tokens>\w+)")[0].tokens_seen == 5_000_000
    with pytest.raises(RunError, match="both are step 7"):
        read_names(["step7", "checkpoint-7"])
    with pytest.raises(RunError, match=r"no group"):
        read_names(names, "step.*")
    with pytest.raises(RunError, match="not a regular expression"):
        read_names(names, "(")
    with pytest.raises(RunError, match="are not numbers"):
        read_names(names, r"(?P<step>main)")


LOGS = {
    "trainer_state.json": json.dumps(
        {
            "global_step": 1000,
            "log_history": [
                {"step": 500, "loss": 4.5, "num_input_tokens_seen": 64000},
                {"step": 1000, "loss": 4.0, "num_input_tokens_seen": 128000},
                {"step": 1000, "train_loss": 4.3, "train_runtime": 9.0},
            ],
        }
    ),
    "log.csv": "global_step,train/loss,tokens\n500,4.5,64000\n1000,4.0,128000\n",
    "log.jsonl": '{"step": 500, "loss": 4.5, "tokens_seen": 64000}\n'
    '{"step": 1000, "loss": 4, "tokens_seen": 128000}\n{"st',
}


@pytest.mark.parametrize("name", LOGS)
def test_loss_logs(name, tmp_path):
    save_checkpoint(tmp_path / "run" / "step1000")
    (tmp_path / "run" / name).write_text(LOGS[name])
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "run")
    (tmp_path / "elsewhere" / "run" / name).rename(tmp_path / "elsewhere" / name)
    found = open_run(tmp_path / "run")
    told = open_run(tmp_path / "elsewhere" / "run", log=tmp_path / "elsewhere" / name)
    for run in (found, told):
        assert [(entry["step"], entry["loss"], entry["tokens_seen"]) for entry in run.log()] == [
            (500, 4.5, 64000),
            (1000, 4.0, 128000),
        ]


def test_logs_that_cannot_be_read(steps, tmp_path):
    for name, content in {"log.txt": "", "log.jsonl": "[1]", "log.json": '{"log_history": [1]}'}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(RunError, match=name):
            open_run(steps, log=tmp_path / name).log()
    with pytest.raises(RunError, match=r"log\.csv is missing"):
        open_run(steps, log=tmp_path / "log.csv").log()


def test_a_log_without_tokens_counts_them_by_step(tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoint-10")
    state = {"global_step": 10, "num_input_tokens_seen": 0, "log_history": [{"step": 10, "loss": 2.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    assert open_run(tmp_path).log() == [{"step": 10, "loss": 2.0, "tokens_seen": None}]
    assert open_run(tmp_path).checkpoints[0].tokens_seen is None
    assert open_run(tmp_path, tokens_per_step=64).log()[0]["tokens_seen"] == 640


STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True).map(sorted)


@given(STEPS, st.integers(1, 50))
def test_so_many_checkpoints(steps, n):
    for wanted in (n, f"log:{n}"):
        chosen = choose(steps, wanted)
        assert len(chosen) <= n and chosen == sorted(set(chosen)) and set(chosen) <= set(steps)
        assert chosen[-1] == steps[-1] and (n == 1 or chosen[0] == steps[0])
    assert choose(steps, len(steps)) == steps


@given(STEPS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_ranges_and_lists_of_checkpoints(steps, first, last):
    inside = [step for step in steps if first <= step <= last]
    for wanted in (slice(first, last), range(first, last + 1)):
        if inside:
            assert choose(steps, wanted) == inside
        else:
            with pytest.raises(RunError, match="leaves no checkpoint"):
                choose(steps, wanted)
    assert choose(steps, reversed(steps)) == choose(steps) == steps
    with pytest.raises(RunError, match="no checkpoints of steps"):
        choose(steps, [steps[-1] + 1])


def test_log_spacing_is_even_in_the_logarithm():
    chosen = choose([0, *range(1, 10001)], "log:5")
    gaps = np.diff(np.log1p(chosen))
    np.testing.assert_allclose(gaps, math.log(10001) / 4, rtol=0.05)


@pytest.mark.parametrize("wanted", ["lin:3", "log:x", 0, 2.5, []])
def test_choices_that_are_none(wanted):
    with pytest.raises(RunError, match="checkpoint"):
        choose([1, 2], wanted)
