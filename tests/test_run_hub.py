"""Runs on the hub: a stand-in on loopback, asked by the real client."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from architectures import D_VOCAB
from checkpoint_folders import BOS, LAYOUTS, booted, booted_logits, cache_bytes, logits, save_checkpoint
from conftest import random_model
from safetensors.torch import load_file, save_file
from stand_in_hub import StandInHub

from inductionkit.errors import RunError
from inductionkit.runs import open_run
from inductionkit.runs.hub_cache import Download

pytest_plugins = ("run_fixtures",)
PYTHIA, STANFORD, OLMO = "step{}", "checkpoint-{}", "stage1-step{}-tokens4B"


@pytest.mark.parametrize("naming", [PYTHIA, STANFORD, OLMO, "weights/{}k"])
def test_revisions_as_checkpoints(naming, hub, steps):
    for step in (0, 500, 1000):
        hub.add("org/tiny", naming.format(step), steps / f"step{step}")
    hub.add("org/tiny", "main", steps / "step1000")
    pattern = r"weights/(?P<step>\d+)k" if naming.startswith("weights") else None
    run = open_run("hf:org/tiny", pattern=pattern)
    assert run.steps == [0, 500, 1000]
    standing = run.standing_model()
    for step in run.steps:
        run.checkpoint(step).load_into(standing)
        torch.testing.assert_close(logits(standing), logits(booted(steps / f"step{step}")), atol=1e-6, rtol=0)
    assert run.checkpoints[0].tokens_seen == (4_000_000_000 if naming == OLMO else None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_weights_on_the_hub(layout, hub, steps, tmp_path):
    folder = save_checkpoint(tmp_path / "model", seed=500)
    LAYOUTS[layout](folder)
    hub.add("org/tiny", "step500", folder)
    run = open_run("hf:org/tiny", keep="none")
    before = cache_bytes(tmp_path / "cache")
    weights = run.checkpoint(500).read()
    expected = load_file(steps / "step500" / "model.safetensors")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert cache_bytes(tmp_path / "cache") == before


def test_without_a_connection_what_is_cached_is_read(hub, steps, monkeypatch):
    from huggingface_hub import constants

    for step in (0, 500, 1000):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    online = open_run("hf:org/tiny")
    weights = {step: online.checkpoint(step).read() for step in (0, 1000)}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    run = open_run("hf:org/tiny")
    assert run.steps == [0, 1000]
    for step, expected in weights.items():
        read = run.checkpoint(step).read()
        assert all(torch.equal(read[name], expected[name]) for name in expected)
    torch.testing.assert_close(logits(run.load_model()), logits(booted(steps / "step1000")), atol=1e-6, rtol=0)
    assert not hub.requests
    with pytest.raises(RunError, match="could not be read from the hub or its cache"):
        open_run("hf:org/other")


def test_without_a_connection_what_was_removed_is_no_checkpoint(hub, steps, monkeypatch):
    from huggingface_hub import constants

    for step in (0, 500, 1000):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    for keep, step in (("none", 1000), ("all", 500)):
        open_run("hf:org/tiny", keep=keep).checkpoint(step).read()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run = open_run("hf:org/tiny")
    assert run.steps == [500]
    torch.testing.assert_close(logits(run.load_model()), logits(booted(steps / "step500")), atol=1e-6, rtol=0)


def test_a_hundred_checkpoints_in_the_disk_of_two(hub, steps, tmp_path):
    small = steps / "step0"
    for step in range(100):
        hub.add("org/tiny", f"step{step}", small)
        weights = load_file(small / "model.safetensors") | {"embed_out.weight": torch.full((D_VOCAB, 24), float(step))}
        save_file(weights, tmp_path / "weights")
        hub.repositories["org/tiny"][f"step{step}"]["model.safetensors"] = (tmp_path / "weights").read_bytes()
    one = (tmp_path / "weights").stat().st_size
    run = open_run("hf:org/tiny", keep="none")
    run.tokenizer_json()
    cache, before = tmp_path / "cache", None
    before = cache_bytes(cache)
    seen, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(cache_bytes(cache) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for checkpoint in run.checkpoints:
            assert checkpoint.read()["embed_out.weight"][0, 0] == checkpoint.step
            assert cache_bytes(cache) == before
    finally:
        stop.set()
        watcher.join()
    assert 0 < max(seen) <= 2 * one
    from huggingface_hub import scan_cache_dir

    assert not scan_cache_dir(cache).warnings  # no reference leads to a snapshot that is gone


def test_so_many_bytes_are_kept_and_what_was_there_stays(hub, steps, tmp_path):
    from huggingface_hub import hf_hub_download

    for step in (0, 500, 1000):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    there = Path(hf_hub_download("org/tiny", "model.safetensors", revision="step0"))
    one = there.stat().st_size
    run = open_run("hf:org/tiny", keep=round(1.5 * one))
    for checkpoint in run.checkpoints:
        pickle.loads(pickle.dumps(checkpoint)).read()  # as a worker gets them
    snapshots = tmp_path / "cache" / "models--org--tiny" / "snapshots"
    held = {hub.revision("org/tiny", path.parent.name) for path in snapshots.glob("*/model.safetensors")}
    assert held == {"step0", "step1000"}
    for checkpoint in open_run("hf:org/tiny", keep="none").checkpoints:
        checkpoint.read()
    assert list(snapshots.glob("*/model.safetensors")) == [there]
    for keep in ("all", "none"):
        for checkpoint in open_run("hf:org/tiny", keep=keep).checkpoints:
            checkpoint.read()
    assert len(list(snapshots.glob("*/model.safetensors"))) == 3


def test_what_a_killed_scan_fetched_is_removed_by_the_next(hub, steps, tmp_path):
    """Killed once its download is there and before it is removed."""
    hub.add("org/tiny", "step500", steps / "step500")
    open_run("hf:org/tiny").tokenizer_json()
    before = cache_bytes(tmp_path / "cache")
    program = (
        "import os\n"
        "from inductionkit.runs import hub, open_run\n"
        "hub.read_weights = lambda *args: os.kill(os.getpid(), 9)\n"
        "open_run('hf:org/tiny', keep='none', max_bytes=10**9).checkpoint(500).read()"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -9 and cache_bytes(tmp_path / "cache") > before
    open_run("hf:org/tiny", keep="none").checkpoint(500).read()
    assert cache_bytes(tmp_path / "cache") == before


def test_a_blob_that_another_snapshot_uses_stays(tmp_path):
    repository = tmp_path / "models--org--tiny"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "b").write_bytes(b"weights")
    for commit in ("one", "two"):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "w").symlink_to("../../blobs/b")
    Download(repository / "snapshots" / "one" / "w", True, 7).remove()
    assert (repository / "snapshots" / "two" / "w").read_bytes() == b"weights"
    Download(repository / "snapshots" / "two" / "w", True, 7).remove()
    assert not list(repository.glob("*/*"))


def test_a_revision_that_moves_meanwhile(hub, steps):
    hub.add("org/tiny", "step0", steps / "step0")
    run = open_run("hf:org/tiny")
    hub.add("org/tiny", "step0", steps / "step500")
    with pytest.raises(RunError, match=r"could not be read|was moved"):
        run.checkpoint(0).read()


def test_hubs_without_what_is_asked(hub, steps):
    with pytest.raises(RunError, match=r"hf:org/none could not be read .*check the name"):
        open_run("hf:org/none")
    hub.add("org/tiny", "main", steps / "step0")
    with pytest.raises(RunError, match=r"no revisions named like step1000 .*there are \['main'\]"):
        open_run("hf:org/tiny")
    with pytest.raises(RunError, match="keep='some'"):
        open_run("hf:org/tiny", keep="some")
    hub.add("org/tiny", "step1", {"config.json": (steps / "step0" / "config.json").read_bytes()})
    with pytest.raises(RunError, match=r"hf:org/tiny@step1 has no weights: seen \['config.json'\]"):
        open_run("hf:org/tiny").checkpoint(1).read()


def test_the_clients_own_settings_are_respected(hub, steps, tmp_path):
    hub.add("org/tiny", "step500", steps / "step500")
    program = (
        "import sys; from inductionkit.runs import open_run\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "run = open_run('hf:org/tiny', max_bytes=10**9)\n"
        "print(float(run.checkpoint(500).read()['embed_out.weight'][0, 0]))"
    )
    cache = tmp_path / "elsewhere"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    expected = float(load_file(steps / "step500" / "model.safetensors")["embed_out.weight"][0, 0])
    for offline in ("0", "1"):
        environment["HF_HUB_OFFLINE"] = offline
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) == expected and done.stderr == ""
    assert (cache / "models--org--tiny").is_dir()


def test_a_trainers_log_on_the_hub(hub, steps):
    hub.add("org/tiny", "checkpoint-1000", steps / "step1000")
    assert open_run("hf:org/tiny").log() == []
    state = {"log_history": [{"step": 500, "loss": 4.5}, {"step": 1000, "loss": 4.0}]}
    hub.repositories["org/tiny"]["checkpoint-1000"] |= {"trainer_state.json": json.dumps(state).encode()}
    assert [entry["loss"] for entry in open_run("hf:org/tiny").log()] == [4.5, 4.0]


# No revision is privileged


@pytest.mark.parametrize(
    ("damage", "step"),
    [
        *itertools.product(("empty", "config.json cut short", "without config.json"), (0, 1000)),
        ("another model", 1000),  # the first that can be read is the run's
    ],
)
def test_a_damaged_revision_spoils_no_other(damage, step, hub, steps, tmp_path):
    for each in (0, 500, 1000):
        hub.add("org/tiny", f"step{each}", steps / f"step{each}")
    files = hub.repositories["org/tiny"][f"step{step}"]
    match damage:
        case "empty":
            files.clear()
        case "config.json cut short":
            files["config.json"] = files["config.json"][:-20]
        case "without config.json":
            del files["config.json"]
        case "another model":
            hub.add("org/tiny", "step1000", save_checkpoint(tmp_path / "llama", "llama"))
    run = open_run("hf:org/tiny", keep="none")
    standing = run.standing_model()
    assert run.steps == [0, 500, 1000] and json.loads(run.tokenizer_json())["model"]["vocab"]["t5"] == 5
    for checkpoint in run.checkpoints:
        if checkpoint.step != step or "config.json" in damage:
            checkpoint.load_into(standing)
            expected = booted_logits(steps / f"step{checkpoint.step}")
            torch.testing.assert_close(logits(standing), expected, atol=1e-6, rtol=0)
        else:
            with pytest.raises(RunError, match=rf"hf:org/tiny@step{step} (has no weights|is a checkpoint of another)"):
                checkpoint.load_into(standing)
    assert (run.checkpoint(step).n_bytes() == 0) == (damage == "empty")
    if damage == "another model":  # found out before its weights are fetched
        assert not [request for request in hub.requests if "step1000/model.safetensors" in request]


def test_revisions_that_were_not_chosen_are_not_looked_into(hub, steps):
    hub.add("org/tiny", "step0", {"config.json": b"{"})
    hub.add("org/tiny", "step500", steps / "step500")
    hub.add("org/tiny", "step1000", {})
    asked = [f"/{name}" for revision in ("step0", "step1000") for name in (revision, hub.commit("org/tiny", revision))]
    run = open_run("hf:org/tiny", checkpoints=[500])
    run.load_model(), run.log(), run.tokenizer_json()
    assert not [request for request in hub.requests if any(name in request for name in asked)]
    with pytest.raises(RunError, match=r"no revision of hf:org/tiny .* can be read: .*config\.json"):
        open_run("hf:org/tiny", checkpoints=[0, 1000])


def test_a_trainers_log_is_looked_for_from_the_latest_backwards(hub, steps):
    for step, state in ((0, b'{"log_history": [{"step": 0, "loss": 9.0}]}'), (500, None), (1000, b'{"log_history": [')):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
        hub.repositories["org/tiny"][f"step{step}"] |= {} if state is None else {"trainer_state.json": state}
    assert [entry["loss"] for entry in open_run("hf:org/tiny").log()] == [9.0]


# TransformerLens' own repositories

LEGACY = "NeelNanda/Attn_Only_2L512W_C4_Code"


def hooked_transformer_names(model) -> dict[str, torch.Tensor]:
    """A native model's weights as a `HookedTransformer` would save them."""
    state = model.state_dict()
    named = {
        "embed.W_E": state["embed.weight"],
        "pos_embed.W_pos": state["pos_embed.weight"],
        "unembed.W_U": state["unembed.weight"].T,
        "ln_final.w": state["ln_final.weight"],
        "ln_final.b": state["ln_final.bias"],
    }
    for layer in range(model.cfg.n_layers):
        block = f"blocks.{layer}"
        named |= {f"{block}.ln1.w": state[f"{block}.ln1.weight"], f"{block}.ln1.b": state[f"{block}.ln1.bias"]}
        for ours, theirs in zip("qkv", "QKV"):
            weight = state[f"{block}.attn.{ours}.weight"]  # (head d_head, d_model)
            named[f"{block}.attn.W_{theirs}"] = weight.reshape(model.cfg.n_heads, -1, model.cfg.d_model).mT
            named[f"{block}.attn.b_{theirs}"] = state[f"{block}.attn.{ours}.bias"].reshape(model.cfg.n_heads, -1)
        output = state[f"{block}.attn.o.weight"]  # (d_model, head d_head)
        named[f"{block}.attn.W_O"] = output.T.reshape(model.cfg.n_heads, -1, model.cfg.d_model)
        named[f"{block}.attn.b_O"] = state[f"{block}.attn.o.bias"]
    return {name: tensor.contiguous() for name, tensor in named.items()}


@pytest.fixture
def legacy_hub(hub, tmp_path) -> StandInHub:
    config = {
        "n_layers": 2, "d_model": 24, "n_heads": 3, "d_head": 8, "n_ctx": 128, "d_vocab": D_VOCAB, "d_mlp": 96,
        "act_fn": "gelu", "attn_only": True, "normalization": "LN", "tokenizer_name": "org/tokenizer",
    }  # fmt: skip
    files = {"config.json": json.dumps(config).encode()}
    for i, tokens in enumerate((1_000_000, 2_000_000_000)):
        torch.save(hooked_transformer_names(random_model(seed=i, d_vocab=D_VOCAB)), tmp_path / "weights.pth")
        files[f"checkpoints/{i:03d}_{tokens}.pth"] = (tmp_path / "weights.pth").read_bytes()
    hub.add(LEGACY, "main", files)
    folder = save_checkpoint(tmp_path / "tokenizer")
    hub.add("org/tokenizer", "main", {path.name: path.read_bytes() for path in folder.glob("tokenizer*")})
    return hub


def test_transformer_lens_own_checkpoints(legacy_hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    run = open_run("tl:attn-only-2l", keep="none", tokens_per_step=1000)
    assert [(entry.step, entry.tokens_seen) for entry in run.checkpoints] == [
        (1000, 1_000_000),
        (2_000_000, 2_000_000_000),
    ]
    standing = run.standing_model()
    assert standing.tokenizer.bos_token_id == BOS
    before = cache_bytes(tmp_path / "cache")
    for seed, checkpoint in enumerate(run.checkpoints):
        checkpoint.load_into(standing)
        torch.testing.assert_close(logits(standing), logits(random_model(seed=seed, d_vocab=D_VOCAB)))
    assert cache_bytes(tmp_path / "cache") == before
    assert json.loads(run.tokenizer_json())["model"]["vocab"]["t5"] == 5
    kept = open_run(f"tl:{LEGACY}")
    assert kept.steps == [1_000_000, 2_000_000_000]
    kept.checkpoints[0].read()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_run("tl:attn-only-2l").checkpoints[0].read().keys() == kept.checkpoints[0].read().keys()


def test_the_description_of_transformer_lens_own_models(legacy_hub):
    descriptions = {open_run(f"tl:{name}").architecture.description for name in ("attn-only-2l", LEGACY)}
    files = legacy_hub.repositories[LEGACY]["main"]
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"eps": 1e-3}).encode()
    assert len(descriptions | {open_run(f"tl:{LEGACY}").architecture.description}) == 2
