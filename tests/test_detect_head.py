"""What our attention scores and TransformerLens' `detect_head` have in common, and where they part.

Both look for the same query-key pairs. `detect_head` divides the attention on them by all attention,
one unit a query; ours averages over the queries that have a target. So with `n` queries, `m` of them
with a target, ours is `n / m` times theirs: never smaller, and 1 for a perfect head.
"""

from __future__ import annotations

import numpy as np
import pytest
import slow_scores
import torch
from architectures import D_VOCAB, random_hugging_face_model, save
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    detect_head,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)
from transformer_lens.model_bridge import TransformerBridge

from inductionkit.scan.heads import scan_heads
from inductionkit.scores import on_prompts as scores
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import perfect_induction_model

PROMPTS = PromptSettings(n_sequences=2, n_distinct=12, n_repeats=3)
N_TOKENS, N_REPEATED = 1 + 3 * 12, 2 * 12  # BOS; the first repeat has nothing to look back at
THEIRS = {
    "prefix_matching": "induction_head",
    "duplicate_token": "duplicate_token_head",
    "previous_token": "previous_token_head",
}
PATTERNS = {
    "prefix_matching": get_induction_head_detection_pattern,
    "duplicate_token": get_duplicate_token_head_detection_pattern,
    "previous_token": get_previous_token_head_detection_pattern,
}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    folder = save(random_hugging_face_model("mistral"), tmp_path_factory.mktemp("mistral"))
    return TransformerBridge.boot_transformers(str(folder), device="cpu")


@pytest.fixture(scope="module")
def prompts(bridge):
    """The same prompts as token ids and as what `detect_head` takes: strings, to which it adds the BOS token."""
    tokens = repeated_random_tokens(D_VOCAB, bridge.tokenizer.bos_token_id, PROMPTS)
    strings = [" ".join(f"t{token}" for token in row[1:]) for row in tokens]
    for row, string in zip(tokens, strings):
        assert torch.equal(bridge.to_tokens(string)[0], row)
    return tokens, strings


@pytest.mark.parametrize(
    ("name", "n_with_target"),
    [("prefix_matching", N_REPEATED), ("duplicate_token", N_REPEATED), ("previous_token", N_TOKENS - 1)],
)
def test_ours_is_theirs_per_query_that_has_a_target(bridge, prompts, name, n_with_target):
    tokens, strings = prompts
    theirs = detect_head(bridge, strings, THEIRS[name], exclude_bos=False, exclude_current_token=False)
    ours = scan_heads(bridge, tokens, scores=[name], prompts=PROMPTS)[name]
    np.testing.assert_allclose(ours, theirs * N_TOKENS / n_with_target, rtol=1e-5)


def test_without_bos_attention_they_measure_something_else(bridge, prompts):
    """`exclude_bos=True` divides by what attention each head leaves for other tokens: no one factor leads back."""
    _, strings = prompts
    theirs = detect_head(bridge, strings, "induction_head", exclude_bos=True)
    ours = torch.tensor(scan_heads(bridge, scores=["prefix_matching"], prompts=PROMPTS).prefix_matching.values)
    factors = ours / theirs
    assert factors.max() > 1.05 * factors.min()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("seed", range(3))
def test_on_uneven_text_theirs_averages_sequences_and_ours_queries(name, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 12, (4, 20), generator=generator)
    pattern = torch.rand(4, 1, 20, 20, generator=generator).tril()
    pattern /= pattern.sum(-1, keepdim=True)
    theirs = [
        compute_head_attention_similarity_score(
            pattern[i, 0],
            PATTERNS[name](tokens[i : i + 1]),
            exclude_bos=False,
            exclude_current_token=False,
            error_measure="mul",
        )
        for i in range(4)
    ]
    if name == "previous_token":
        ours, n_with_target = scores.previous_token(pattern), 4 * 19
    else:
        ours = getattr(scores, name)(pattern, tokens)
        n_with_target = sum(len(getattr(slow_scores, name)(p[0], row)) for p, row in zip(pattern, tokens.tolist()))
    np.testing.assert_allclose(ours, sum(theirs) * 20 / n_with_target, rtol=1e-5)


def test_a_perfect_head_scores_one_only_with_ours():
    model = perfect_induction_model()
    tokens = repeated_random_tokens(40, 0, PROMPTS)[:1]
    _, cache = model.run_with_cache(tokens, return_type=None)
    pattern = cache["blocks.1.attn.hook_pattern"]
    theirs = compute_head_attention_similarity_score(
        pattern[0, 0],
        get_induction_head_detection_pattern(tokens),
        exclude_bos=False,
        exclude_current_token=False,
        error_measure="mul",
    )
    assert scores.prefix_matching(pattern, tokens)[0].item() == pytest.approx(1.0, abs=1e-4)
    assert theirs == pytest.approx(N_REPEATED / N_TOKENS, abs=1e-4)
