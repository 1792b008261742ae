"""The door to TransformerLens: exact logits, a model left as it was, bad input refused by name."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import slow_scores
import torch
import transformers
from architectures import D_VOCAB
from checkpoint_folders import booted, save_checkpoint
from conftest import random_model

from inductionkit.errors import ModelError
from inductionkit.lens import Lens, load_weights
from inductionkit.lens.bos import bos_of
from inductionkit.lens.from_config import standing_bridge
from inductionkit.lens.swapping import standing_copy
from inductionkit.runs import open_run
from inductionkit.scan.heads import scan_heads
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens

TOKENS = torch.randint(0, 60, (2, 30), generator=torch.Generator().manual_seed(1))


def fingerprint(model):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [len(point.fwd_hooks) for point in model.hook_dict.values()]
    return weights, modes, hooks, torch.is_grad_enabled(), torch.get_rng_state()


def assert_same(before, after):
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])


@pytest.mark.parametrize("raised", [None, ValueError, KeyboardInterrupt])
def test_the_model_leaves_as_it_came(raised):
    model = random_model().train()
    model.blocks[1].eval()  # a mode of its own must come back too
    before = fingerprint(model)

    def visit(layer, pattern, values):
        assert not pattern.requires_grad
        if raised is not None:
            raise raised("in mid-scan")

    if raised is None:
        Lens(model).visit_attention(TOKENS, visit)
    else:
        with pytest.raises(raised):
            Lens(model).visit_attention(TOKENS, visit)
    assert_same(before, fingerprint(model))


def test_nothing_after_the_last_attention_is_computed():
    model = random_model()
    computed = []
    handle = model.blocks[1].attn.o.register_forward_hook(lambda *_: computed.append("last output"))
    Lens(model).visit_attention(TOKENS, lambda *_: None)
    assert computed == []
    model(TOKENS)
    assert computed == ["last output"]
    handle.remove()


def test_token_losses_equal_the_slow_ones():
    model = random_model()
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    _, _, logits, _ = slow_scores.run(state, TOKENS[0].numpy(), 3)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -log_probabilities[np.arange(29), TOKENS[0, 1:].numpy()]
    np.testing.assert_allclose(Lens(model).token_losses(TOKENS)[0], expected, atol=1e-4)


def test_repeated_random_tokens():
    tokens = repeated_random_tokens(60, 0, PromptSettings(n_sequences=4, n_distinct=20, n_repeats=3, seed=7))
    assert tokens.shape == (4, 61)
    assert (tokens[:, 0] == 0).all()
    assert torch.equal(tokens[:, 1:21], tokens[:, 41:])
    assert all(len(set(row.tolist())) == 20 for row in tokens[:, 1:21])
    assert 0 not in tokens[:, 1:]
    assert torch.equal(tokens, repeated_random_tokens(60, 0, PromptSettings(4, 20, 3, seed=7)))
    assert repeated_random_tokens(60, None, PromptSettings(4, 20, 3)).shape == (4, 60)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Lens(torch.nn.Linear(2, 2)), "Linear is not a model that can be scored"),
        (lambda: scan_heads(random_model(d_vocab=20)), "leaves 19 tokens to draw from"),
        (lambda: scan_heads(random_model(n_ctx=64)), "prompts of 101 tokens do not fit the model's context of 64"),
        (lambda: Lens(random_model()).token_losses(torch.zeros(1, 129, dtype=torch.long)), "129 tokens do not fit"),
        (lambda: Lens(random_model()).token_losses("a string"), "2-D integer tensor .* seen str"),
        (lambda: Lens(random_model()).token_losses(torch.tensor([[0, 60]])), "0 to 60 leave the vocabulary 0 to 59"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ModelError, match=message):
        call()


def test_weights_that_are_not_finite_are_refused():
    model = random_model()
    name, parameter = list(model.named_parameters())[3]
    parameter.data.flatten()[0] = float("nan")
    with pytest.raises(ModelError, match=f"{re.escape(name)} holds NaN"):
        scan_heads(model)


def test_building_a_model_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    random_model()
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_do_not_fit_leave_the_model_unchanged():
    model = random_model()
    state = {name: tensor.numpy() for name, tensor in random_model(1).state_dict().items()}
    state["embed.weight"] = state["embed.weight"][:, :-1]
    before = fingerprint(model)
    with pytest.raises(ModelError, match=r"of another shape: embed\.weight \(60, 23\), expected \(60, 24\)"):
        load_weights(model, state)
    assert_same(before, fingerprint(model))


def test_an_older_transformer_lens_is_told_apart(monkeypatch, tmp_path):
    """TransformerLens 2 has no bridge: scores of a HookedTransformer are all it can give."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformer_lens.model_bridge", None)
    with pytest.raises(ModelError, match="training runs are loaded into a TransformerBridge"):
        random_model()
    with pytest.raises(ModelError, match="opens no Hugging Face models by folder"):
        Lens(tmp_path)


def test_a_bridge_in_training_is_scored_without_its_dropout_and_goes_on_training():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=60, n_positions=64, n_embd=16, n_layer=1, n_head=2, embd_pdrop=0.5, bos_token_id=0)
    lens = Lens(GPT2LMHeadModel(config))
    wrapped = lens.model.original_model
    wrapped.eval()
    expected = lens.token_losses(TOKENS)
    wrapped.train()
    lens.model.train()
    torch.testing.assert_close(lens.token_losses(TOKENS), expected)
    assert all(module.training for module in wrapped.modules())


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "qwen2"])
@pytest.mark.parametrize(("configured", "expected"), [(7, 7), (None, None), (D_VOCAB, None)])
def test_the_bos_of_a_model_is_the_same_through_every_door(kind, configured, expected, tmp_path):
    """The folder's tokenizer has BOS 3 throughout."""
    folder = save_checkpoint(tmp_path / "step1", kind)
    config = json.loads((folder / "config.json").read_text()) | {"bos_token_id": configured}
    (folder / "config.json").write_text(json.dumps(config))
    in_memory = transformers.AutoModelForCausalLM.from_pretrained(folder)
    doors = {
        "folder": folder,
        "bridge": booted(folder),
        "model in memory": in_memory,
        "copy of a model in memory": standing_copy(in_memory),
        "copy of a bridge": standing_copy(booted(folder)),
        "bridge for a checkpoint": standing_bridge(folder),
        "run": open_run(tmp_path).load_model(),
    }
    assert {door: Lens(model).bos for door, model in doors.items()} == dict.fromkeys(doors, expected)


@pytest.mark.parametrize(
    ("configured", "tokenizer", "expected"),
    [
        ({"bos_token_id": [5, 6]}, 3, 5),
        ({"bos_token_id": []}, 3, None),
        ({"bos_token_id": 0}, 3, 0),
        ({"bos_token_id": -1}, 3, None),
        ({}, 3, None),
        (None, 3, 3),
        (None, 60, None),
        (None, None, 0),
    ],
)
def test_the_configuration_comes_before_the_tokenizer_for_bos(configured, tokenizer, expected):
    model = SimpleNamespace(
        cfg=SimpleNamespace(d_vocab=60),
        original_model=SimpleNamespace(
            config=None if configured is None else transformers.PretrainedConfig(**configured)
        ),
        tokenizer=None if tokenizer is None else SimpleNamespace(bos_token_id=tokenizer),
    )
    assert bos_of(model) == expected


def test_weights_that_do_not_fit_are_named_with_what_was_there_instead():
    model = random_model()
    weights = dict(model.state_dict())
    weights["wte"], weights["blocks.2.extra"] = weights.pop("embed.weight"), torch.zeros(2)
    for layer in range(2):
        weights.pop(f"blocks.{layer}.attn.q.weight"), weights.pop(f"blocks.{layer}.attn.k.weight")
    with pytest.raises(ModelError) as raised:
        load_weights(model, weights)
    assert str(raised.value) == (
        "the weights do not fit the model; missing: blocks.0.attn.k.weight (24, 24), blocks.0.attn.q.weight (24, 24), "
        "blocks.1.attn.k.weight (24, 24) and 2 more; not in the model: blocks.2.extra (2,), wte (60, 24). Check that "
        "the checkpoint is one of this model"
    )
