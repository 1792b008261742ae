"""Scanning one model: which scores and heads, their nulls, invariances, and a model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SHAPE, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lens import assert_same, fingerprint

from inductionkit import induction_heads
from inductionkit.errors import ModelError
from inductionkit.lens import Lens, reinitialised
from inductionkit.scan.heads import DEFAULT_SCORES, scan_heads
from inductionkit.scores import on_prompts as head_scores
from inductionkit.scores.nulls import surprise
from inductionkit.scores.prompts import PromptSettings
from inductionkit.scores.score import SCORES as HEAD_SCORES
from inductionkit.scores.score import names_from
from inductionkit.testing import perfect_induction_model

TEXT = torch.randint(0, 60, (3, 40), generator=torch.Generator().manual_seed(5))
SHORT = PromptSettings(n_sequences=3, n_distinct=12, n_repeats=3)


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def everything(model):
    return scan_heads(model, TEXT, scores="all", n_nulls=3, prompts=SHORT)


def assert_scores_agree(found, expected, names=HEAD_SCORES, rtol=1e-4):
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-5, err_msg=name)


def test_scores_are_what_was_asked_for(model, everything):
    assert set(HEAD_SCORES) | {f"{name}_null" for name in HEAD_SCORES} == set(everything.data_vars)
    assert set(scan_heads(model, TEXT, prompts=SHORT).data_vars) == set(DEFAULT_SCORES)
    two = scan_heads(model, scores=("ov_copying", "prefix_matching"), prompts=SHORT)
    assert list(two.data_vars) == ["ov_copying", "prefix_matching"]
    assert_scores_agree(two, everything, two.data_vars)


def test_heads_are_what_was_asked_for(model, everything):
    some = scan_heads(model, TEXT, scores="all", heads=[(1, 2), (0, 1), (1, 0)], prompts=SHORT)
    chosen = np.zeros((2, 3), dtype=bool)
    chosen[1, 2] = chosen[0, 1] = chosen[1, 0] = True
    for name in HEAD_SCORES:
        assert np.isnan(some[name].values[~chosen]).all(), name
        np.testing.assert_allclose(some[name].values[chosen], everything[name].values[chosen], rtol=1e-5, atol=1e-6)


def test_the_pass_stops_at_the_last_head_asked_about(model):
    computed = []
    handle = model.blocks[0].attn.o.register_forward_hook(lambda *_: computed.append("output of layer 0"))
    scan_heads(model, scores=["prefix_matching", "copying"], heads=[(0, 1)], prompts=SHORT)
    assert computed == []
    handle.remove()


def test_batches_change_nothing(model, everything):
    assert len(Lens(model).batches(TEXT, 1)) == len(TEXT)
    in_ones = scan_heads(model, TEXT, scores="all", prompts=SHORT, max_bytes=1)
    assert_scores_agree(in_ones, everything)


def test_what_is_unknown_says_why(model):
    without = scan_heads(model, scores="all", prompts=SHORT)
    assert np.isnan(without.previous_token).all() and np.isnan(without.qk_trace).all()
    assert "no text was given" in without.attrs["unscored"]
    assert "unscored" not in scan_heads(model, TEXT, scores="all", prompts=SHORT).attrs


def test_a_null_model_stays_in_its_null(model, everything):
    null = scan_heads(reinitialised(model, seed=99), TEXT, scores="all", prompts=SHORT)
    for name in HEAD_SCORES:
        known = null[name].values[np.isfinite(null[name])]
        # Six heads against eighteen: were any as far out as 1 in 19 at both ends, the null would not be theirs.
        p = surprise(known, everything[f"{name}_null"].values)
        assert 0.05 < np.median(p) < 0.95, (name, p)
    assert induction_heads(null, 0.3).empty


def test_a_perfect_induction_head_is_beyond_its_null():
    scores = scan_heads(perfect_induction_model(), n_nulls=5)
    heads = induction_heads(scores)
    assert heads.index.tolist() == [(1, 0)]
    assert heads.prefix_matching_p.item() == heads.copying_p.item() == pytest.approx(1 / 21)


def test_surprise():
    null = np.array([0.0, 1.0, 2.0, np.nan])
    np.testing.assert_allclose(surprise(np.array([-1.0, 1.0, 2.5]), null), [1.0, 0.75, 0.25])


def test_reinitialising_keeps_scale_and_seed(model):
    before = fingerprint(model)
    null, again, other = reinitialised(model, 1), reinitialised(model, 1), reinitialised(model, 2)
    assert_same(before, fingerprint(model))
    for (name, old), new, same, different in zip(
        model.named_parameters(), null.parameters(), again.parameters(), other.parameters()
    ):
        assert torch.equal(new, same)
        if old.ndim >= 2:
            assert not torch.equal(new, different)
            assert new.std().item() == pytest.approx(old.std().item(), rel=0.2), name
        else:
            assert torch.equal(new, old)


@pytest.mark.parametrize("raised", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_leaves_as_it_came(raised, monkeypatch):
    model = random_model().train()
    model.blocks[1].eval()
    before = fingerprint(model)
    if raised is None:
        scan_heads(model, TEXT, scores="all", n_nulls=1, prompts=SHORT)
    else:
        layers, original = [], head_scores.raised_on_attended

        def interrupt(*arguments):
            layers.append(len(layers))
            if layers == [0, 1]:
                raise raised("in mid-scan")
            return original(*arguments)

        monkeypatch.setattr(head_scores, "raised_on_attended", interrupt)
        with pytest.raises(raised):
            scan_heads(model, TEXT, scores="all", prompts=SHORT)
    assert_same(before, fingerprint(model))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_what_no_probability_notices_changes_no_score(seed, shift):
    model = random_model(seed)
    expected = scan_heads(model, TEXT, scores="all", prompts=SHORT)
    state = model.state_dict()
    direction = torch.randn(SHAPE["d_model"], generator=torch.Generator().manual_seed(seed))
    state["unembed.weight"] += shift * direction  # the same for every token: all logits move together
    state["blocks.0.attn.v.bias"] += 1.0
    state["blocks.1.attn.v.bias"] -= 1.0
    model.load_state_dict(state)
    weights = [name for name in names_from("weights") if name != "qk_trace"]  # the bias does move what layer 1 sees
    assert_scores_agree(scan_heads(model, scores=weights, prompts=SHORT), expected, weights, rtol=1e-3)
    names = [name for name in DEFAULT_SCORES if "lift" not in name]  # biases move the residual stream's scale
    layer_0 = scan_heads(model, TEXT, scores=names, prompts=SHORT).isel(layer=0)
    assert_scores_agree(layer_0, expected.isel(layer=0), names, rtol=1e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(3)))
def test_permuting_heads_permutes_scores(seed, order):
    model = random_model(seed)
    expected = scan_heads(model, TEXT, scores="all", prompts=SHORT)
    state, d_head = model.state_dict(), SHAPE["d_head"]
    rows = torch.cat([torch.arange(head * d_head, (head + 1) * d_head) for head in order])
    for layer in range(2):
        for name in "qkv":
            for part in ("weight", "bias"):
                key = f"blocks.{layer}.attn.{name}.{part}"
                state[key] = state[key][rows]
        state[f"blocks.{layer}.attn.o.weight"] = state[f"blocks.{layer}.attn.o.weight"][:, rows]
    model.load_state_dict(state)
    permuted = scan_heads(model, TEXT, scores="all", prompts=SHORT)
    assert_scores_agree(permuted, expected.isel(head=list(order)), rtol=1e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_permuting_the_vocabulary_leaves_weight_scores(seed):
    model = random_model(seed)
    state = model.state_dict()
    order = torch.randperm(SHAPE["d_vocab"], generator=torch.Generator().manual_seed(seed))
    expected = scan_heads(model, scores=names_from("weights"))
    state["embed.weight"], state["unembed.weight"] = state["embed.weight"][order], state["unembed.weight"][order]
    model.load_state_dict(state)
    assert_scores_agree(scan_heads(model, scores=names_from("weights")), expected, names_from("weights"), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": [(3, 1)]}, r"heads=\[\(3, 1\)\] names layer 3; this model has layers 0..1"),
        ({"heads": [(1, 3)]}, r"names head 1.3; this model has heads 0..2"),
        ({"heads": []}, "names no head"),
        ({"scores": "prefix_matching"}, "there are prefix_matching, .* or 'all' of them"),
        ({"scores": ("induction",)}, r"scores=\('induction',\): there are prefix_matching"),
        ({"scores": ("ov_copying",), "effective_embedding": True}, "needs an MLP in the first block"),
        (
            {"held_out": torch.zeros(1, 4, dtype=torch.long, device="meta")},
            r"held_out is a tensor without values \(meta",
        ),
    ],
)
def test_bad_requests_are_refused(model, arguments, message):
    with pytest.raises(ModelError, match=message):
        scan_heads(model, **arguments)


def test_a_half_loaded_model_is_refused(model):
    hollow = random_model()
    hollow.blocks[1].attn.v.to("meta")
    with pytest.raises(ModelError, match=r"has no values \(meta device\); load the weights"):
        scan_heads(hollow)


def test_prompts_longer_than_the_context_are_refused_with_what_to_do():
    model = random_model(n_ctx=64)
    with pytest.raises(ModelError, match=r"prompts of 101 tokens .* context of 64; .*PromptSettings\(n_distinct=12\)"):
        scan_heads(model, scores=["prefix_matching"])
    found = scan_heads(model, scores=["prefix_matching"], prompts=PromptSettings(n_distinct=12))
    assert np.isfinite(found["prefix_matching"]).all()
