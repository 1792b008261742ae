"""The model-facing part on `HookedTransformer`, in an environment with TransformerLens 2 or 3 (`make test-compat`).

Random models of every make that the class offers, against the same models with their weights folded
and centred, and against the slow implementation.
"""

from __future__ import annotations

import numpy as np
import pytest
import slow_scores
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from inductionkit.errors import ModelError
from inductionkit.lens import reinitialised
from inductionkit.scan.heads import scan_heads
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.scores.score import SCORES as HEAD_SCORES

SHORT = PromptSettings(n_sequences=3, n_distinct=12, n_repeats=3)
TEXT = torch.randint(0, 60, (3, 40), generator=torch.Generator().manual_seed(5))
KINDS = {
    "learned positions": {},
    "attention only": {"attn_only": True},
    "rotary": {"positional_embedding_type": "rotary", "rotary_dim": 6},
    "parallel blocks": {"parallel_attn_mlp": True, "positional_embedding_type": "rotary", "rotary_dim": 6},
    "ALiBi": {"positional_embedding_type": "alibi"},
    "grouped queries": {"n_key_value_heads": 2, "normalization_type": "RMS"},
    "multi-query": {"n_key_value_heads": 1, "normalization_type": "RMS"},
    "RMSNorm": {"normalization_type": "RMS", "gated_mlp": True},
}


def config(**changes) -> HookedTransformerConfig:
    shape = {
        "n_layers": 2, "d_model": 24, "n_ctx": 128, "d_head": 6, "n_heads": 4, "d_mlp": 48, "d_vocab": 60,
        "act_fn": "gelu", "normalization_type": "LN", "seed": 0, "default_prepend_bos": True,
    }  # fmt: skip
    return HookedTransformerConfig(**{**shape, **changes})


def random_model(**changes) -> HookedTransformer:
    model = HookedTransformer(config(**changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def folded(model: HookedTransformer, **changes) -> HookedTransformer:
    norm = model.cfg.normalization_type
    twin = HookedTransformer(config(**{**changes, "normalization_type": f"{norm}Pre"}))
    twin.load_and_process_state_dict(
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        fold_ln=True, center_writing_weights=norm == "LN", center_unembed=True, fold_value_biases=True,
    )  # fmt: skip
    return twin


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_give_the_same_scores(kind):
    raw = random_model(**KINDS[kind])
    twin = folded(raw, **KINDS[kind])
    torch.testing.assert_close(raw(TEXT).log_softmax(-1), twin(TEXT).log_softmax(-1), atol=2e-4, rtol=1e-3)
    first, second = (scan_heads(model, TEXT, scores="all", prompts=SHORT) for model in (raw, twin))
    for name in HEAD_SCORES:
        assert np.isfinite(first[name].isel(layer=1)).all(), name
        np.testing.assert_allclose(first[name], second[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_scores_equal_the_slow_ones():
    model = random_model(attn_only=True)
    ours = {
        "embed.weight": model.W_E, "pos_embed.weight": model.W_pos, "unembed.weight": model.W_U.T,
        "ln_final.weight": model.ln_final.w, "ln_final.bias": model.ln_final.b,
    }  # fmt: skip
    for layer, block in enumerate(model.blocks):
        at = f"blocks.{layer}."
        ours[f"{at}ln1.weight"], ours[f"{at}ln1.bias"] = block.ln1.w, block.ln1.b
        for name in "QKV":
            ours[f"{at}attn.{name.lower()}.weight"] = getattr(block.attn, f"W_{name}").transpose(1, 2).flatten(0, 1)
            ours[f"{at}attn.{name.lower()}.bias"] = getattr(block.attn, f"b_{name}").flatten()
        ours[f"{at}attn.o.weight"] = block.attn.W_O.permute(2, 0, 1).flatten(1)
        ours[f"{at}attn.o.bias"] = block.attn.b_O
    state = {name: tensor.detach().numpy() for name, tensor in ours.items()}
    fast = scan_heads(model, TEXT, prompts=SHORT)
    tokens = repeated_random_tokens(60, 0, SHORT).numpy()
    runs = [slow_scores.run(state, row, 4) for row in tokens]
    texts = [slow_scores.run(state, row, 4) for row in TEXT.numpy()]
    first = slice(1, 13)
    for layer in range(2):
        for head in range(4):
            found = fast.sel(layer=layer, head=head)
            matched = [slow_scores.prefix_matching(p[layer][head], row) for (p, _, _, _), row in zip(runs, tokens)]
            assert found.prefix_matching == pytest.approx(np.mean(matched), abs=1e-5)
            previous = [np.diagonal(p[layer][head], -1) for p, _, _, _ in texts]
            assert found.previous_token == pytest.approx(np.mean(previous), abs=1e-5)
            terms = [
                slow_scores.copying_terms(
                    p[layer][head][first, first], v[layer][head][first], row[first], state, s[first]
                )
                for (p, v, _, s), row in zip(runs, tokens)
            ]
            attended, sample = sum(t[0] for t in terms), sum(t[1] for t in terms)
            assert found.copying == pytest.approx(4 * attended / (attended + sample) - 1, abs=1e-4)


def test_effective_embedding():
    model = random_model()
    plain = scan_heads(model, scores=("ov_copying",))
    effective = scan_heads(model, scores=("ov_copying",), effective_embedding=True)
    twin = scan_heads(folded(model), scores=("ov_copying",), effective_embedding=True)
    assert not np.allclose(plain.ov_copying, effective.ov_copying, atol=1e-2)
    np.testing.assert_allclose(effective.ov_copying, twin.ov_copying, atol=1e-3)


def test_the_model_leaves_as_it_came():
    model = random_model().train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    scan_heads(model, TEXT, scores="all", n_nulls=1, prompts=SHORT)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert torch.equal(random_state, torch.get_rng_state())


def test_null_heads_are_another_models():
    model = random_model()
    nulls = scan_heads(model, n_nulls=2, prompts=SHORT).prefix_matching_null
    direct = scan_heads(reinitialised(model, 1), prompts=SHORT).prefix_matching
    np.testing.assert_array_equal(nulls.sel(null=1), direct)


def test_what_is_not_a_decoder_is_refused():
    with pytest.raises(ModelError, match="attends in both directions"):
        scan_heads(random_model(attention_dir="bidirectional"))
