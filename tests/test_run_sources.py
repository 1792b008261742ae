"""Runs in folders and in lists, their names, logs and the choice of checkpoints."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from architectures import D_VOCAB, random_hugging_face_model, randomised
from checkpoint_folders import LAYOUTS, booted, booted_logits, change_config, logits, save_checkpoint
from conftest import SHAPE, random_model
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from inductionkit.errors import RunError
from inductionkit.lens import open_model
from inductionkit.runs import choose, open_run
from inductionkit.runs.architecture import GivenArchitecture, ProjectArchitecture
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
    with pytest.raises(RunError, match="each step once"):
        open_run([(1, dict), (1, dict)], model=torch.nn.Linear(1, 1))
    with pytest.raises(RunError, match="a run is a folder"):
        open_run(7, model=torch.nn.Linear(1, 1))
    with pytest.raises(RunError, match="returned a list, not a state dict"):
        open_run([(1, list)], model=random_model()).load_model()


# No checkpoint is privileged

DAMAGE = {
    "empty": lambda folder: [file.unlink() for file in folder.iterdir()],
    "without config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json cut short": lambda folder: (folder / "config.json").write_text('{"model_type": "gpt_ne'),
    "config.json without a model": lambda folder: (folder / "config.json").write_text("{}"),
    "of another width": lambda folder: shutil.rmtree(folder) or save_checkpoint(folder, "llama"),
    "of another rotary base": lambda folder: change_config(folder, rope_parameters={"rope_theta": 5e5}),
}
STILL_READ = ("without config.json", "config.json cut short", "config.json without a model")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("step", [0, 1000])
def test_a_damaged_checkpoint_spoils_no_other(damage, step, steps, tmp_path):
    shutil.copytree(steps, tmp_path / "run")
    folder = tmp_path / "run" / f"step{step}"
    DAMAGE[damage](folder)
    run = open_run(tmp_path / "run")
    assert run.steps == [0, 500, 1000] and str(run.architecture) == "GPTNeoXForCausalLM"
    assert json.loads(run.tokenizer_json())["model"]["vocab"]["t5"] == 5
    assert all(checkpoint.n_bytes() for checkpoint in run.checkpoints if checkpoint.step != step)
    standing = run.standing_model()
    for checkpoint in run.checkpoints:
        if checkpoint.step != step or damage in STILL_READ:
            checkpoint.load_into(standing)
            expected = booted_logits(steps / f"step{checkpoint.step}")
            torch.testing.assert_close(logits(standing), expected, atol=1e-6, rtol=0)
        else:
            before = logits(standing)
            with pytest.raises(RunError, match=f"step{step} (has no weights|is a checkpoint of another model)"):
                checkpoint.load_into(standing)
            assert torch.equal(logits(standing), before)
    chosen = open_run(tmp_path / "run", checkpoints=[s for s in run.steps if s != step])
    assert chosen.architecture.description == open_run(steps).architecture.description


def test_checkpoints_that_were_not_chosen_are_not_looked_into(steps, tmp_path):
    """All but one are damaged, each in its own way."""
    for i, damage in enumerate(DAMAGE.values()):
        damage(save_checkpoint(tmp_path / f"step{i}"))
    save_checkpoint(tmp_path / "step100", seed=500)
    run = open_run(tmp_path, checkpoints=[100])
    assert run.architecture.description == open_run(steps).architecture.description
    torch.testing.assert_close(logits(run.load_model()), logits(booted(steps / "step500")), atol=1e-6, rtol=0)
    with pytest.raises(
        RunError, match=r"no checkpoint of .* was chosen has a config\.json that can be read, .* Seen: .*"
    ):
        open_run(tmp_path, checkpoints=[0, 1, 2, 3])
    shutil.copy(tmp_path / "step100" / "config.json", tmp_path)  # the run's own
    assert open_run(tmp_path, checkpoints=[0, 1, 2, 3]).architecture.description == run.architecture.description


def test_the_model_is_the_one_that_most_checkpoints_share_or_the_earliest(tmp_path):
    for step, eps in enumerate((1e-3, 1e-5, 1e-5, 1e-3, 1e-5)):
        change_config(save_checkpoint(tmp_path / f"step{step}"), layer_norm_eps=eps)
    for chosen, eps in ((None, 1e-5), ([0, 1], 1e-3), ([1, 3], 1e-5), ([0, 2, 3], 1e-3)):
        run = open_run(tmp_path, checkpoints=chosen)
        assert run.architecture.config["layer_norm_eps"] == eps
        assert run.standing_model().cfg.eps == eps
    other = open_run(tmp_path).checkpoint(3)
    with pytest.raises(RunError, match=r"step3 is .* another model: .* layer_norm_eps=0\.001, that of the run 1e-05;"):
        other.read()


def test_what_a_training_may_change_in_a_configuration_is_no_other_model(tmp_path):
    save_checkpoint(tmp_path / "step0")
    changes = {
        "transformers_version": "4.30.0", "torch_dtype": "bfloat16", "use_cache": False, "pad_token_id": 1,
        "attention_dropout": 0.1, "_name_or_path": "elsewhere",
    }  # fmt: skip
    for step, more in ((1, changes), (2, {}), (3, {})):
        change_config(save_checkpoint(tmp_path / f"step{step}", seed=step), **more)
    # As transformers 4 wrote it: under other names, and without what is a default.
    config = json.loads((tmp_path / "step2" / "config.json").read_text())
    rotary = config.pop("rope_parameters")
    del config["layer_norm_eps"], config["use_parallel_residual"]
    old = {"rotary_emb_base": rotary["rope_theta"], "rotary_pct": rotary["partial_rotary_factor"], "rope_scaling": None}
    (tmp_path / "step2" / "config.json").write_text(json.dumps(config | old))
    run = open_run(tmp_path)
    for checkpoint in run.checkpoints:
        assert checkpoint.read()
    assert open_run(tmp_path, checkpoints=[0]).fingerprints == open_run(tmp_path, checkpoints=[1]).fingerprints


# What a model is besides its weights


def changed_folders(folder):
    save_checkpoint(folder / "as it was")
    changes = {
        "eps": {"layer_norm_eps": 1e-3},
        "rotary base": {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        "activation": {"hidden_act": "relu"},
        "dtype": {"dtype": "bfloat16"},
    }
    for name, change in changes.items():
        change_config(save_checkpoint(folder / name), **change)
    return {name: open_run(folder / name).architecture for name in ("as it was", *changes)}


def changed_models(kind):
    models = {"as it was": random_hugging_face_model(kind)}
    for name, change in {
        "eps": {"layer_norm_eps": 1e-3},
        "rotary base": {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default", "partial_rotary_factor": 0.5}},
        "activation": {"hidden_act": "relu"},
    }.items():
        config = copy.deepcopy(models["as it was"].config)
        config.update(change)
        models[name] = type(models["as it was"])(config).eval()
    models["dtype"] = random_hugging_face_model(kind).double()
    models["buffer"] = random_hugging_face_model(kind)
    next(models["buffer"].buffers()).mul_(1.5)
    return models


def assert_all_different_and_the_same_elsewhere(architectures):
    """In copies, and in another process."""
    descriptions = {name: architecture.description for name, architecture in architectures.items()}
    assert len(set(descriptions.values())) == len(descriptions)
    pickled = pickle.dumps(architectures)
    assert {name: copied.description for name, copied in pickle.loads(pickled).items()} == descriptions
    program = (
        "import json, pickle, sys; from inductionkit.runs import open_run\n"
        "found = pickle.load(sys.stdin.buffer)\n"
        "[vars(one).pop('description', None) for one in found.values()]\n"
        "print(json.dumps({name: architecture.description for name, architecture in found.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=True)
    assert json.loads(done.stdout) == descriptions


def test_descriptions_of_folders(tmp_path):
    architectures = changed_folders(tmp_path)
    assert_all_different_and_the_same_elsewhere(architectures)
    shutil.copytree(tmp_path / "as it was", tmp_path / "copy")
    change_config(tmp_path / "copy", _name_or_path="elsewhere", transformers_version="4.30.0")
    assert open_run(tmp_path / "copy").architecture.description == architectures["as it was"].description


def test_descriptions_of_models_in_memory():
    architectures = {name: GivenArchitecture(model) for name, model in changed_models("gpt_neox").items()}
    assert_all_different_and_the_same_elsewhere(architectures)
    model = architectures["as it was"].model
    assert GivenArchitecture(randomised(copy.deepcopy(model), 5)).description == architectures["as it was"].description


def test_descriptions_of_bridges_and_of_the_projects_own_models():
    bridges = {name: GivenArchitecture(open_model(model)) for name, model in changed_models("gpt_neox").items()}
    del bridges["dtype"]  # opened as bridges, models are float32
    shapes = {"as it was": {}, "eps": {"eps": 1e-3}, "MLPs": {"d_mlp": 96}}
    native = {f"native, {name}": GivenArchitecture(random_model(**shape)) for name, shape in shapes.items()}
    listed = {f"manifest, {name}": ProjectArchitecture({**SHAPE, **shape}) for name, shape in shapes.items()}
    architectures = bridges | native | listed
    descriptions = {architecture.description for architecture in architectures.values()}
    assert len(descriptions) == len(architectures)
    assert_all_different_and_the_same_elsewhere(listed)
    for other in (open_model(random_hugging_face_model("gpt_neox", seed=9)), random_model(seed=9)):
        assert GivenArchitecture(other).description in descriptions


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


def test_a_log_is_looked_for_from_the_latest_backwards(steps, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(steps, run)
    (run / "step0" / "log.csv").write_text("step,loss\n0,9.0\n")
    assert [entry["loss"] for entry in open_run(run).log()] == [9.0]
    (run / "step500" / "trainer_state.json").write_text('{"log_history": [{"step": 500, "loss": 5.0}]}')
    (run / "step1000" / "trainer_state.json").write_text('{"log_history": [{"step": 10')
    assert [entry["loss"] for entry in open_run(run).log()] == [5.0]
    (run / "log.jsonl").write_text('{"step": 1, "loss": 7.0}\n')
    assert [entry["loss"] for entry in open_run(run).log()] == [7.0]  # the folder's own, before older checkpoints'
    assert [entry["loss"] for entry in open_run(run, checkpoints=[0, 500]).log()] == [5.0]
    (run / "step1000" / "trainer_state.json").write_text('{"log_history": 3}')
    (run / "log.jsonl").unlink()
    assert [entry["loss"] for entry in open_run(run).log()] == [5.0]
    assert open_run(run, checkpoints=[1000]).log() == []


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
