"""What the loss owes to each head: against ablations by hooks alone, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import CONFIGS, UNUSUAL, bos_of, random_hugging_face_model

import inductionkit as ik
from inductionkit.ablation import verify_loss_effects
from inductionkit.errors import ModelError
from inductionkit.lens import Lens
from inductionkit.lens.tape import Tape
from inductionkit.scan import loss_effects
from inductionkit.scores.prompts import PromptSettings
from inductionkit.testing import hand_built_model

PROMPTS = PromptSettings(n_sequences=3, n_distinct=5, n_repeats=3, pool=range(4, 40))


def prompts_of(bos: int | None, settings: PromptSettings = PROMPTS) -> torch.Tensor:
    """The scan's prompts up to the end of the second repeat, drawn as `PromptSettings` says."""
    generator = torch.Generator().manual_seed(settings.seed)
    pool = torch.tensor(settings.pool)
    rows = [pool[torch.randperm(len(pool), generator=generator)[: settings.n_distinct]] for _ in range(3)]
    tokens = torch.stack(rows).repeat(1, 2)
    return tokens if bos is None else torch.cat([torch.full((len(tokens), 1), bos), tokens], dim=1)


def slow_effects(model, tokens: torch.Tensor, n: int = PROMPTS.n_distinct) -> np.ndarray:
    """The rise of the mean loss with each head's `z` at zero: a whole pass a head, through the model's own hooks."""

    def loss(hooks) -> float:
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            chances = model(tokens, return_type="logits").double().log_softmax(-1)
        at = range(tokens.shape[1] - n, tokens.shape[1] - 1)
        return -np.mean([[chances[row, i, tokens[row, i + 1]].item() for i in at] for row in range(len(tokens))])

    def without(head: int):
        def zero(z, hook):
            changed = z.clone().view(*z.shape[:2], model.cfg.n_heads, -1)
            changed[:, :, head] = 0
            return changed.view(z.shape)

        return zero

    clean = loss([])
    return np.array(
        [
            [loss([(f"blocks.{layer}.attn.hook_z", without(head))]) - clean for head in range(model.cfg.n_heads)]
            for layer in range(model.cfg.n_layers)
        ]
    )


@pytest.fixture(scope="module", params=[*CONFIGS, "granite", "codegen"])
def scanned(request):
    model = random_hugging_face_model(request.param)
    found = ik.scan_heads(model, scores=["loss_effect"], prompts=PROMPTS, progress=False)
    lens = Lens(model)
    return found, slow_effects(lens.model, prompts_of(bos_of(request.param)))


def test_a_small_model_is_measured_by_ablation(scanned):
    found, expected = scanned
    assert found.loss_effect.attrs["units"] == "nats/token"
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found.loss_effect, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*CONFIGS, *UNUSUAL])
def test_the_gradient_is_that_of_the_loss_by_how_much_a_head_writes(name):
    lens = Lens(random_hugging_face_model(name).double())
    tokens = prompts_of(bos_of(name))
    queries = slice(tokens.shape[1] - 5, tokens.shape[1] - 1)
    found = loss_effects._first_order(lens, tokens, queries, 2**20)

    def loss(layer: int, head: int, factor: float) -> torch.Tensor:
        def scale(z, hook):
            changed = z.clone().view(*z.shape[:2], lens.n_heads, -1)
            changed[:, :, head] *= factor
            return changed.view(z.shape)

        with torch.no_grad(), lens.model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", scale)]):
            chances = lens.model(tokens, return_type="logits").log_softmax(-1)[:, queries]
        return -chances.gather(2, tokens[:, queries.start + 1 :, None]).mean(dim=(1, 2))

    for layer, head in ((0, 0), (1, 2), (2, 1)):
        # Many architectures keep float32 in their softmax or norms, whose rounding a small step would show.
        step = 1e-4 if name == "opt" else 5e-3  # its MLP has kinks
        slope = (loss(layer, head, 1 - step) - loss(layer, head, 1 + step)) / (2 * step)
        torch.testing.assert_close(found[layer][:, head].double(), slope, atol=1e-3, rtol=2e-3)


@pytest.mark.parametrize(("name", "n_prompts"), [("gpt2", 2), ("llama", 3), ("gemma2", 2), ("granite", 5)])
def test_of_a_large_model_ablations_on_few_prompts_correct_gradients_on_all(name, n_prompts, monkeypatch):
    monkeypatch.setattr(loss_effects, "N_STRONGEST", 2)
    monkeypatch.setattr(loss_effects, "N_PROMPTS", n_prompts)
    model = random_hugging_face_model(name)
    found = ik.scan_heads(model, scores=["loss_effect"], prompts=PROMPTS, progress=False).loss_effect.values
    tokens = prompts_of(bos_of(name))
    lens = Lens(model)
    tape = Tape(lens, tokens)
    queries = slice(tokens.shape[1] - 5, tokens.shape[1] - 1)
    gradients = tape.gradients(tape.loss(queries))
    linear = np.array([-(tape.outputs(at) * gradients[at]).sum(dim=(1, 3)).numpy() / 4 for at in range(lens.n_layers)])
    of_one, of_few = (
        linear.mean(1) + slow_effects(lens.model, tokens[:n]) - linear[:, :n].mean(1) for n in (1, n_prompts)
    )
    strongest = np.abs(of_one) >= np.sort(np.abs(of_one).ravel())[-2]
    np.testing.assert_allclose(found, np.where(strongest, of_few, of_one), atol=2e-5, rtol=1e-3)
    assert not np.allclose(of_one, of_few, atol=1e-3)  # or this would show nothing


def test_induction_rests_on_its_two_heads_and_on_no_idle_one():
    found = ik.scan_heads(hand_built_model([["previous-token", "idle"], ["induction", "idle"]]), scores=["loss_effect"])
    effect = found.loss_effect
    assert (effect.sel(head=0) > 0.1).all()
    np.testing.assert_allclose(effect.sel(head=1), 0, atol=1e-5)


def test_a_head_that_lowers_the_answer_has_a_negative_effect():
    """The unembedding of an induction model turned round: what was raised is lowered."""
    model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
    with torch.no_grad():
        for parameter in model.unembed.parameters():
            parameter.neg_()
    effect = ik.scan_heads(model, scores=["loss_effect"]).loss_effect
    assert effect.sel(layer=1, head=0) < -0.1


def test_a_part_of_the_heads_is_measured_as_all_are():
    model = random_hugging_face_model("gpt2")
    some, whole = (
        ik.scan_heads(model, scores=["loss_effect"], heads=heads, prompts=PROMPTS).loss_effect
        for heads in (["1.2", "0.1"], None)
    )
    assert int(some.notnull().sum()) == 2
    for layer, head in ((1, 2), (0, 1)):
        np.testing.assert_allclose(some.sel(layer=layer, head=head), whole.sel(layer=layer, head=head), rtol=1e-4)


def test_nulls_stand_beside_the_score_and_hold_no_induction():
    model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
    found = ik.scan_heads(model, scores=["loss_effect"], n_nulls=3, progress=False)
    assert found.loss_effect_null.dims == ("null", "layer", "head")
    assert found.loss_effect.max() > 5 * np.abs(found.loss_effect_null).max()


def test_without_gradients_the_score_is_nan_with_the_reason():
    model = random_hugging_face_model("gpt2")

    class Sealed(torch.nn.Module):
        def forward(self, hidden):
            return hidden.detach()

    model.transformer.ln_f = Sealed()
    found = ik.scan_heads(model, scores=["loss_effect"], prompts=PROMPTS)
    assert found.loss_effect.isnull().all()
    assert "loss_effect" in found.attrs["unscored"]


def test_a_repeat_of_one_token_has_nothing_to_predict():
    found = ik.scan_heads(
        random_hugging_face_model("gpt2"),
        scores=["loss_effect"],
        prompts=PromptSettings(n_sequences=2, n_distinct=1, pool=range(4, 40)),
    )
    assert found.loss_effect.isnull().all() and "n_distinct" in found.attrs["unscored"]


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "granite", "bloom"])
def test_the_losses_of_some_queries_are_those_of_all(name):
    lens = Lens(random_hugging_face_model(name))
    with torch.no_grad():
        whole, part = (lens.token_losses(prompts_of(None), queries) for queries in (None, slice(3, 7)))
    torch.testing.assert_close(part, whole[:, 3:7])


def test_verification_ablates_on_the_prompts_of_the_scan():
    model = random_hugging_face_model("llama")
    scores = ik.scan_heads(model, scores=["loss_effect"], prompts=PROMPTS)
    with pytest.raises(ModelError, match="cannot be made again"):  # a given pool is not among the attributes
        verify_loss_effects(model, scores, progress=False)
    found = verify_loss_effects(model, scores, n_heads=4, prompts=PROMPTS, progress=False)
    expected = slow_effects(Lens(model).model, prompts_of(bos_of("llama")))
    assert found.index.names == ["layer", "head"] and len(found) == 4
    assert {abs(expected[head]) for head in found.index} == set(np.sort(np.abs(expected).ravel())[-4:])
    for column in ("estimated", "measured"):
        np.testing.assert_allclose(found[column], [expected[head] for head in found.index], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(found.ratio, 1, rtol=1e-2)


def test_verification_makes_the_prompts_of_the_scan_again():
    model = random_hugging_face_model("gpt2")
    scores = ik.scan_heads(model, scores=["loss_effect"], prompts=PromptSettings(n_sequences=2, n_distinct=6, seed=3))
    found = verify_loss_effects(model, scores, progress=False)
    np.testing.assert_allclose(found.measured, found.estimated, rtol=1e-3, atol=1e-6)
    elsewhere = verify_loss_effects(model, scores, prompts=PromptSettings(seed=4), progress=False)
    assert list(elsewhere.index) == list(found.index) and not np.allclose(elsewhere.measured, found.measured)


@pytest.mark.parametrize("change", ["no score", "steps", "another model", "no attributes"])
def test_verification_refuses_what_does_not_fit(change):
    model = random_hugging_face_model("gpt2")
    scores = ik.scan_heads(model, scores=["loss_effect"], prompts=PromptSettings(n_sequences=2, n_distinct=6))
    if change == "no score":
        scores = scores.drop_vars("loss_effect")
    elif change == "steps":
        scores = scores.expand_dims("step")
    elif change == "another model":
        scores = scores.isel(head=[0])
    else:
        scores = scores.drop_attrs(deep=False)
    with pytest.raises(ModelError, match=r"loss_effect|layers and heads|attributes do not tell"):
        verify_loss_effects(model, scores, progress=False)
