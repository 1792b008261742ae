"""Measuring does not depend on the settings around it, and leaves them as they were."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import xarray as xr
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import inductionkit as ik
from inductionkit.ablation import compare_with_random_heads, scan_ablations
from inductionkit.scan.behaviours import repeated_tokens_behaviour, scan_behaviours, token_losses
from inductionkit.scan.fuzzy import scan_fuzzy
from inductionkit.scores.fuzzy import token_class_prompts
from inductionkit.scores.prompts import PromptSettings
from inductionkit.system.process_state import restored_random_numbers, undisturbed

PROMPTS = PromptSettings(2, n_distinct=20)
TEXT = np.random.default_rng(0).integers(1, 120, (8, 64))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = {"vocab_size": 120, "n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**shape)).eval()


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 120, "max_position_embeddings": 128, "hidden_size": 16, "intermediate_size": 32}
    return LlamaForCausalLM(
        LlamaConfig(**shape, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, bos_token_id=0)
    ).eval()


def run_of(model):
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    halved = {name: 0.5 * weight for name, weight in weights.items()}
    return ik.open_run([(0, lambda: weights), (1, lambda: halved)], model=model)


QUIET = {"progress": False}
MEASURED = {
    "scan_heads": lambda model: ik.scan_heads(model, scores="all", prompts=PROMPTS, n_nulls=1, **QUIET),
    "scan_run": lambda model: ik.scan_run(
        run_of(model), TEXT, prompts=PROMPTS, scores="all", n_nulls=1, texts={"a": list(range(1, 20))}, **QUIET
    ),
    "scan_ablations": lambda model: scan_ablations(model, TEXT[:2], **QUIET),
    "random heads": lambda model: compare_with_random_heads(model, TEXT[:2], [(1, 0)], n_draws=1, **QUIET),
    "behaviours": lambda model: scan_behaviours(model, [repeated_tokens_behaviour(120, 0, PROMPTS)], **QUIET),
    "losses": lambda model: token_losses(model, repeated_tokens_behaviour(120, 0, PROMPTS)).to_dataset(),
    "fuzzy": lambda model: scan_fuzzy(
        model, token_class_prompts(120, 0, classes=[[i, i + 50] for i in range(1, 30)], n_distinct=10), **QUIET
    ),
    "view": lambda model: xr.Dataset({"bytes": ("byte", np.frombuffer(view_of(model), np.uint8))}),
}


def view_of(model) -> bytes:
    return ik.AttentionView(model, list(range(1, 30)))._data


@contextlib.contextmanager
def surroundings(name: str):
    """A setting of the process or thread, of the kind that training scripts make."""
    with contextlib.ExitStack() as stack:
        if name == "several":
            for each in ("autocast", "inference mode", "default device", "float64", "deterministic", "precision"):
                stack.enter_context(surroundings(each))
        elif name == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        elif name == "inference mode":
            stack.enter_context(torch.inference_mode())
        elif name == "default device":
            stack.enter_context(torch.device("meta"))
        elif name in ("bfloat16", "float64"):
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(getattr(torch, name))
        elif name == "deterministic":
            stack.callback(torch.use_deterministic_algorithms, False)
            torch.use_deterministic_algorithms(True, warn_only=True)
        elif name == "precision":
            stack.callback(torch.set_float32_matmul_precision, "highest")
            torch.set_float32_matmul_precision("medium")
        yield


SURROUNDINGS = ["autocast", "inference mode", "default device", "bfloat16", "float64", "deterministic", "precision"]


def seen_from_inside() -> tuple:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
    )


@pytest.fixture(scope="module")
def undisturbed_results():
    return {(kind, model.__name__): measure(model()) for kind, measure in MEASURED.items() for model in (gpt2, llama)}


@pytest.mark.parametrize("name", ["several", *SURROUNDINGS])
def test_all_measurements_are_the_same_in_any_surroundings(name, undisturbed_results):
    for (kind, model), expected in undisturbed_results.items():
        if name != "several" and (kind, model) != ("scan_heads", "llama"):
            continue  # what one of them disturbs, several do too; the head scan says which
        measured = {"gpt2": gpt2, "llama": llama}[model]()
        with surroundings(name):
            before = seen_from_inside()
            found = MEASURED[kind](measured)
            assert seen_from_inside() == before, (kind, model)
        xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_surroundings_come_back_after_an_error(name):
    model = gpt2()
    model.transformer.wte.weight.data.fill_(torch.nan)
    with surroundings(name):
        before = seen_from_inside()
        with pytest.raises(ik.errors.ModelError, match="holds NaN"):
            ik.scan_heads(model)
        assert seen_from_inside() == before


BACKENDS = ("torch.backends", "torch.backends.mkldnn", "torch.backends.cuda.matmul", "torch.backends.mkldnn.matmul")


SETTINGS = [{}, *({name: "tf32"} for name in BACKENDS), {BACKENDS[0]: "tf32", BACKENDS[3]: "bf16"}]


@pytest.mark.parametrize("setting", SETTINGS)
def test_precision_by_backend_is_put_aside(setting):
    """Once it is used, torch refuses to tell the precision in the old way; in a process of its own."""
    program = f"""
import torch
from inductionkit.system.process_state import undisturbed
backends = [{", ".join(BACKENDS)}]
for name, value in {setting}.items():
    eval(name).fp32_precision = value
before = [backend.fp32_precision for backend in backends]
with undisturbed():
    assert {{backend.fp32_precision for backend in backends}} <= {{"none", "ieee"}}
assert [backend.fp32_precision for backend in backends] == before
torch.backends.fp32_precision = "ieee"  # what inherited the general setting still does
assert torch.backends.cuda.matmul.fp32_precision == {setting}.get("torch.backends.cuda.matmul", "ieee")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_share_what_is_put_aside():
    """Whoever is the last inside restores the user's dtype, whoever was the first."""
    inside, go = threading.Barrier(3), threading.Event()
    dtypes = []

    def compute(waits: bool) -> None:
        with undisturbed():
            inside.wait()
            if waits:
                go.wait()
            dtypes.append(torch.get_default_dtype())

    with surroundings("bfloat16"):
        threads = [threading.Thread(target=compute, args=(waits,)) for waits in (False, True)]
        for thread in threads:
            thread.start()
        inside.wait()
        threads[0].join()
        assert torch.get_default_dtype() == torch.float32
        go.set()
        threads[1].join()
        assert torch.get_default_dtype() == torch.bfloat16
    assert dtypes == [torch.float32] * 2


def test_no_random_number_is_taken_from_the_user():
    def drawn() -> tuple:
        return random.random(), np.random.random(), torch.rand(1).item()

    def seed() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    model = gpt2()
    seed()
    expected = drawn()
    for kind, measure in MEASURED.items():
        seed()
        measure(model)
        assert drawn() == expected, kind


def test_random_generators_are_restored_after_an_error():
    @restored_random_numbers()
    def fail() -> None:
        random.seed(2), np.random.seed(2), torch.manual_seed(2)
        raise ZeroDivisionError

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
