"""Scores against a slow second implementation, a hand-built model, and relations that must hold."""

from __future__ import annotations

import numpy as np
import pytest
import slow_scores
import torch
from conftest import SHAPE, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from inductionkit.scan.heads import DEFAULT_SCORES, scan_heads
from inductionkit.scores import on_prompts as scores
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import perfect_induction_model

TEXT = torch.randint(0, 60, (3, 40), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def hand_built():
    return scan_heads(perfect_induction_model(), held_out=torch.randint(0, 40, (4, 60)))


def test_hand_built_heads_are_perfect(hand_built):
    assert hand_built.prefix_matching.sel(layer=1, head=0) == pytest.approx(1.0, abs=1e-4)
    assert hand_built.copying.sel(layer=1, head=0) == pytest.approx(1.0, abs=1e-4)
    assert hand_built.previous_token.sel(layer=0, head=0) == pytest.approx(1.0, abs=1e-4)


def test_idle_heads_score_what_even_attention_gives(hand_built):
    """Heads of zeros attend evenly: to the followers, of `k` earlier copies, with `k / (i + 1)`."""
    even = np.mean([((i - 1) // 25) / (i + 1) for i in range(26, 101)])
    for layer in (0, 1):
        assert hand_built.prefix_matching.sel(layer=layer, head=1) == pytest.approx(even, abs=1e-4)
        assert hand_built.logit_lift.sel(layer=layer, head=1) == pytest.approx(0.0, abs=1e-6)
        assert np.isnan(hand_built.copying.sel(layer=layer, head=1))  # raises nothing: undefined, not 0
    assert hand_built.prefix_matching.sel(layer=0, head=0) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_fast_scores_equal_the_slow_ones(seed):
    model = random_model(seed)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    settings_ = PromptSettings(n_sequences=2, n_distinct=12, n_repeats=3, seed=seed)
    fast = scan_heads(model, held_out=TEXT, prompts=settings_)
    tokens = repeated_random_tokens(SHAPE["d_vocab"], 0, settings_).numpy()
    slow = {name: np.zeros((2, 3)) for name in DEFAULT_SCORES if name not in ("direct_lift", "total_lift")}
    runs = [slow_scores.run(state, row, 3) for row in tokens]
    texts = [slow_scores.run(state, row, 3) for row in TEXT.numpy()]
    for layer in range(2):
        for head in range(3):
            at = (layer, head)
            matched = [slow_scores.prefix_matching(p[layer][head], row) for (p, _, _, _), row in zip(runs, tokens)]
            repeated = [slow_scores.duplicate_token(p[layer][head], row) for (p, _, _, _), row in zip(runs, tokens)]
            slow["prefix_matching"][at] = np.mean(matched)
            slow["duplicate_token"][at] = np.mean(repeated)
            slow["previous_token"][at] = np.mean([np.diagonal(p[layer][head], -1) for p, _, _, _ in texts])
            first = slice(1, 13)
            terms = [
                slow_scores.copying_terms(
                    p[layer][head][first, first], v[layer][head][first], row[first], state, s[first]
                )
                for (p, v, _, s), row in zip(runs, tokens)
            ]
            attended, sample = sum(t[0] for t in terms), sum(t[1] for t in terms)
            slow["copying"][at] = 4 * attended / (attended + sample) - 1
            slow["logit_lift"][at] = np.mean([t[2] for t in terms])
    for name in slow:  # the lifts are compared in test_architectures
        np.testing.assert_allclose(fast[name], slow[name], atol=1e-5, err_msg=name)


def test_a_wrong_bos_would_show():
    """A head built for the BOS token in front scores lower on prompts read one position off."""
    pattern = torch.zeros(1, 1, 5, 5)
    tokens = torch.tensor([[9, 1, 2, 1, 2]])
    pattern[0, 0, 3, 2] = pattern[0, 0, 4, 3] = 1.0
    assert scores.prefix_matching(pattern, tokens).item() == 1.0
    assert scores.prefix_matching(pattern.roll(1, 2), tokens).item() == 0.0
    assert scores.duplicate_token(pattern, tokens).item() == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_stay_in_range_and_ignore_what_they_must(seed):
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.rand(2, 3, 12, 12, generator=generator).tril()
    pattern /= pattern.sum(-1, keepdim=True)
    tokens = torch.randint(0, 5, (2, 12), generator=generator)
    lift = torch.randn(2, 3, 12, 12, generator=generator)
    for score in (
        scores.prefix_matching(pattern, tokens),
        scores.duplicate_token(pattern, tokens),
        scores.previous_token(pattern),
    ):
        assert ((score >= 0) & (score <= 1 + 1e-6)).all()
    copying = scores.copying(pattern, lift)
    assert ((copying >= -1) & (copying <= 1)).all()
    renamed = torch.randperm(5, generator=generator)[tokens]
    torch.testing.assert_close(scores.prefix_matching(pattern, renamed), scores.prefix_matching(pattern, tokens))
    order = torch.randperm(3, generator=generator)
    torch.testing.assert_close(scores.copying(pattern[:, order], lift[:, order]), copying[order])


def test_copying_of_a_suppressor_is_minus_one():
    pattern = torch.full((1, 1, 4, 4), 0.25)
    lift = 1.0 - 2.0 * torch.eye(4)[None, None]
    assert scores.copying(pattern, lift).item() == -1.0
    assert scores.copying(pattern, -lift).item() == 1.0
    own = lift.diagonal(dim1=2, dim2=3)[:, :, None].expand(-1, -1, 4, -1)  # the same at every query
    assert scores.logit_lift(pattern, own).item() == pytest.approx(-1.0)
