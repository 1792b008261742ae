"""Checkpoints from strangers: refused in words, with nothing run, nothing written and nothing big allocated."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from architectures import random_hugging_face_model
from safetensors.torch import load_file

from inductionkit.errors import InductionKitError, ModelError, RunError
from inductionkit.runs import open_run

pytest_plugins = ("run_fixtures",)
TEN_GIGABYTES = 10 * 2**30


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("intact") / "step1"
    random_hugging_face_model("gpt_neox").save_pretrained(folder)
    return folder


@pytest.fixture
def run_folder(intact, tmp_path) -> Path:
    """A run of one checkpoint, `step1`, for a test to spoil; beside it what the run must not reach."""
    shutil.copytree(intact, tmp_path / "run" / "step1")
    shutil.copy(intact / "model.safetensors", tmp_path / "outside.safetensors")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path):
    """No file appears but those a test makes itself, and the process grows by far less than a hostile claim."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert not (tmp_path / "ran").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # kilobytes: 2 GiB


class Runs:
    """Unpickled, it makes a file: the stand-in for code that does worse."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def read(folder: Path) -> dict[str, torch.Tensor]:
    return open_run(folder).checkpoints[0].read()


def write_header(file: Path, header: dict, content: bytes = b"", claimed: int | None = None) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + content)


def sparse(file: Path, n_bytes: int) -> None:
    """A file that claims its bytes and takes none of the disk."""
    with open(file, "wb") as opened:
        opened.truncate(n_bytes)


def as_pickle(folder: Path, content: object) -> Path:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_an_intact_checkpoint_is_read(run_folder):
    """The known negative: what is refused below is refused for its fault alone."""
    expected = weights_of(run_folder / "step1")
    assert read(run_folder).keys() == expected.keys()
    as_pickle(run_folder / "step1", expected)
    assert read(run_folder).keys() == expected.keys()


@pytest.mark.parametrize("where", ["weight", "whole", "key"])
def test_a_pickle_that_runs_code(where, run_folder, tmp_path):
    hostile = Runs(tmp_path / "ran")
    weights = weights_of(run_folder / "step1")
    as_pickle(
        run_folder / "step1",
        {"weight": {**weights, "extra": hostile}, "whole": hostile, "key": {**weights, "extra": [hostile]}}[where],
    )
    with pytest.raises(RunError, match=r"pytorch_model\.bin holds more than tensors, which might run code"):
        read(run_folder)


def test_a_bare_pickle_that_runs_code(run_folder, tmp_path):
    (run_folder / "step1" / "model.safetensors").unlink()
    (run_folder / "step1" / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(RunError, match=r"written by a torch before 1\.6"):
        read(run_folder)


def test_a_torch_whose_unpickler_can_be_tricked_reads_no_pickles(run_folder, monkeypatch):
    as_pickle(run_folder / "step1", weights_of(run_folder / "step1"))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(RunError, match=r"torch 2\.5\.1\+cpu cannot read safely; update torch to 2\.6"):
        read(run_folder)


@pytest.mark.parametrize("content", [[1, 2], {"step": 7}, {"model": {"weight": torch.ones(1)}}])
def test_a_pickle_of_something_else(content, run_folder):
    as_pickle(run_folder / "step1", content)
    with pytest.raises(RunError, match="not a dictionary of tensors by name"):
        read(run_folder)


def test_a_pickle_that_repeats_one_number_ten_billion_times(run_folder):
    file = as_pickle(run_folder / "step1", {"embed_out.weight": torch.ones(1).expand(10**10)})
    assert file.stat().st_size < 10_000
    with pytest.raises(RunError, match=r"claims 40,000,000,000 bytes"):
        read(run_folder)


def test_a_pickle_that_claims_more_than_its_file_has(run_folder):
    """The pickle of a storage of 4 numbers, changed to claim ten billion."""
    file = as_pickle(run_folder / "step1", {"a": torch.ones(4)})
    with zipfile.ZipFile(file) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    claim = pickle.LONG1 + b"\x05" + (10**10).to_bytes(5, "little")
    changed = parts[pickled].replace(b"K\x04tq", claim + b"tq")
    assert changed != parts[pickled]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (parts | {pickled: changed}).items():
            archive.writestr(name, content)
    with pytest.raises(RunError, match="cut short or not a file of tensors"):
        read(run_folder)


def test_a_pickle_that_unpacks_to_more_than_it_is(run_folder):
    file = as_pickle(run_folder / "step1", {"embed_out.weight": torch.zeros(10**6)})
    with zipfile.ZipFile(file) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(RunError, match="has compressed parts"):
        read(run_folder)


@pytest.mark.parametrize(
    ("header", "claimed"),
    [
        ({"w": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}, None),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, None),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, None),
        ({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, None),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 2**63),
        ({"w": "tensor"}, None),
    ],
)
def test_a_safetensors_header_that_lies(header, claimed, run_folder):
    write_header(run_folder / "step1" / "model.safetensors", header, b"\0\0\0\0", claimed)
    with pytest.raises(RunError, match=r"model\.safetensors is cut short or not a safetensors file"):
        read(run_folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_ten_gigabytes(name, run_folder):
    (run_folder / "step1" / "model.safetensors").unlink()
    file = run_folder / "step1" / name
    if name.endswith(".safetensors"):
        tensor = {"dtype": "F32", "shape": [TEN_GIGABYTES // 4], "data_offsets": [0, TEN_GIGABYTES]}
        write_header(file, {"w": tensor})
        os.truncate(file, file.stat().st_size + TEN_GIGABYTES)
    else:
        sparse(file, TEN_GIGABYTES)
    with pytest.raises(RunError, match=r"claims 10,737,\d+,\d+ bytes; the weights of this model take at most"):
        read(run_folder)


def test_shards_that_are_large_together(run_folder):
    folder = run_folder / "step1"
    limit = (folder / "model.safetensors").stat().st_size + 1000
    weights = weights_of(folder)
    for i in range(2):
        shutil.copy(folder / "model.safetensors", folder / f"model-{i}.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(RunError, match=r"step1 claims .* bytes"):
        open_run(run_folder, max_bytes=limit).checkpoints[0].read()


@pytest.mark.parametrize(
    "shard",
    ["../../outside.safetensors", "/etc/passwd", "..\\outside.safetensors", "a/b.safetensors", "x.bin", 7, None],
)
def test_an_index_that_leads_elsewhere(shard, run_folder):
    folder = run_folder / "step1"
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(RunError, match=r"a shard is a .* file beside its index"):
        read(run_folder)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": {}}', '{"weight_map": 3}', "{", "[" * 100_000, "\xff"])
def test_an_index_that_is_none(index, run_folder):
    folder = run_folder / "step1"
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index, encoding="latin-1")
    with pytest.raises(RunError, match=r"index\.json"):
        read(run_folder)


@pytest.mark.parametrize("what", ["file", "folder", "config", "shard"])
def test_a_link_that_leads_out_of_the_run(what, run_folder, tmp_path):
    folder = run_folder / "step1"
    if what == "folder":
        shutil.move(folder, tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif what == "config":
        shutil.move(folder / "config.json", tmp_path / "config.json")
        (folder / "config.json").symlink_to(tmp_path / "config.json")
    elif what == "file":
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    else:
        (folder / "model.safetensors").unlink()
        (folder / "shard.safetensors").symlink_to(tmp_path / "outside.safetensors")
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "shard.safetensors"}}')
    with pytest.raises(RunError, match=r"leads out of .*put the file itself there if you trust it"):
        read(run_folder)


def test_links_within_the_hubs_cache_are_followed(intact, tmp_path):
    repository = tmp_path / "models--org--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in intact.iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert read(snapshot).keys() == weights_of(intact).keys()
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(intact / "model.safetensors")
    with pytest.raises(RunError, match="leads out of"):
        read(snapshot)


def test_code_that_comes_with_a_model(run_folder, tmp_path):
    config = json.loads((run_folder / "step1" / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}, "model_type": "own"}
    (run_folder / "step1" / "config.json").write_text(json.dumps(config))
    (run_folder / "step1" / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    with pytest.raises(ModelError, match=r"describes no model that can be built"):
        open_run(run_folder).standing_model()
    (run_folder / "step1" / "config.json").write_text(json.dumps(config | {"model_type": "gpt_neox"}))
    open_run(run_folder).load_model()  # a model that transformers knows without that code


def test_code_that_comes_with_a_tokenizer(run_folder, tmp_path):
    about = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["code.Own", None]}}
    (run_folder / "step1" / "tokenizer_config.json").write_text(json.dumps(about))
    (run_folder / "step1" / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be opened"):
        open_run(run_folder).standing_model()


@pytest.mark.parametrize(
    "config", ["[]", "{", '{"model_type": "nothing"}', '{"model_type": "gpt_neox", "hidden_size": "x"}']
)
def test_a_config_that_is_none(config, run_folder):
    (run_folder / "step1" / "config.json").write_text(config)
    with pytest.raises(InductionKitError, match=r"config\.json"):
        open_run(run_folder).standing_model()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_was_cut_short(name, run_folder):
    if name.endswith(".bin"):
        as_pickle(run_folder / "step1", weights_of(run_folder / "step1"))
    file = run_folder / "step1" / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=rf"{name} is cut short"):
        read(run_folder)


def test_a_checkpoint_that_is_gone(run_folder):
    run = open_run(run_folder)
    shutil.rmtree(run_folder / "step1")
    with pytest.raises(RunError, match=r"step1 is gone; copy it again, or leave it out"):
        run.checkpoints[0].read()


def test_a_project_run_with_a_file_of_ten_gigabytes(run_path, tmp_path):
    shutil.copytree(run_path, tmp_path / "copy")
    file = sorted((tmp_path / "copy" / "checkpoints").iterdir())[-1]
    sparse(file, TEN_GIGABYTES)
    with pytest.raises(RunError, match=r"claims 10,737,418,240 bytes"):
        open_run(tmp_path / "copy").load_model()


@pytest.mark.parametrize("spoil", ["index", "shard", "size", "revision"])
def test_a_hostile_hub(spoil, hub, intact, tmp_path):
    files = {path.name: path.read_bytes() for path in intact.iterdir()}
    if spoil == "size":
        files["model.safetensors"] += bytes(80 * 2**20)
    elif spoil != "revision":
        del files["model.safetensors"]
        shard = "../../../../outside.safetensors" if spoil == "index" else "model-1.safetensors"
        files["model.safetensors.index.json"] = json.dumps({"weight_map": {"w": shard}}).encode()
        files["../../../../outside.safetensors"] = b"written outside"
    hub.add("org/hostile", "../../step1" if spoil == "revision" else "step1", files)
    pattern = r".*step(?P<step>\d+)" if spoil == "revision" else None
    expected = {
        "index": "a shard is a .* file beside its index",
        "shard": r"lacks model-1\.safetensors, which its index names",
        "size": "claims .* bytes; the weights of this model take at most",
        "revision": "no revisions named like",
    }[spoil]
    with pytest.raises(RunError, match=expected):
        open_run("hf:org/hostile", pattern=pattern).checkpoints[0].read()
    assert not any("resolve" in request and "model.safetensors " in request + " " for request in hub.requests)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_hostile_transformer_lens_repository(hub, tmp_path):
    torch.save({"w": Runs(tmp_path / "ran")}, tmp_path / "weights.pth")
    config = {
        "n_layers": 1, "d_model": 8, "n_heads": 2, "d_head": 4, "n_ctx": 16, "d_vocab": 9, "d_mlp": 16,
        "act_fn": "gelu", "attn_only": True, "normalization": "LN",
    }  # fmt: skip
    files = {"config.json": json.dumps(config).encode(), "checkpoints/0_5.pth": (tmp_path / "weights.pth").read_bytes()}
    hub.add("NeelNanda/Hostile", "main", files)
    with pytest.raises(RunError, match="holds more than tensors"):
        open_run("tl:NeelNanda/Hostile").checkpoints[0].read()
