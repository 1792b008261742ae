"""Weights swapped into one standing model: it must be the model that is booted afresh."""

from __future__ import annotations

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from architectures import D_VOCAB, randomised, save
from checkpoint_folders import BOS, TOKENS, booted, logits, save_checkpoint
from safetensors.torch import load_file

import inductionkit as ik
from inductionkit.errors import ModelError
from inductionkit.lens.from_config import standing_bridge
from inductionkit.lens.swapping import _file_names, standing_copy, swap_weights
from inductionkit.runs import open_run

pytest_plugins = ("run_fixtures",)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "bloom", "phi3", "falcon"])
def test_a_swapped_model_is_the_freshly_booted_one(kind, tmp_path):
    for step in (0, 1, 2):
        save_checkpoint(tmp_path / f"step{step}", kind, seed=step)
    run = open_run(tmp_path)
    standing = run.standing_model()
    for step in (1, 2, 0):
        run.checkpoint(step).load_into(standing)
    fresh = booted(tmp_path / "step0")
    torch.testing.assert_close(logits(standing), logits(fresh), atol=1e-6, rtol=0)
    other = logits(booted(tmp_path / "step2"))
    assert (logits(standing) - other).abs().max() > 1e-2
    seen = ik.scan_heads(standing, held_out=TOKENS, scores="all", progress=False)
    expected = ik.scan_heads(fresh, held_out=TOKENS, scores="all", progress=False)
    for name in expected.data_vars:
        np.testing.assert_allclose(seen[name], expected[name], atol=1e-6, rtol=0, err_msg=name)


def test_weights_that_transformers_rearranges(tmp_path):
    """Mixtral's files hold an expert a tensor, its module all experts in one."""
    config = transformers.MixtralConfig(
        vocab_size=D_VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, num_local_experts=3, max_position_embeddings=128, bos_token_id=BOS, eos_token_id=None,
    )  # fmt: skip
    for step in (0, 1):
        with torch.random.fork_rng():
            model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        save(randomised(model, seed=step), tmp_path / f"step{step}")
    assert any("experts.2" in name for name in load_file(tmp_path / "step1" / "model.safetensors"))
    run = open_run(tmp_path)
    torch.testing.assert_close(logits(run.load_model(1)), logits(booted(tmp_path / "step1")), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("embed_out.weight"), r"missing: lm_head\.weight \(96, 24\)\."),
        (lambda w: w.update(extra=torch.ones(3)), r"not in the model: extra \(3,\)\."),
        (
            lambda w: w.update(unembed=w.pop("embed_out.weight")),
            r"missing: lm_head\.weight \(96, 24\); not in the model: unembed \(96, 24\)\.",
        ),
        (
            lambda w: w.update({"embed_out.weight": torch.ones(5, 24)}),
            r"of another shape: lm_head\.weight \(5, 24\), expected \(96, 24\)\.",
        ),
        (lambda w: w.update({"embed_out.weight": torch.ones(96, 24, dtype=torch.int8)}), "quantised"),
    ],
)
def test_weights_that_do_not_fit_leave_the_model_as_it_was(steps, change, message):
    run = open_run(steps)
    standing = run.load_model(0)
    before = logits(standing)
    weights = dict(run.checkpoint(1000).read())
    change(weights)
    with pytest.raises(ModelError, match=message) as raised:
        run.checkpoint(1000).load_into(standing, weights)
    assert "step1000" in str(raised.value)
    assert torch.equal(logits(standing), before)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_files_as_old_as_the_published_checkpoints(kind, tmp_path):
    """Masks and rotary frequencies beside the weights, and for GPT-2 names without the model's prefix."""
    folder = save_checkpoint(tmp_path / "step1", kind)
    weights = load_file(folder / "model.safetensors")
    attention = {"gpt2": "transformer.h.0.attn", "gpt_neox": "gpt_neox.layers.0.attention"}[kind]
    weights |= {
        f"{attention}.bias": torch.ones(1, 1, 128, 128, dtype=torch.uint8),
        f"{attention}.masked_bias": torch.tensor(-1e9),
    }
    if kind == "gpt_neox":
        weights[f"{attention}.rotary_emb.inv_freq"] = torch.ones(2)
    else:
        weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    run = open_run(tmp_path)
    standing = run.standing_model()
    run.checkpoints[0].load_into(standing, weights)
    torch.testing.assert_close(logits(standing), logits(booted(folder)), atol=1e-6, rtol=0)


def test_a_bridge_with_copies_that_swapping_does_not_reach_is_refused(steps):
    bridge = standing_bridge(steps / "step0")
    bridge.blocks[0].register_parameter("copied", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(ModelError, match=r"keeps a copy of weights in .*copied"):
        standing_copy(bridge)


def test_a_folded_bridge_is_refused(steps):
    bridge = booted(steps / "step0")
    bridge.enable_compatibility_mode()
    with pytest.raises(ModelError, match="were folded"):
        swap_weights(bridge, load_file(steps / "step0" / "model.safetensors"))


def test_swapping_draws_no_random_numbers(steps):
    run = open_run(steps)
    state = torch.random.get_rng_state()
    run.load_model(500)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("transformers_shown", [True, False])
@pytest.mark.parametrize("hub_shown", [True, False])
def test_swapping_leaves_progress_bars_and_messages_as_they_were(transformers_shown, hub_shown, steps):
    logging, hub = transformers.utils.logging, huggingface_hub.utils
    before = logging.is_progress_bar_enabled(), not hub.are_progress_bars_disabled(), logging.get_verbosity()

    def show(in_transformers: bool, in_hub: bool) -> None:
        (logging.enable_progress_bar if in_transformers else logging.disable_progress_bar)()
        (hub.enable_progress_bars if in_hub else hub.disable_progress_bars)()

    try:
        show(transformers_shown, hub_shown)
        _file_names.cache_clear()
        open_run(steps).load_model(500)
        assert logging.is_progress_bar_enabled() == transformers_shown
        assert hub.are_progress_bars_disabled() == (not hub_shown)
        assert logging.get_verbosity() == before[2]
    finally:
        show(*before[:2])


def test_models_of_other_kinds_take_weights_under_their_own_names():
    """As a `HookedTransformer` does: buffers come along in its state, and stay as they are."""
    standing, other = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    torch.nn.init.normal_(other.weight)
    other.running_mean += 1
    swap_weights(standing, other.state_dict())
    assert torch.equal(standing.weight, other.weight) and not standing.running_mean.any()
    with pytest.raises(ModelError, match=r"another shape: bias \(4,\), expected \(3,\), weight \(4,\)"):
        swap_weights(standing, torch.nn.BatchNorm1d(4).state_dict())
