"""Models as trainers have them: compiled, wrapped, patched, with adapters. All give the plain model's numbers."""

from __future__ import annotations

import threading

import numpy as np
import peft
import pytest
import torch
import xarray as xr
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from test_surroundings import TEXT, gpt2, llama

import inductionkit as ik
from inductionkit.errors import ModelError
from inductionkit.lens.unwrapping import unwrapped
from inductionkit.scan.watching import TrainingWatch
from inductionkit.train import Transformer

QUIET = {"progress": False}


def watched(model) -> xr.Dataset:
    watch = TrainingWatch(TEXT, every=1, n_evaluation=4, tokens_per_step=1, scores="all")
    assert watch(model, 1), "nothing was measured"
    return watch.history


def scanned(model) -> xr.Dataset:
    """The same for a saved checkpoint of a plain model."""
    weights = {name: weight.float() for name, weight in model.state_dict().items()}
    run = ik.open_run([(1, lambda: weights)], model=model.float(), tokens_per_step=1)
    return ik.scan_run(run, TEXT, n_evaluation=4, scores="all", **QUIET)


def assert_same_numbers(found: xr.Dataset, expected: xr.Dataset) -> None:
    for name in expected.data_vars:
        if name != "weights_digest":
            np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


def compiled(model):
    return torch.compile(model, backend="eager")


def partly_compiled(model):
    model.transformer.h[1] = torch.compile(model.transformer.h[1], backend="eager")
    return model


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def by_accelerate(model):
    AcceleratorState._reset_state()  # which all of a process share, other tests' trainers too
    return Accelerator(mixed_precision="bf16", cpu=True).prepare(model)


def with_hooks(model):
    """Such as wandb.watch registers; these break what they see."""
    model.transformer.h[0].register_forward_hook(lambda module, args, output: 1 / 0)
    return model


WRAPPED = {
    "torch.compile": compiled,
    "a compiled part": partly_compiled,
    "compiled in place": compiled_in_place,
    "DataParallel": torch.nn.DataParallel,
    "compiled DataParallel": lambda model: compiled(torch.nn.DataParallel(model)),
    "accelerate": by_accelerate,
    "compiled and accelerate": lambda model: by_accelerate(compiled(model)),
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrappers_are_seen_through(wrap):
    wrapped = WRAPPED[wrap](gpt2())
    tokens = torch.from_numpy(TEXT[:2])
    wrapped(input_ids=tokens)  # compilation is lazy
    expected = scanned(gpt2())
    assert_same_numbers(watched(wrapped), expected)
    heads = ik.scan_heads(wrapped, scores="all", **QUIET)
    assert_same_numbers(heads, ik.scan_heads(gpt2(), scores="all", **QUIET))
    assert ("forward" in vars(unwrapped(wrapped))) == (wrap == "accelerate")  # the user's own stays patched
    weights = {name: weight.clone() for name, weight in wrapped.state_dict().items()}
    listed = ik.open_run([(1, lambda: weights)], model=wrapped, tokens_per_step=1)
    assert_same_numbers(ik.scan_run(listed, TEXT, n_evaluation=4, scores="all", **QUIET), expected)


def test_a_watch_measures_weights_and_fires_no_hooks_of_others():
    assert_same_numbers(watched(with_hooks(gpt2())), scanned(gpt2()))
    with pytest.raises(ZeroDivisionError):
        with_hooks(gpt2())(torch.from_numpy(TEXT[:2]))


def test_a_model_in_bfloat16_is_watched_as_its_checkpoint_is_scanned():
    assert_same_numbers(watched(gpt2().bfloat16()), scanned(gpt2().bfloat16()))


def test_models_of_this_project_are_seen_through_wrappers(recipe):
    model = Transformer(recipe.model, 0)
    text = np.random.default_rng(0).integers(1, recipe.model.d_vocab, (4, recipe.model.n_ctx))
    found = []
    for wrapped in (model, compiled(model), torch.nn.DataParallel(model)):
        watch = TrainingWatch(text, every=1, n_evaluation=4)
        assert watch(wrapped, 1)
        found.append(watch.history)
    for other in found[1:]:
        xr.testing.assert_identical(other, found[0])


def adapted(model, **settings):
    """A model with LoRA in its projections, far from its base."""
    targets = {"GPT2LMHeadModel": ["c_attn", "c_proj"], "LlamaForCausalLM": ["q_proj", "v_proj", "o_proj"]}
    config = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=targets[type(model).__name__], init_lora_weights=False, **settings
    )
    torch.manual_seed(1)
    return peft.get_peft_model(model, config)


ADAPTED = {"peft model": lambda model: model, "base with adapters inside": lambda model: model.get_base_model()}


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("what", ADAPTED)
def test_adapters_are_merged_into_a_copy(build, what):
    model = adapted(build()).eval()
    given = ADAPTED[what](model)
    before = {name: weight.clone() for name, weight in given.state_dict().items()}
    logits = given(torch.from_numpy(TEXT[:2])).logits
    heads, history = ik.scan_heads(given, scores="all", **QUIET), watched(given)
    assert all(torch.equal(weight, before[name]) for name, weight in given.state_dict().items())
    assert torch.equal(given(torch.from_numpy(TEXT[:2])).logits, logits)
    merged = model.merge_and_unload().eval()
    torch.testing.assert_close(merged(torch.from_numpy(TEXT[:2])).logits, logits)
    assert_same_numbers(heads, ik.scan_heads(merged, scores="all", **QUIET))
    assert_same_numbers(history, scanned(merged))
    plain = ik.scan_heads(build(), scores="all", **QUIET)
    assert abs(plain["ov_copying"] - heads["ov_copying"]).max() > 0.05


def test_switched_off_adapters_and_layers_trained_as_a_whole():
    model = adapted(gpt2()).eval()
    with model.disable_adapter():
        assert_same_numbers(ik.scan_heads(model, **QUIET), ik.scan_heads(gpt2(), **QUIET))
    whole = adapted(gpt2(), modules_to_save=["ln_f"]).eval()
    with torch.no_grad():
        whole.base_model.model.transformer.ln_f.modules_to_save["default"].weight.mul_(2)
    found = ik.scan_heads(whole, scores=("logit_lift",), **QUIET)
    assert_same_numbers(found, ik.scan_heads(whole.merge_and_unload(), scores=("logit_lift",), **QUIET))


def test_an_adapter_beside_a_layer_that_another_trains_as_a_whole():
    model = adapted(gpt2(), modules_to_save=["ln_f"])
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False))
    model.set_adapter("other")
    found = ik.scan_heads(model, scores=("logit_lift",), **QUIET)
    assert_same_numbers(found, ik.scan_heads(model.merge_and_unload(), scores=("logit_lift",), **QUIET))


def test_adapters_that_are_merged_and_then_switched_off():
    model = adapted(gpt2()).eval()
    model.merge_adapter()
    model.base_model.disable_adapter_layers()
    found, plain = ik.scan_heads(model, **QUIET), ik.scan_heads(gpt2(), **QUIET)
    for name in plain.data_vars:  # adding and subtracting rounds
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-4, atol=1e-5)


def tied_llama():
    model = llama()
    return type(model)(type(model.config)(**model.config.to_dict() | {"tie_word_embeddings": True})).eval()


APART = {
    "adapter on the embedding": {"target_modules": ["embed_tokens"]},
    "adapter on the unembedding": {"target_modules": ["lm_head"]},
    "unembedding trained": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embedding trained": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
}


@pytest.mark.parametrize("kind", [*APART, "unembedding replaced"])
@pytest.mark.filterwarnings("ignore:Model with")
def test_ends_that_are_one_by_the_configuration_and_trained_apart_are_refused(kind):
    model = tied_llama()
    if kind in APART:
        model = peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=False, **APART[kind]))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "modules_to_save" in name:
                    weight.mul_(1.5)
    else:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(120, 16))
    with pytest.raises(ModelError, match="trained apart"):
        ik.scan_heads(model)
    with pytest.warns(RuntimeWarning, match="trained apart; .*The training goes on"):
        assert not TrainingWatch(TEXT, every=1)(model, 1)
    assert_same_numbers(watched(tied_llama()), scanned(tied_llama()))  # ties that hold are measured


def test_parts_of_other_classes_are_reported():
    model = llama()
    model.model.layers[0].mlp.act_fn = torch.nn.ReLU()
    with pytest.warns(RuntimeWarning, match="act_fn of the model in training is a ReLU, by its configuration a SiLU"):
        assert TrainingWatch(TEXT, every=1)(model, 1)


def test_what_cannot_be_copied_is_refused_with_a_way_out():
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def hook(self, module, args, output): ...

    hooked = gpt2()
    hooked.transformer.h[0].register_forward_hook(Locked().hook)
    with pytest.raises(ModelError, match=r"cannot be copied .*remove what was put into it, such as hooks"):
        ik.scan_heads(hooked)
    assert TrainingWatch(TEXT, every=1)(hooked, 1)
    packed = torch.ao.quantization.quantize_dynamic(llama(), {torch.nn.Linear})
    with pytest.warns(RuntimeWarning) as told:
        assert not TrainingWatch(TEXT, every=1)(packed, 1)
    assert any("load it without quantisation" in str(warning.message) for warning in told)


def test_what_is_no_plain_model_is_refused_by_name():
    prompted = peft.get_peft_model(gpt2(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match="learns prompts"):
        ik.scan_heads(prompted)
    own = gpt2()
    own.transformer.h[0].attn.register_module("lora", torch.nn.Linear(16, 16))
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel holds 2 weights .* \(transformer.h.0.attn.lora.bias\)"):
        ik.scan_heads(own)
    patched = gpt2()
    forward = patched.forward
    patched.forward = lambda *args, **options: forward(*args, **options)
    with pytest.raises(ModelError, match="forward of GPT2LMHeadModel was replaced"):
        ik.scan_heads(patched)
    quantised = gpt2()
    packed = torch.zeros(16, 64, dtype=torch.uint8)
    quantised.transformer.h[0].mlp.c_fc.weight = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ModelError, match="uint8: load it without quantisation"):
        ik.scan_heads(quantised)
    partitioned = gpt2()
    partitioned.lm_head.weight.ds_id = 0  # as DeepSpeed marks them
    with pytest.warns(RuntimeWarning, match="ZeRO stage 3 .*The training goes on"):
        assert not TrainingWatch(TEXT, every=1)(partitioned, 1)
