"""Every score on every architecture, raw and folded, against a slow implementation on the Hugging Face module."""

from __future__ import annotations

import copy
import itertools
import json
from functools import cached_property

import numpy as np
import pytest
import slow_architectures as slow_side
import torch
import transformers
from architectures import CONFIGS, D_VOCAB, UNUSUAL, bos_of, random_hugging_face_model, randomised, save
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge import TransformerBridge

from inductionkit.ablation import scan_ablations
from inductionkit.ablation.losses import KINDS
from inductionkit.errors import ModelError
from inductionkit.lens import open_model
from inductionkit.runs import open_run
from inductionkit.scan.heads import DEFAULT_SCORES, scan_heads
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens

PROMPTS = PromptSettings(n_sequences=2, n_distinct=10, n_repeats=3)
TEXT = torch.randint(0, D_VOCAB, (2, 30), generator=torch.Generator().manual_seed(5))
WEIGHT_SCORES = ("ov_copying", "qk_trace", "k_composition", "q_composition", "v_composition")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def close(name: str) -> dict[str, float]:
    """How close a score must be to the slow one; parts of some models compute in float32, which whole passes show."""
    return CLOSE | {"atol": 1e-4} if name == "total_lift" else CLOSE


class Architecture:
    """One architecture: its Hugging Face model, the same taken apart, and bridges with raw and folded weights."""

    def __init__(self, name, folder):
        self.name = name
        self.model = random_hugging_face_model(name)
        self.folder = save(self.model, folder)
        self.slow = slow_side.SlowModel(copy.deepcopy(self.model))

    @cached_property
    def raw(self):
        return open_model(self.folder)

    @cached_property
    def folded(self):
        bridge = open_model(self.folder)
        bridge.enable_compatibility_mode()
        return bridge

    @cached_property
    def expected(self):
        bos = bos_of(self.name)
        prompts = repeated_random_tokens(D_VOCAB, bos, PROMPTS).numpy()
        found = slow_side.pass_scores(self.slow, prompts, TEXT.numpy(), bos, PROMPTS.n_distinct)
        found |= slow_side.compositions(self.slow)
        found["ov_copying"] = slow_side.ov_copying(self.slow)
        found["qk_trace"] = slow_side.qk_trace(self.slow, found["previous_token"])
        return found


@pytest.fixture(scope="module", params=[*CONFIGS, *UNUSUAL])
def architecture(request, tmp_path_factory):
    return Architecture(request.param, tmp_path_factory.mktemp(request.param))


def test_slow_side_reads_the_weights_that_the_model_uses(architecture):
    """Attention's output is what the slow side says but for one constant vector, and so are attention scores but for
    what depends on the query or on the key alone: biases, and ALiBi's slopes. Rotations are off at position 0."""
    slow = architecture.slow
    has_no_rotation = architecture.name in ("bloom", "falcon new decoder, one norm")
    at_zero = {} if has_no_rotation else {"position_ids": torch.zeros(1, TEXT.shape[1], dtype=torch.long)}
    run = slow.run(TEXT[0].numpy(), attention_mask=torch.ones(1, TEXT.shape[1]), **at_zero)
    for layer, (pattern, read, written) in enumerate(zip(run.patterns, run.read, run.written)):
        query, key, _, output = slow.weights(layer)
        constant = written - (pattern @ slow.values(layer, read) @ output).sum(0)
        np.testing.assert_allclose(constant, np.broadcast_to(constant[0], constant.shape), atol=1e-5)
        if not slow.norms_queries:
            late, early = slice(10, None), slice(0, 10)  # every such query sees every such key
            scores = centred_twice(np.log(pattern[:, late, early]))
            matched = centred_twice(read[late] @ query @ (read[early] @ key).swapaxes(1, 2))
            for head in range(slow.n_heads):  # Gemma 2 caps scores softly: straight to 1e-3
                assert np.corrcoef(scores[head].ravel(), matched[head].ravel())[0, 1] > 0.999


def centred_twice(matrices):
    matrices = matrices - matrices.mean(-1, keepdims=True)
    return matrices - matrices.mean(-2, keepdims=True)


@pytest.mark.parametrize("weights", ["raw", "folded"])
def test_every_score_equals_the_slow_one(architecture, weights):
    names = (*DEFAULT_SCORES, *WEIGHT_SCORES)
    found = scan_heads(getattr(architecture, weights), TEXT, scores=names, prompts=PROMPTS)
    assert architecture.expected.keys() == set(names)
    for name in names:
        np.testing.assert_allclose(found[name], architecture.expected[name], **close(name), err_msg=name)


@pytest.mark.parametrize("weights", ["raw", "folded"])
def test_effective_embedding_equals_a_first_block_without_attention(architecture, weights):
    found = scan_heads(getattr(architecture, weights), scores=["ov_copying"], effective_embedding=True)
    expected = slow_side.ov_copying(architecture.slow, effective=True)
    assert not np.allclose(expected, architecture.expected["ov_copying"], **CLOSE)
    np.testing.assert_allclose(found.ov_copying, expected, **CLOSE)


@pytest.mark.parametrize("source", ["folder", "model"])
def test_folders_and_hugging_face_models_score_like_the_bridge(architecture, source):
    before = {name: tensor.clone() for name, tensor in architecture.model.state_dict().items()}
    architecture.model.config.architectures = None  # as in a model that was never saved
    found = scan_heads(getattr(architecture, source), TEXT, prompts=PROMPTS)
    for name in DEFAULT_SCORES:
        np.testing.assert_allclose(found[name], architecture.expected[name], **close(name), err_msg=name)
    after = architecture.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert architecture.model.config.architectures is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNUSUAL)
def test_ablations_of_unusual_attention_equal_the_slow_ones(name, kind, monkeypatch):
    model = random_hugging_face_model(name)
    slow = slow_side.SlowModel(copy.deepcopy(model))
    heads = [(0, 1), (1, 0), (2, 2)]
    found = scan_ablations(model, TEXT, heads, kind, progress=False)
    if kind == "pattern_preserving":
        # The softmax makes the pattern, once a layer: it gives the clean ones.
        with torch.no_grad():
            clean = itertools.cycle(slow.model(TEXT, output_attentions=True, use_cache=False).attentions)
        softmax = torch.nn.functional.softmax
        monkeypatch.setattr(
            torch.nn.functional, "softmax", lambda x, *args, **kw: next(clean) if x.ndim == 4 else softmax(x, *args)
        )
    expected = [slow.loss_without(TEXT, layer, head) for layer, head in heads]
    np.testing.assert_allclose(found.loss, expected, atol=1e-5)


@pytest.mark.parametrize("name", UNUSUAL)
def test_checkpoints_of_unusual_attention_score_like_models(name):
    models = [random_hugging_face_model(name, seed) for seed in range(2)]
    run = open_run([(step, model.state_dict) for step, model in enumerate(models)], model=models[0])
    found = scan_heads(run, TEXT, scores="all", prompts=PROMPTS, progress=False)
    for step, model in enumerate(models):
        expected = scan_heads(model, TEXT, scores="all", prompts=PROMPTS)
        for score in expected.data_vars:
            np.testing.assert_allclose(found[score].sel(step=step), expected[score], atol=1e-6, err_msg=score)


def test_the_adapters_of_transformer_lens_are_left_as_they_were():
    registered = dict(ArchitectureAdapterFactory._adapters)
    open_model(random_hugging_face_model("codegen"))
    assert ArchitectureAdapterFactory._adapters == registered


def test_a_folder_needs_no_tokenizer(tmp_path):
    model = random_hugging_face_model("mistral")
    model.save_pretrained(tmp_path / "without")
    found = scan_heads(str(tmp_path / "without"), prompts=PROMPTS)
    expected = scan_heads(save(model, tmp_path / "with"), prompts=PROMPTS)
    np.testing.assert_array_equal(found.prefix_matching, expected.prefix_matching)


def test_low_precision_weights_are_scored_in_float32(tmp_path):
    """Scores of weights equal those of the same weights kept in float32; attention itself is the model's business."""
    rounded = random_hugging_face_model("llama").to(torch.bfloat16).float()
    folder = str(save(rounded, tmp_path))
    exact = TransformerBridge.boot_transformers(folder, device="cpu")
    low = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.bfloat16)
    names = (*DEFAULT_SCORES, *WEIGHT_SCORES)
    found, expected = (scan_heads(model, TEXT, scores=names, prompts=PROMPTS) for model in (low, exact))
    for name in ("ov_copying", "k_composition", "q_composition", "v_composition"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for name in ("prefix_matching", "duplicate_token", "previous_token"):
        np.testing.assert_allclose(found[name], expected[name], atol=0.02, err_msg=name)
    for name in ("copying", "logit_lift"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0.05, atol=0.05, err_msg=name)
    assert np.isfinite(found.qk_trace[1:]).all()


_SMALL = dict(
    vocab_size=D_VOCAB,
    num_hidden_layers=2,
    hidden_size=24,
    num_attention_heads=3,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
)
_HEADS = dict(_SMALL, num_key_value_heads=3, head_dim=8, intermediate_size=48, max_position_embeddings=128)

# Models of which patterns are known, but of whose heads neither weights nor values say what they write.
INDIRECT = {
    "a gate on outputs": (transformers.Qwen3_5TextConfig(**_HEADS, layer_types=["full_attention"] * 2), "a gate or"),
    "a norm of values": (
        transformers.Gemma4TextConfig(**_HEADS, global_head_dim=8, hidden_size_per_layer_input=0),
        "or a norm",
    ),
    "a norm of outputs": (transformers.BitNetConfig(**_HEADS), "or a norm"),
    "a bias of latent vectors": (
        transformers.DeepseekV3Config(**UNUSUAL["deepseek_v3"][1], vocab_size=D_VOCAB, attention_bias=True),
        "have a bias",
    ),
    "norms in the residual stream": (
        transformers.OPTConfig(**_SMALL, ffn_dim=48, word_embed_proj_dim=12, do_layer_norm_before=False),
        "more than one final norm",
    ),
    "layers before the unembedding": (
        transformers.ModernBertDecoderConfig(**_HEADS, global_attn_every_n_layers=1),
        "more than one final norm",
    ),
}


@pytest.mark.parametrize("name", INDIRECT)
def test_what_a_head_writes_is_unknown_where_more_than_weights_decide_it(name):
    config, why = INDIRECT[name]
    model = randomised(transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval())
    found = scan_heads(model, TEXT, scores="all", prompts=PROMPTS)
    known = {"prefix_matching", "duplicate_token", "previous_token", "loss_effect"}
    reasons = json.loads(found.unscored)
    if why == "more than one final norm":  # gradients pass any number of norms
        known |= {"total_lift"}
    else:
        assert why in next(told for key, told in reasons.items() if "total_lift" in key)
    assert all(found[score].isnull().all() != (score in known) for score in found.data_vars)
    [(blocked, told)] = [(key, told) for key, told in reasons.items() if "ov_copying" in key]
    assert why in told and all(score in blocked for score in found.data_vars if score not in known | {"total_lift"})
    with torch.no_grad():
        patterns = model(TEXT, output_attentions=True, use_cache=False).attentions
    expected = [pattern.diagonal(-1, 2, 3).mean((0, 2)) for pattern in patterns]
    np.testing.assert_allclose(found.previous_token, torch.stack(expected), atol=1e-5)


NOT_DECODERS = {
    "BertForMaskedLM": transformers.BertConfig(**_SMALL, intermediate_size=48),
    "T5ForConditionalGeneration": transformers.T5Config(
        vocab_size=D_VOCAB, d_model=24, d_kv=8, d_ff=48, num_layers=2, num_heads=3
    ),
    "MambaForCausalLM": transformers.MambaConfig(vocab_size=D_VOCAB, num_hidden_layers=2, hidden_size=24, state_size=4),
}


@pytest.mark.parametrize("name", NOT_DECODERS)
def test_what_has_no_causal_attention_is_refused_by_name(name, tmp_path):
    model = randomised(getattr(transformers, name)(NOT_DECODERS[name]).eval())
    bridge = TransformerBridge.boot_transformers(str(save(model, tmp_path)), device="cpu")
    with pytest.raises(ModelError, match=name.removesuffix("ForCausalLM")):
        scan_heads(bridge)


REFUSED = {
    "HeliumForCausalLM": transformers.HeliumConfig(**_HEADS),
    "GPTBigCodeForCausalLM": transformers.GPTBigCodeConfig(
        vocab_size=D_VOCAB, n_embd=24, n_layer=2, n_head=3, multi_query=False
    ),
    "RecurrentGemmaForCausalLM": transformers.RecurrentGemmaConfig(
        **_SMALL, lru_width=24, block_types=("recurrent", "attention")
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_transformer_lens_cannot_take_apart_are_refused_by_name(name):
    model = getattr(transformers, name)(REFUSED[name]).eval()
    for scan in (
        lambda: scan_heads(model),
        lambda: scan_ablations(model, TEXT, progress=False),
        lambda: scan_heads(open_run([(0, model.state_dict)], model=model), progress=False),
    ):
        with pytest.raises(ModelError, match=rf"TransformerLens \S+ .*{name}"):
            scan()


def test_a_pass_that_fails_names_the_architecture_and_what_failed(tmp_path):
    """TransformerLens opens CodeGen by itself, and fails when it runs it."""
    folder = save(random_hugging_face_model("codegen"), tmp_path)
    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")
    with pytest.raises(AttributeError):
        bridge(TEXT)
    with pytest.raises(ModelError, match=r"CodeGenForCausalLM cannot be run.*embed_positions") as raised:
        scan_heads(bridge)
    assert isinstance(raised.value.__cause__, AttributeError)
