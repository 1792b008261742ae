"""Training: deterministic, resumable after a kill, its checkpoints exact in TransformerLens."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from inductionkit.errors import RecipeError, RunError
from inductionkit.lens import build_model, load_weights
from inductionkit.runs import open_run
from inductionkit.train import (
    CheckpointSpec,
    ModelConfig,
    OptimiserSpec,
    Transformer,
    builtin_recipes,
    corpora,
    load_recipe,
    load_recipes,
    train,
    train_table,
)
from inductionkit.train.loop import _lr_factor
from inductionkit.train.muon import orthogonalise
from inductionkit.train.run_folder import RunFolder
from inductionkit.train.smeared_keys import SmearedKeys


def weights_of(path):
    folder = RunFolder.open(path)
    return {entry["step"]: folder.read_checkpoint(entry) for entry in folder.manifest["checkpoints"]}


def assert_same_run(first, second):
    one, other = weights_of(first), weights_of(second)
    assert one.keys() == other.keys()
    for step in one:
        for name in one[step]:
            np.testing.assert_array_equal(one[step][name], other[step][name], err_msg=f"{step} {name}")
    assert RunFolder.open(first).log() == RunFolder.open(second).log()


def test_the_same_seed_gives_the_same_run(recipe, run_path, tmp_path):
    train(recipe, tmp_path / "again", progress=False)
    assert_same_run(run_path, tmp_path / "again")


def test_another_seed_gives_another_run(other_seed, run_path, tmp_path):
    train(other_seed, tmp_path / "other", progress=False)
    last = max(weights_of(run_path))
    assert not np.array_equal(
        weights_of(run_path)[last]["embed.weight"], weights_of(tmp_path / "other")[last]["embed.weight"]
    )


def test_it_learns(run_path):
    evaluations = [record["held_out_loss"] for record in RunFolder.open(run_path).log() if "held_out_loss" in record]
    assert evaluations[-1] < evaluations[0] - 0.2


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.4])
def test_a_killed_run_goes_on_as_if_it_had_never_stopped(recipe, run_path, tmp_path, delay):
    out, file = tmp_path / "killed", tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe.as_dict()))
    program = (
        "import json, sys; from inductionkit.train import *; table = json.load(open(sys.argv[1]));"
        "table.update(model=ModelConfig(**table['model']), corpus=CorpusSpec(**table['corpus']),"
        "optimiser=OptimiserSpec(**table['optimiser']), checkpoints=CheckpointSpec(**table['checkpoints']));"
        "train(Recipe(**table), sys.argv[2], progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(file), str(out)])
    while process.poll() is None and len(list(out.glob("checkpoints/*"))) < 2:
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(recipe, out, progress=False)
    assert_same_run(run_path, out)


def test_checkpoints_load_into_a_bridge_with_identical_logits(recipe, run_path):
    run = open_run(run_path)
    tokens = torch.from_numpy(run.held_out()[:3].astype(np.int64))
    own = Transformer(recipe.model, seed=3)
    own.load_state_dict({name: torch.from_numpy(a) for name, a in run.checkpoints[-1].read().items()})
    with torch.no_grad():
        torch.testing.assert_close(run.load_model()(tokens), own(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", [{"d_mlp": 32}, {"smeared_keys": True}, {"n_layers": 6, "smeared_keys": True}])
def test_every_kind_of_model_is_the_same_in_a_bridge(recipe, changes):
    config = dataclasses.replace(recipe.model, **changes)
    own, bridge = Transformer(config, seed=3), build_model(dataclasses.asdict(config))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.d_vocab, (3, 50), generator=generator)
    with torch.no_grad():
        for parameter in own.parameters():  # smearing, biases and norms too
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        load_weights(bridge, {name: tensor.numpy() for name, tensor in own.state_dict().items()})
        torch.testing.assert_close(bridge(tokens), own(tokens), atol=1e-5, rtol=1e-5)


def test_smeared_keys_mix_each_key_with_the_one_before():
    smeared = SmearedKeys(d_model=3, n_heads=2, d_head=1)
    with torch.no_grad():
        smeared.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
        smeared.bias.zero_()
        smeared.alpha.copy_(torch.tensor([0.0, math.log(3)]))  # shares 1/2 and 3/4
        keys = smeared(torch.tensor([[[4.0, 8, 0], [8.0, 0, 0], [0.0, 4, 0]]]))
    torch.testing.assert_close(keys, torch.tensor([[[4.0, 8], [6.0, 2], [4.0, 3]]]))


def test_learning_rates_follow_the_schedule(recipe):
    spec = OptimiserSpec(warmup_steps=4, decay_fraction=0.25)
    linear = dataclasses.replace(recipe, optimiser=spec)
    factors = [_lr_factor(linear, step) for step in range(1, 41)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and factors[30] == 1.0
    np.testing.assert_allclose(factors[30:], np.arange(10, 0, -1) / 10)
    cosine = dataclasses.replace(linear, optimiser=dataclasses.replace(spec, decay="cosine"))
    factors = [_lr_factor(cosine, step) for step in range(1, 41)]
    np.testing.assert_allclose(factors[30:], (1 - np.cos(np.pi * np.arange(10, 0, -1) / 10)) / 2)


def test_checkpoints_are_where_the_recipe_asks(recipe, run_path):
    run = open_run(run_path)
    assert run.steps[0] == 0 and run.steps[-1] == 40
    assert sum(8000 - 416 <= c.tokens_seen <= 12000 + 416 for c in run.checkpoints) >= 3
    assert CheckpointSpec(first=1, n_log=3).steps(100, 1) == [0, 1, 10, 100]


def test_a_folder_of_another_recipe_is_refused(other_seed, run_path):
    with pytest.raises(RunError, match="another recipe"):
        train(other_seed, run_path, progress=False)


def test_a_changed_corpus_is_refused(recipe, run_path, text_folder, tmp_path):
    extra = text_folder / "zz.txt"
    extra.write_text("more text\n")
    try:
        with pytest.raises(RunError, match="fingerprint differs"):
            train(recipe, run_path, progress=False)
    finally:
        extra.unlink()


def test_orthogonalise_moves_singular_values_near_one():
    matrices = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert ((values > 0.6) & (values < 1.3)).all()
    torch.testing.assert_close(orthogonalise(matrices.mT), orthogonalise(matrices).mT)


def test_builtin_recipes_load_and_the_control_differs_in_depth_alone():
    for name in builtin_recipes():
        assert load_recipes(name)
    two, one = load_recipe("two-layer"), load_recipe("one-layer")
    assert dataclasses.replace(one, name="two-layer", model=dataclasses.replace(one.model, n_layers=2)) == two


def test_a_table_of_recipes(tmp_path):
    case = {recipe.name: recipe for recipe in load_recipes("case")}
    assert case["two-layer-smeared"].model == dataclasses.replace(load_recipe("two-layer").model, smeared_keys=True)
    assert case["two-layer-seed-1"].seed == 1 and case["two-layer-seed-1"].n_tokens == 10_000_000
    with pytest.raises(RecipeError, match="table of 8 recipes"):
        load_recipe("case")
    for text in ("runs = 3", "runs = {}", "runs = {a = 3}"):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(RecipeError, match="must be tables"):
            load_recipes(tmp_path / "bad.toml")


def test_a_table_is_trained_by_an_executor_and_again_by_none(recipe, other_seed, run_path, tmp_path):
    both = [recipe, dataclasses.replace(other_seed, name="other")]
    with ThreadPoolExecutor(1) as executor:
        train_table(both, tmp_path, executor, progress=False)
    assert_same_run(run_path, tmp_path / "tiny")
    assert [folder.path.name for folder in train_table(both[1:], tmp_path, progress=False)] == ["other"]
    assert RunFolder.open(tmp_path / "other").manifest["complete"]
    with pytest.raises(RecipeError, match="stands there twice"):
        train_table([recipe, recipe], tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_tokens = 5", "incomplete"),
        ("[model]\nn_layers = 0", "model.n_layers=0 must be a whole number of at least 1"),
        ("layers = 2\n[model]\nn_layers = 1", "recipe has no layers"),
        ("[model]\nn_layers = 1\nd_modell = 3", "recipe.model has no d_modell"),
        ("batch_size = 'big'\n[model]\nn_layers = 1", "must be of type int"),
        ("[model]\nn_layers = 1\n[optimiser]\ndecay = 'exponential'", "must be linear or cosine"),
        ("base = 'none'", "is not one of"),
        ("[model", "not valid TOML"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)
    with pytest.raises(RecipeError, match="neither a file nor one of"):
        load_recipe("no-such-recipe")


def test_corpora(text_folder, tmp_path):
    documents = corpora.text_folder(text_folder)
    tokenizer = corpora.train_tokenizer(documents, 300)
    assert tokenizer.get_vocab_size() == 300 and tokenizer.token_to_id(corpora.BOS) == corpora.BOS_ID
    stream = corpora.tokenize(documents, tokenizer, 1000, seed=0)
    assert len(stream.held_out) == 1000
    assert stream.fingerprint == corpora.tokenize(documents, tokenizer, 1000, seed=0).fingerprint
    assert stream.fingerprint != corpora.tokenize(documents, tokenizer, 1000, seed=1).fingerprint
    whole = np.concatenate([stream.train, stream.held_out])
    assert sorted(
        Tokenizer.from_str(tokenizer.to_str()).decode_batch(
            [list(part[1:]) for part in np.split(whole, np.flatnonzero(whole == 0)[1:])]
        )
    ) == sorted(documents)
    rows = corpora.rows(stream.train, 11, offset=4)
    assert (rows[:, 0] == 0).all() and np.array_equal(rows[:, 1:].ravel(), stream.train[4 : 4 + rows[:, 1:].size])
    assert any("def " in text for text in corpora.python_source(("pytest",))[-30:])
    with pytest.raises(RecipeError, match="does not exist"):
        corpora.text_folder(tmp_path / "none")
    with pytest.raises(RecipeError, match="too few to hold out"):
        corpora.tokenize(documents[:1], tokenizer, 10**6, seed=0)
    with pytest.raises(RecipeError, match="not installed"):
        corpora.python_source(("no-such-distribution",))


def test_model_config_reports_what_is_wrong():
    with pytest.raises(RecipeError, match="n_heads=0"):
        ModelConfig(n_layers=1, n_heads=0)


def test_a_hugging_face_data_set_is_read_from_its_real_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [json.dumps({"text": f"document {i}", "source": "made up"}) for i in range(5)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    assert corpora.hugging_face(str(tmp_path)) == [f"document {i}" for i in range(5)]
    assert corpora.hugging_face(str(tmp_path), column="source", n_documents=2) == ["made up"] * 2
    with pytest.raises(RecipeError, match=r"column='body' is not in .*; it has text, source"):
        corpora.hugging_face(str(tmp_path), column="body")


def test_files_of_installed_packages(tmp_path):
    documents = corpora.installed_files(["rich"], ["rich/p*.py", "rich/__init__.py"])
    assert any(text.startswith('"""Rich text') for text in documents)
    assert len(documents) > 5 and all(isinstance(text, str) for text in documents)
    with pytest.raises(RecipeError, match="no file of the package 'rich' matches"):
        corpora.installed_files(["rich"], ["*.none"])
    with pytest.raises(RecipeError, match="not installed"):
        corpora.installed_files(["no-such-package"], ["*.py"])


def test_the_recipes_of_wider_heads_differ_in_nothing_else():
    recipes = load_recipes(Path(__file__).parents[1] / "examples/wider_heads.toml")
    assert [recipe.model.d_head for recipe in recipes] == [32, 64, 64, 128]
    assert {recipe.model.n_heads * recipe.model.d_head for recipe in recipes} == {512}
    same = {dataclasses.replace(recipe, name="", seed=0, model=recipes[0].model) for recipe in recipes}
    assert len(same) == 1 and recipes[0].optimiser.decay_fraction == 0
