"""Ablations against hook-by-hook TransformerLens code, on hand-built models, and the model left as it came."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
import transformers
from architectures import CONFIGS, D_VOCAB, random_hugging_face_model, randomised, save
from conftest import random_model
from transformer_lens.model_bridge import TransformerBridge

from inductionkit import open_run, scan_heads
from inductionkit.ablation import compare_with_random_heads, scan_ablations
from inductionkit.errors import ModelError
from inductionkit.lens import HeadZeroing, Lens, open_model
from inductionkit.runs.run import nothing
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model

KINDS = ("full", "pattern_preserving")
NATIVE = {"attention-only": {}, "with MLPs": {"d_mlp": 40, "n_layers": 3}}
# Here TransformerLens' `hook_pattern` shows the pattern and does not set it, so no hook can freeze it.
SHOWS_ONLY = {"gpt_neo", "gptj", "opt"}
REPEATED = repeated_random_tokens(40, 0, PromptSettings(4))


def random_tokens(d_vocab: int, n_sequences: int = 3, length: int = 24) -> torch.Tensor:
    return torch.randint(0, d_vocab, (n_sequences, length), generator=torch.Generator().manual_seed(1))


def zero(head, z, hook):
    z = z.clone()
    z[:, :, head] = 0
    return z


@torch.no_grad()
def hooked_losses(model, tokens, heads, kind) -> np.ndarray:
    """Losses (sequence, position) by TransformerLens' own means, a hook for each head, and one for each pattern."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    hooks = [(f"blocks.{layer}.attn.hook_z", lambda z, hook, h=head: zero(h, z, hook)) for layer, head in heads]
    if kind == "pattern_preserving":
        hooks += [(name, lambda pattern, hook, clean=clean: clean) for name, clean in cache.items()]
    log_probabilities = model.run_with_hooks(tokens, fwd_hooks=hooks).log_softmax(-1)
    return -log_probabilities[:, :-1].gather(2, tokens[:, 1:, None])[..., 0].double().numpy()


def assert_equals_hooks(found, model, tokens, kind, atol=1e-5):
    """All heads in turn."""
    clean = hooked_losses(model, tokens, [], "full").mean(0)
    np.testing.assert_allclose(found.baseline_loss_by_position, clean, atol=atol)
    early, late, half = (found.attrs[f"icl_{name}"] for name in ("early", "late", "half_width"))

    def icl(losses):
        around = [losses[index - 1 - half : index + half].mean() for index in (late, early)]
        return around[0] - around[1]

    for layer, head in itertools.product(found["layer"].values, found["head"].values):
        one = found.sel(layer=layer, head=head)
        expected = hooked_losses(model, tokens, [(layer, head)], kind).mean(0)
        np.testing.assert_allclose(one.loss_by_position, expected, atol=atol, err_msg=f"{layer}.{head}")
        np.testing.assert_allclose(one.loss_by_position_change, expected - clean, atol=2 * atol)
        assert float(one.loss) == pytest.approx(expected.mean(), abs=atol)
        assert float(one.loss_change) == pytest.approx(expected.mean() - clean.mean(), abs=2 * atol)
        assert float(one.icl_score) == pytest.approx(icl(expected), abs=2 * atol)
        assert float(one.icl_score_change) == pytest.approx(icl(expected) - icl(clean), abs=4 * atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NATIVE)
def test_native_models_equal_hooks(name, kind):
    model, tokens = random_model(**NATIVE[name]), random_tokens(60)
    assert_equals_hooks(scan_ablations(model, tokens, kind=kind, progress=False), model, tokens, kind)


@pytest.fixture(scope="module", params=CONFIGS)
def bridge(request, tmp_path_factory):
    folder = save(random_hugging_face_model(request.param), tmp_path_factory.mktemp(request.param))
    return request.param, TransformerBridge.boot_transformers(str(folder), device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_equals_hooks(bridge, kind, monkeypatch):
    name, model = bridge
    tokens = random_tokens(D_VOCAB)
    found = scan_ablations(model, tokens, kind=kind, progress=False)
    if kind == "pattern_preserving" and name in SHOWS_ONLY:
        # In Hugging Face's own attention the softmax makes the pattern, once a layer: it gives the clean ones.
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
        clean = itertools.cycle(cache.values())
        kind = "full"
        softmax = torch.nn.functional.softmax
        monkeypatch.setattr(
            torch.nn.functional, "softmax", lambda x, *args, **kw: next(clean) if x.ndim == 4 else softmax(x, *args)
        )
    assert_equals_hooks(found, model, tokens, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_equal_hooks(kind, tmp_path):
    folded = TransformerBridge.boot_transformers(str(save(random_hugging_face_model("gpt2"), tmp_path)), device="cpu")
    folded.enable_compatibility_mode()
    tokens = random_tokens(D_VOCAB)
    assert_equals_hooks(scan_ablations(folded, tokens, kind=kind, progress=False), folded, tokens, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_models_folders_and_folded_weights_give_the_same(kind, tmp_path):
    """Where values have no bias: one that is folded into the output's stays when a head is zeroed."""
    source, tokens = random_hugging_face_model("llama"), random_tokens(D_VOCAB)
    folder = str(save(source, tmp_path))
    folded = TransformerBridge.boot_transformers(folder, device="cpu")
    folded.enable_compatibility_mode()
    for model in (source, folder):
        found = scan_ablations(model, tokens, kind=kind, progress=False)
        assert_equals_hooks(found, folded, tokens, kind, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NATIVE)
def test_sets_of_heads_equal_hooks(name, kind):
    model, tokens = random_model(**NATIVE[name]), random_tokens(60)
    sets = [(1, 2), [(1, 0), (0, 1)], [(0, 0), (0, 2)], [(0, 0), (0, 1), (1, 1)]]
    found = scan_ablations(model, tokens, sets, kind, progress=False)
    assert found.loss_by_position.dims == ("ablation", "position")
    assert list(found.ablation.values) == ["1.2", "0.1 + 1.0", "0.0 + 0.2", "0.0 + 0.1 + 1.1"]
    for label, heads in zip(found.ablation.values, ([(1, 2)], *sets[1:])):
        expected = hooked_losses(model, tokens, heads, kind).mean(0)
        np.testing.assert_allclose(found.loss_by_position.sel(ablation=label), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_at_once_as_fit_give_the_same_as_one_by_one(kind):
    model, tokens = random_model(d_mlp=40, n_layers=3), random_tokens(60, n_sequences=5)
    at_once = scan_ablations(model, tokens, kind=kind, progress=False)
    one_by_one = scan_ablations(model, tokens, kind=kind, max_bytes=1, progress=False)
    np.testing.assert_allclose(at_once.loss_by_position, one_by_one.loss_by_position, atol=1e-5)


def test_max_bytes_bounds_the_rows_of_a_pass(monkeypatch):
    rows, plain = [], Lens.token_losses

    def spied(lens, tokens, *queries):
        if tokens.shape[1] == 24:  # the others are tries on a few tokens
            rows.append(len(tokens))
        return plain(lens, tokens, *queries)

    monkeypatch.setattr(Lens, "token_losses", spied)
    model, tokens = random_model(), random_tokens(60, n_sequences=5)
    scan_ablations(model, tokens, max_bytes=1, progress=False)
    assert set(rows) == {1} and len(rows) == 5 * (1 + 6)  # the clean pass and six heads of each sequence
    rows.clear()
    scan_ablations(model, tokens, progress=False)
    assert rows == [5, 15, 15]  # the clean pass, then the heads of each layer at once


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_change_is_not_run_again(kind):
    model, tokens = random_model(d_mlp=40, n_layers=3), random_tokens(60, n_sequences=8, length=100)
    computed = [0] * 3
    for layer in range(3):

        def count(module, args, output, layer=layer):
            computed[layer] += output.shape[0] * output.shape[1]

        model.blocks[layer].mlp.register_forward_hook(count)
    scan_ablations(model, tokens, kind=kind, progress=False)
    # The clean pass, those of the three heads in each layer up to here, and some hundred tokens of tries.
    for layer in range(3):
        assert 1 + 3 * (layer + 1) <= computed[layer] / tokens.numel() < 1 + 3 * (layer + 1) + 0.6


def raises(self, *args, **kwargs):
    raise ValueError("a foreign model stumbles")


def wrong(self, clean, zeroed, layer):
    return self._whole(clean, zeroed) + 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restarted", [raises, wrong])
def test_where_a_pass_cannot_be_restarted_whole_ones_are_made(restarted, kind, monkeypatch):
    monkeypatch.setattr(HeadZeroing, "_restarted", restarted)
    model, tokens = random_model(d_mlp=40), random_tokens(60)
    found = scan_ablations(model, tokens, kind=kind, progress=False)
    assert_equals_hooks(found, model, tokens, kind)


@pytest.mark.parametrize("name", NATIVE)
def test_a_hook_of_the_users_own_is_noticed(name):
    """Twice the attention's output: what a head writes is not its `z` times `W_O` then."""
    model, tokens = random_model(**NATIVE[name]), random_tokens(60)
    model.add_hook("blocks.1.attn.hook_out", lambda tensor, hook: 2 * tensor)
    found = scan_ablations(model, tokens, progress=False)
    assert_equals_hooks(found, model, tokens, "full")
    [hook] = model.blocks[1].attn.hook_out.fwd_hooks
    assert not hook.is_permanent


@pytest.mark.parametrize("seed", [None, 3])
def test_hand_built_induction(seed):
    """The loss of the second and later repeats rests on the induction head, and on its pattern, made by head 0.0."""
    model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]], seed=seed)
    full, preserved = (scan_ablations(model, REPEATED, kind=kind, progress=False) for kind in KINDS)
    assert float(full.baseline_icl_score) < -0.9
    for found in (full, preserved):
        induction, idle = found.sel(layer=1, head=0), found.sel(head=1)
        # Without induction every token of the vocabulary of 40 is as likely as another, but for the current one.
        assert abs(float(induction.icl_score)) < 1e-4
        assert (abs(idle.loss_by_position_change) <= 1e-6).all()
        assert (induction.loss_by_position_change.sel(position=slice(27, None)) > 0.9).all()
    assert float(full.icl_score_change.sel(layer=0, head=0)) > 0.9
    assert (abs(preserved.loss_by_position_change.sel(layer=0)) <= 1e-6).all()


def fingerprint(model):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules = list(model.modules())
    modes = [module.training for module in modules]
    forwards = [vars(module).get("forward") for module in modules]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules]
    gradients = [(each.requires_grad, each.grad) for each in model.parameters()]
    points = [len(point.fwd_hooks) for point in model.hook_dict.values()]
    return weights, (modes, forwards, hooks, gradients, points, torch.is_grad_enabled()), torch.get_rng_state()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["native", "gpt2"])
@pytest.mark.parametrize("raised", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_leaves_as_it_came(raised, source, kind):
    model = random_model(d_mlp=40) if source == "native" else open_model(save_free(random_hugging_face_model(source)))
    model.train()
    model.blocks[1].eval()  # a mode of its own must come back too
    tokens = random_tokens(60)
    model(tokens)  # a bridge wires what it needs in its first pass
    passes_left = 0

    def interrupt(module, args):
        nonlocal passes_left
        passes_left -= 1
        if raised is not None and not passes_left:
            raise raised("in mid-pass")

    model.unembed.register_forward_pre_hook(interrupt)
    before = fingerprint(model)
    for n_passes in [1] if raised is None else [1, 2, 4, 7, 9]:  # clean passes, tries, restarts of either layer
        passes_left = n_passes
        with contextlib.nullcontext() if raised is None else pytest.raises((raised, ModelError, InterruptedError)):
            scan_ablations(model, tokens, kind=kind, max_bytes=1, progress=False)
            if raised is RuntimeError:  # one in a try is taken for a model that cannot be restarted
                raise InterruptedError
        assert passes_left < 0 or raised is not None
        after = fingerprint(model)
        assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())
        assert before[1] == after[1]
        assert torch.equal(before[2], after[2])


def save_free(model):
    """As a model that was loaded from a folder: it knows its own kind."""
    model.config.architectures = [type(model).__name__]
    return model


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        ([], "empty group"),
        ([(0, 1), []], "empty group"),
        ([(2, 0)], r"layer 2; this model has layers 0\.\.1"),
        ([(-1, 0)], r"layer -1; this model has layers 0\.\.1"),
        ([[(0, 0), (1, 3)]], r"head 1\.3; this model has heads 0\.\.2"),
        ((1, 2), "pairs"),
        (["L1H2"], "pairs"),
        (["1.3"], r"head 1\.3; this model has heads 0\.\.2"),
        ([(0, 1, 2)], "pairs"),
        (5, "pairs"),
    ],
)
def test_heads_that_the_model_lacks_are_refused(heads, told):
    with pytest.raises(ModelError, match=told):
        scan_ablations(random_model(), random_tokens(60), heads, progress=False)


def test_what_else_is_refused():
    model, tokens = random_model(), random_tokens(60)
    for arguments, told in [
        ({"held_out": tokens, "kind": "mean"}, "there are full and pattern_preserving"),
        ({"held_out": tokens[:, :21]}, "rows of 21 tokens; rows of at least 22"),
        ({"held_out": tokens[:0]}, r"shape \(0, 24\)"),
        ({"held_out": tokens + 60}, "the vocabulary has 0 to 59"),
        ({"held_out": tokens.float()}, "holds float32 values"),
    ]:
        with pytest.raises(ModelError, match=told):
            scan_ablations(model, progress=False, **arguments)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        scan_ablations(broken, tokens, progress=False)
    assert scan_ablations(model, tokens[:, :22], progress=False).attrs["icl_late"] == 21


def test_patterns_that_cannot_be_frozen_are_refused():
    """Attention that shows its pattern only, and writes more than what it moves along it."""
    model = random_model()
    attention = model.blocks[1].attn.original_component
    attention.accepts_pattern_fn = False
    plain = attention.forward
    attention.forward = lambda read, **kwargs: (plain(read, **kwargs)[0] + read, plain(read, **kwargs)[1])
    with pytest.raises(ModelError, match="cannot be frozen"):
        scan_ablations(model, random_tokens(60), kind="pattern_preserving", progress=False)
    found = scan_ablations(model, random_tokens(60), progress=False)
    assert_equals_hooks(found, model, random_tokens(60), "full")


def test_layers_without_attention_are_passed_through_and_have_no_heads(tmp_path):
    config = transformers.Lfm2Config(
        vocab_size=D_VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, block_multiple_of=8, max_position_embeddings=128, bos_token_id=3, eos_token_id=None,
        pad_token_id=None, layer_types=["conv", "full_attention", "conv"],
    )  # fmt: skip
    source = randomised(transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval())
    model = TransformerBridge.boot_transformers(str(save(source, tmp_path)), device="cpu")
    tokens = random_tokens(D_VOCAB)
    found = scan_ablations(model, tokens, progress=False)
    assert np.isnan(found.loss_by_position.sel(layer=[0, 2])).all()
    assert_equals_hooks(found.sel(layer=[1]), model, tokens, "full")
    with pytest.raises(ModelError, match="names layer 2: no attention pattern here"):
        scan_ablations(model, tokens, [(1, 0), (2, 0)], progress=False)
    with pytest.raises(ModelError, match="cannot be frozen: layer 0 has no attention pattern"):
        scan_ablations(model, tokens, kind="pattern_preserving", progress=False)


def test_along_a_run(run_path):
    run = open_run(run_path)
    found = scan_ablations(run, n_evaluation=4, progress=False)
    assert found.loss_by_position.dims == ("step", "layer", "head", "position")
    assert list(found.step.values) == run.steps
    assert list(found.tokens_seen.values) == [checkpoint.tokens_seen for checkpoint in run.checkpoints]
    held_out = run.held_out()
    tokens = held_out[[len(held_out) * i // 4 for i in range(4)]]
    for step in (run.steps[0], run.steps[-1]):
        one = scan_ablations(run.load_model(step), tokens, progress=False)
        for name in one.data_vars:
            np.testing.assert_allclose(found[name].sel(step=step), one[name], atol=1e-6, err_msg=name)
            assert found[name].attrs == one[name].attrs
    assert found.attrs["n_sequences"] == 4 and found.attrs["model"] == run.name
    assert abs(found.loss_change.isel(step=-1)).max() > 1e-4
    sets = scan_ablations(run, heads=[(0, 0), [(0, 0), (1, 1)]], n_evaluation=4, progress=False)
    assert sets.icl_score.dims == ("step", "ablation")
    np.testing.assert_allclose(sets.loss[:, 0], found.loss.sel(layer=0, head=0), atol=1e-6)
    with pytest.raises(ModelError, match="without held-out text"):
        scan_ablations(dataclasses.replace(run, held_out=nothing), progress=False)


def test_induction_heads_against_idle_ones():
    model = hand_built_model([["previous-token", "idle", "idle"], ["induction", "idle", "idle"]])
    found = compare_with_random_heads(model, REPEATED, [(1, 0)], progress=False)
    assert float(found.share_lost) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.random_share_lost, 0, atol=1e-6)
    assert list(found.draw.values) == ["1.1", "1.2"]  # there are no more
    assert float(found.p) == pytest.approx(1 / 3)
    # The other way round: idle heads lose nothing, and a draw that has the induction head loses all.
    idle = compare_with_random_heads(model, REPEATED, [(1, 1)], progress=False)
    assert float(idle.share_lost) == pytest.approx(0, abs=1e-6)
    assert float(idle.random_share_lost.sel(draw="1.0")) == pytest.approx(1, abs=1e-3)
    assert float(idle.p) == 1
    # Half of what is gained, if half was there before.
    before = float(found.baseline_icl_score) / 2
    half = compare_with_random_heads(model, REPEATED, [(1, 0)], icl_before=before, progress=False)
    assert float(half.share_lost) == pytest.approx(2, abs=2e-3)
    nothing_to_lose = compare_with_random_heads(model, REPEATED, [(1, 0)], icl_before=-2.0, progress=False)
    assert np.isnan(nothing_to_lose.share_lost) and np.isnan(nothing_to_lose.share_lost_interval).all()


def test_draws_are_different_sets_of_other_heads():
    model, tokens = random_model(n_layers=3, n_heads=6, d_head=4), random_tokens(60)
    heads = [(0, 1), (2, 0), (2, 5)]

    def drawn(**changes):
        found = compare_with_random_heads(model, tokens, heads, n_draws=12, progress=False, **changes)
        return [[tuple(map(int, head.split("."))) for head in str(draw).split(" + ")] for draw in found.draw.values]

    same = drawn()
    assert len({frozenset(draw) for draw in same}) == 12
    assert all(sorted(layer for layer, _ in draw) == [0, 2, 2] for draw in same)
    anywhere = drawn(among="all layers")
    assert all(len(set(draw)) == 3 and not set(draw) & set(heads) for draw in same + anywhere)
    assert {layer for draw in anywhere for layer, _ in draw} == {0, 1, 2}
    assert drawn() == same and drawn(seed=1) != same


def test_intervals_are_as_wide_as_the_delta_method_says():
    model, tokens = random_model(), random_tokens(60, n_sequences=60)
    found = compare_with_random_heads(model, tokens, [(0, 1), (1, 2)], n_draws=2, icl_before=5.0, progress=False)
    early, late = found.attrs["icl_early"], found.attrs["icl_late"]
    with_heads, without = (hooked_losses(model, tokens, heads, "full") for heads in ([], [(0, 1), (1, 2)]))
    base, ablated = (losses[:, late - 1] - losses[:, early - 1] for losses in (with_heads, without))
    share = (ablated - base).mean() / (5 - base).mean()
    assert float(found.share_lost) == pytest.approx(share, abs=1e-4)
    error = np.std((ablated - base) - share * (5 - base)) / np.sqrt(60) / (5 - base).mean()
    low, high = found.share_lost_interval.values
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert low < share < high


def test_too_few_other_heads_are_refused():
    model, tokens = random_model(), random_tokens(60)
    with pytest.raises(ModelError, match="1 other heads to draw 2 from"):
        compare_with_random_heads(model, tokens, [(1, 0), (1, 1)], progress=False)
    for changes, told in [({"among": "everywhere"}, "everywhere"), ({"n_draws": 0}, "n_draws=0")]:
        with pytest.raises(ModelError, match=told):
            compare_with_random_heads(model, tokens, [(1, 0)], progress=False, **changes)


def test_held_out_text_goes_in_as_it_comes():
    model, tokens = random_model(), random_tokens(60)
    array = tokens.numpy().astype(np.uint16)
    assert scan_ablations(model, array, progress=False).identical(scan_ablations(model, tokens, progress=False))
    scores = ("previous_token",)
    assert scan_heads(model, array, scores=scores).identical(scan_heads(model, tokens, scores=scores))
