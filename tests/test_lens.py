"""The door to TransformerLens: exact logits, a model left as it was, bad input refused by name."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import slow_scores
import torch
from conftest import random_model

from inductionkit.errors import ModelError
from inductionkit.lens import Lens, load_weights
from inductionkit.scan.head_scan import scan_heads
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
    _, _, logits = slow_scores.run(state, TOKENS[0].numpy(), 3)
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
        (lambda: scan_heads(random_model(d_vocab=20)), "leaves 19 to draw from, fewer than n_distinct=25"),
        (lambda: scan_heads(random_model(n_ctx=64)), "prompts of 101 tokens do not fit the model's context of 64"),
        (lambda: scan_heads(random_model(), text=torch.zeros(1, 129, dtype=torch.long)), "129 tokens do not fit"),
        (lambda: scan_heads(random_model(), text="a string"), "2-D integer tensor .* seen str"),
        (lambda: scan_heads(random_model(), text=torch.tensor([[0, 60]])), "0 to 60 leave the vocabulary 0 to 59"),
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
    with pytest.raises(ModelError, match=r"embed\.weight: seen \(60, 23\), expected \(60, 24\)"):
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
