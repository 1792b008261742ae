"""Behaviours against a hand-built model's closed form, a slow model, causality, and the bundled run."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import slow_scores
import torch
import xarray as xr
from conftest import SHAPE, random_model

import inductionkit
from inductionkit.errors import ModelError
from inductionkit.lens import Lens
from inductionkit.scan import behaviours
from inductionkit.scan.behaviours import (
    Behaviour,
    repeated_tokens_behaviour,
    scan_behaviours,
    token_losses,
)
from inductionkit.scores.prompts import PromptSettings
from inductionkit.testing import perfect_induction_model

RAGGED = Behaviour("ragged", [[0, 5, 9, 5, 9, 31], [0, 7], [0, 3, 3, 44]], [[0, 0, 1, 1, 0, 1], [0, 1], [0, 0, 0, 1]])


def slow_losses(state: dict, row: tuple[int, ...]) -> list[float]:
    """Loss of each token but the first, from the slow forward pass, in float64."""
    _, _, logits, _ = slow_scores.run(state, np.array(row), 3)
    return [np.log(np.exp(logits[i]).sum()) - logits[i][row[i + 1]] for i in range(len(row) - 1)]


def test_repeated_tokens_have_the_loss_of_the_construction():
    """The hand-built model gives one nat to the token at hand and one to what followed it before, of 40 tokens."""
    loss = scan_behaviours(perfect_induction_model(), [repeated_tokens_behaviour(40, 0)]).behaviour_loss
    assert loss.sel(behaviour="repeated random tokens") == pytest.approx(math.log(38 + 2 * math.e) - 1, abs=1e-4)
    assert loss.dims == ("behaviour",) and loss.attrs["units"] == "nats/token"


def test_tokens_without_repeats_get_no_help():
    """The known negative: on different tokens the last head finds no match and raises all it has seen alike."""
    once = Behaviour("once", [list(range(30))])
    losses = token_losses(perfect_induction_model(), once)
    for i, loss in enumerate(losses.values[0]):
        even = math.exp(1 / (i + 1))
        assert loss == pytest.approx(math.log(math.e * even + i * even + 40 - (i + 1)), abs=1e-4)
    assert losses.position.values.tolist() == list(range(1, 30))


@pytest.mark.parametrize("bos", [0, None])
def test_only_what_repeats_predict_is_counted(bos):
    behaviour = repeated_tokens_behaviour(500, bos, PromptSettings(n_sequences=3, n_distinct=6, n_repeats=3))
    for row, counted in zip(behaviour.tokens, behaviour.counted):
        for i, is_counted in enumerate(counted):
            pair_seen = any(row[j : j + 2] == row[i - 1 : i + 1] for j in range(i - 1))
            assert is_counted == (i > 0 and pair_seen)
    assert behaviour.n_counted == 3 * (2 * 6 - 1)


def test_losses_equal_the_slow_ones():
    model = random_model(1)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    slow = [slow_losses(state, row) for row in RAGGED.tokens]
    fast = token_losses(model, RAGGED)
    for row, expected in zip(fast.values, slow):
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-4)
        assert np.isnan(row[len(expected) :]).all()
    counted = [slow[0][1], slow[0][2], slow[0][4], slow[1][0], slow[2][2]]
    found = scan_behaviours(model, [RAGGED]).behaviour_loss
    assert found.item() == pytest.approx(np.mean(counted), abs=1e-4)
    assert found.n_counted.item() == 5


def test_what_stands_beside_a_prompt_changes_nothing(monkeypatch):
    """Padding and batching are invisible: each sequence alone gives the losses it has among the others."""
    model = random_model(2)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, SHAPE["d_vocab"], size=length).tolist() for length in (40, 2, 17, 40, 3)]
    together = token_losses(model, Behaviour("all", rows))
    monkeypatch.setattr(behaviours, "MAX_BATCH_TOKENS", 80)  # two sequences at a time
    batched = token_losses(model, Behaviour("all", rows))
    np.testing.assert_allclose(batched, together, atol=1e-5)
    for row, losses in zip(rows, together.values):
        alone = token_losses(model, Behaviour("one", [row]))
        np.testing.assert_allclose(alone.values[0], losses[: len(row) - 1], atol=1e-5)


def test_several_behaviours_and_a_lens():
    model = random_model(3)
    longer = repeated_tokens_behaviour(60, 0, PromptSettings(n_sequences=2, n_distinct=5))
    both = scan_behaviours(Lens(model), [RAGGED, longer]).behaviour_loss
    assert both.behaviour.values.tolist() == ["ragged", "repeated random tokens"]
    np.testing.assert_allclose(
        both, [scan_behaviours(model, [each]).behaviour_loss.item() for each in (RAGGED, longer)], rtol=1e-6
    )


def test_arrays_and_tensors_are_taken_as_lists():
    lists = Behaviour("b", [[1, 2, 3], [4, 5, 6]], [[False, True, True], [False, True, False]])
    tokens, counted = np.array(lists.tokens), np.array(lists.counted)
    assert Behaviour("b", tokens, counted) == lists
    assert Behaviour("b", torch.tensor(tokens), torch.tensor(counted)) == lists
    assert Behaviour("b", list(tokens), [list(row) for row in counted]) == lists


@pytest.mark.parametrize(
    ("tokens", "counted", "message"),
    [
        ([], None, "no prompts"),
        ([[1, 2], [3]], None, "prompt 1 .* has 1 tokens"),
        ([[1, -2]], None, "holds -2"),
        ([[1, 2.0]], None, "holds 2.0"),
        ([1, 2], None, "sequence of sequences"),
        ("text", None, "prompt 0 .* has 1 tokens"),
        ([[1, 2]], [[False]], "has 1 values for 1 prompts, its tokens are 2 in 1"),
        ([[1, 2]], [[False, 0.5]], "True or False"),
        ([[1, 2]], [[True, True]], "counts a first token"),
        ([[1, 2]], [[False, False]], "counts no token"),
    ],
)
def test_a_behaviour_that_cannot_be_measured_is_refused(tokens, counted, message):
    with pytest.raises(ModelError, match=message):
        Behaviour("b", tokens, counted)


def test_a_behaviour_that_does_not_fit_the_model_is_named():
    model = random_model()
    with pytest.raises(ModelError, match=r"'far'.*vocabulary 0 to 59"):
        scan_behaviours(model, [RAGGED, Behaviour("far", [[0, 60]])])
    with pytest.raises(ModelError, match=r"'long'.*context of 128"):
        scan_behaviours(model, [Behaviour("long", [[1] * 129])])
    with pytest.raises(ModelError, match="a name of its own"):
        scan_behaviours(model, [RAGGED, RAGGED])
    with pytest.raises(ModelError, match="at least one"):
        scan_behaviours(model, [])
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match="NaN"):
        scan_behaviours(model, [RAGGED])


def test_repeated_tokens_get_easier_over_the_bundled_run():
    run = inductionkit.open_run("bundled")
    ends = dataclasses.replace(run, checkpoints=[run.checkpoints[0], run.checkpoint(1160), run.checkpoints[-1]])
    prompts = PromptSettings(n_sequences=4)
    found = scan_behaviours(ends, [repeated_tokens_behaviour(run.model["d_vocab"], 0, prompts)], progress=False)
    assert found.behaviour_loss.dims == ("step", "behaviour")
    untrained, before, last = found.behaviour_loss.values[:, 0]
    assert untrained == pytest.approx(math.log(run.model["d_vocab"]), abs=0.5)  # it has learnt nothing
    assert last < untrained - 1 and last < before - 3  # the phase change lies between the last two
    alone = scan_behaviours(run.load_model(), [repeated_tokens_behaviour(run.model["d_vocab"], 0, prompts)])
    assert last == pytest.approx(alone.behaviour_loss.item(), abs=1e-5)

    history = inductionkit.example_history()
    merged = xr.merge(
        [history, found.drop_vars(["training_loss", "log_step", "log_tokens_seen"])],
        join="inner",
        compat="no_conflicts",
        combine_attrs="override",
    )
    assert merged.step.values.tolist() == ends.steps
    assert merged.tokens_seen.values.tolist() == [checkpoint.tokens_seen for checkpoint in ends.checkpoints]


def test_a_run_need_not_know_its_tokens():
    run = inductionkit.open_run("bundled")
    unknown = dataclasses.replace(run, checkpoints=[dataclasses.replace(run.checkpoints[0], tokens_seen=None)])
    found = scan_behaviours(unknown, [RAGGED], progress=False)
    assert np.isnan(found.tokens_seen).all() and np.isfinite(found.behaviour_loss).all()


def test_a_scan_refuses_before_it_starts():
    run = inductionkit.open_run("bundled")
    with pytest.raises(ModelError, match="a name of its own"):
        scan_behaviours(run, [RAGGED, RAGGED], progress=False)
