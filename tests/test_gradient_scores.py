"""What heads cause, by gradients, where the answer is known; `test_architectures` compares with whole passes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from architectures import random_hugging_face_model

from inductionkit.lens import Lens
from inductionkit.lens.tape import Tape
from inductionkit.scan.heads import scan_heads
from inductionkit.scores.prompts import PromptSettings
from inductionkit.testing import hand_built_model

PROMPTS = PromptSettings(n_sequences=2, n_distinct=5, n_repeats=3, pool=range(1, 40))
LIFTS = ["direct_lift", "total_lift"]


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
