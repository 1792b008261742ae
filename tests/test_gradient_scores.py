"""What heads cause, by gradients: against finite differences of whole passes, and where the answer is known."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from architectures import CONFIGS, random_hugging_face_model

from inductionkit.lens import Lens
from inductionkit.lens.outputs import by_head
from inductionkit.lens.tape import Tape
from inductionkit.scan.heads import scan_heads
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model

PROMPTS = PromptSettings(n_sequences=2, n_distinct=5, n_repeats=3, pool=range(1, 40))
LIFTS = ["direct_lift", "total_lift"]
EPSILON = 1e-3


def slow_total_lift(model: torch.nn.Module) -> np.ndarray:
    """How fast the followers' logits rise as each head moves more from the followers: whole passes, twice a head."""
    lens = Lens(copy.deepcopy(model).double())
    tokens = repeated_random_tokens(lens.d_vocab, lens.bos, PROMPTS)
    first, n = int(lens.bos is not None), PROMPTS.n_distinct
    tokens = tokens[:, : first + 2 * n]
    query = torch.arange(first + n, first + 2 * n)
    key = query - n + 1
    patterns: dict[int, torch.Tensor] = {}
    values: dict[int, torch.Tensor] = {}

    def logits(hooks):
        with torch.no_grad(), lens.model.hooks(fwd_hooks=hooks):
            found = lens.model(tokens, return_type="logits")[:, query]
        return (found.gather(2, tokens[:, key][..., None])[..., 0] - found.mean(2)).mean()

    def keep(tensor, hook, kept, layer):
        kept[layer] = tensor

    parts = {"pattern": patterns, "v": values}
    logits(
        [
            (f"blocks.{layer}.attn.hook_{part}", partial(keep, kept=kept, layer=layer))
            for layer in range(lens.n_layers)
            for part, kept in parts.items()
        ]
    )
    found = np.zeros((lens.n_layers, lens.n_heads))
    for layer, pattern in patterns.items():
        value = values[layer]
        value = value.repeat_interleave(lens.n_heads // value.shape[2], dim=2)
        for head in range(lens.n_heads):
            moved = pattern[:, head, query, key][..., None] * value[:, key, head]
            rises = []
            for sign in (1, -1):

                def move(z, hook, moved=moved, head=head, sign=sign):
                    changed = by_head(z, lens.n_heads).clone()
                    changed[:, query, head] += sign * EPSILON * moved
                    return changed.view(z.shape)

                rises.append(logits([(f"blocks.{layer}.attn.hook_z", move)]))
            found[layer, head] = (rises[0] - rises[1]) / (2 * EPSILON)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_total_lift_equals_finite_differences(name):
    model = random_hugging_face_model(name).eval()
    found = scan_heads(model, scores=LIFTS, prompts=PROMPTS)
    expected = slow_total_lift(model)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found.total_lift, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_without_norms_one_layer_has_only_the_direct_path(seed):
    found = scan_heads(hand_built_model([["previous-token", "idle"]], seed=seed), scores=LIFTS)
    np.testing.assert_allclose(found.total_lift, found.direct_lift, rtol=1e-5, atol=1e-6)


def test_an_induction_head_raises_the_follower_and_the_previous_token_head_moves_nothing_from_it():
    found = scan_heads(hand_built_model([["previous-token", "idle"], ["induction", "idle"]]), scores=LIFTS)
    lift = found.total_lift
    assert lift.sel(layer=1, head=0) > 0.9 and abs(lift.sel(layer=1, head=1)) < 1e-6
    np.testing.assert_allclose(lift.sel(layer=1), found.direct_lift.sel(layer=1), rtol=1e-5)


@pytest.mark.parametrize("max_bytes", [1, 2**30])
def test_batches_change_nothing(max_bytes):
    model = random_hugging_face_model("llama")
    found, expected = (scan_heads(model, scores=LIFTS, prompts=PROMPTS, max_bytes=n) for n in (max_bytes, 2**20))
    for name in LIFTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_the_users_model_stays_trainable_and_without_gradients():
    model = random_hugging_face_model("gpt2").train()
    lens = Lens(model)
    learnt = [parameter.requires_grad for parameter in lens.model.parameters()]
    tape = Tape(lens, torch.arange(1, 9)[None])
    assert [parameter.requires_grad for parameter in lens.model.parameters()] == learnt
    gradients = tape.gradients(tape.lift(slice(4, 8), torch.arange(1, 5)[None]))
    assert gradients.keys() == set(tape.layers) == {0, 1, 2}
    assert all(parameter.grad is None for parameter in lens.model.parameters())
    assert model.training
    copy.deepcopy(lens.model)  # fails while a module remembers something with a graph
