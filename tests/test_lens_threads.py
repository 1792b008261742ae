"""Threads of one process, each with a standing model of its own: the numbers of a serial loop, to the last bit."""

from __future__ import annotations

import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers
from checkpoint_folders import save_checkpoint
from conftest import random_model
from transformer_lens.model_bridge.generalized_components.joint_qkv_attention import JointQKVAttentionBridge

from inductionkit.lens import HeadZeroing, Lens, open_model, reinitialised
from inductionkit.lens.swapping import _file_names
from inductionkit.runs import Run, open_run
from inductionkit.system.process_state import PROCESS_STATE

N_THREADS, N_REPEATS = 4, 3
TOKENS = torch.randint(0, 60, (2, 24), generator=torch.Generator().manual_seed(0))
SHAPES = {name: tuple(tensor.shape) for name, tensor in random_model().state_dict().items()}


def drawn(generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
    """Weights from torch's global random numbers, or from a generator's."""
    return {name: 0.4 * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def seeded(step: int):
    def load() -> dict[str, torch.Tensor]:
        torch.manual_seed(step)
        return drawn()

    return load


def listed(eps: float) -> Run:
    return open_run([(step, seeded(step)) for step in range(3)], model=random_model(eps=eps))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("gpt_neox", "llama")}
    for kind, folder in folders.items():
        for step in range(3):
            save_checkpoint(folder / f"step{step}", kind, seed=step)
    return {
        "bundled": open_run("bundled", checkpoints=3),
        **{kind: open_run(folder) for kind, folder in folders.items()},
        "small eps": listed(1e-5),
        "large eps": listed(1e-1),
    }


def measure(lens: Lens) -> dict[str, torch.Tensor]:
    found = {"losses": lens.token_losses(TOKENS), "gram": lens.circuits().gram()}
    lens.visit_attention(TOKENS, lambda layer, pattern, values: found.update({f"pattern {layer}": pattern.clone()}))
    zeroed = torch.eye(lens.n_layers * lens.n_heads, dtype=torch.bool).unflatten(1, (lens.n_layers, lens.n_heads))
    for freeze in (False, True):
        losses = HeadZeroing(lens, freeze).losses(TOKENS, zeroed[::5])
        found[f"ablated {freeze}"] = torch.cat([part.flatten() for *_, part in losses])
    found["chance"] = Lens(reinitialised(lens.model, seed=0)).token_losses(TOKENS)
    return found


def serial(runs: dict[str, Run]) -> dict[tuple[str, int], dict[str, torch.Tensor]]:
    found = {}
    for name, run in runs.items():
        lens = Lens(run.standing_model())
        for checkpoint in run.checkpoints:
            checkpoint.load_into(lens.model)
            found[name, checkpoint.step] = measure(lens)
    return found


def test_threads_find_what_a_serial_loop_finds(runs):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    filters = list(warnings.filters)
    expected = serial(runs)
    own = threading.local()

    def standing(name: str) -> Lens:
        lenses = vars(own).setdefault("lenses", {})
        if name not in lenses:
            lenses[name] = Lens(runs[name].standing_model())
        return lenses[name]

    def task(place: tuple[str, int]) -> dict[str, torch.Tensor]:
        name, step = place
        lens = standing(name)
        runs[name].checkpoint(step).load_into(lens.model)
        return measure(lens)

    for repeat in range(N_REPEATS):
        places = random.Random(repeat).sample(list(expected), len(expected))
        with ThreadPoolExecutor(N_THREADS) as executor:
            for place, found in zip(places, executor.map(task, places)):
                different = [name for name in found if not torch.equal(found[name], expected[place][name])]
                assert found.keys() == expected[place].keys() and not different, (place, different)
        own = threading.local()
    assert torch.equal(torch.get_rng_state(), state)
    assert warnings.filters == filters
    for step in range(3):
        assert not torch.equal(expected["small eps", step]["losses"], expected["large eps", step]["losses"])


def test_loaders_that_seed_torch_give_their_weights_and_leave_its_random_numbers(runs):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    steps = [step for _ in range(25) for step in range(3)]
    with ThreadPoolExecutor(N_THREADS) as executor:
        building = [executor.submit(runs[name].standing_model) for name in ("gpt_neox", "large eps")]
        read = list(executor.map(lambda step: runs["small eps"].checkpoint(step).read(), steps))
        assert all(future.result() for future in building)
    for step, weights in zip(steps, read):
        expected = drawn(torch.Generator().manual_seed(step))
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_all_threads_share_is_changed_by_none_without_the_lock(runs):
    """Every change is made by a thread that holds the lock; measuring makes none, but for copying a model."""
    changes: list[tuple[str, bool]] = []
    watched = {
        "torch.set_rng_state": (torch, "set_rng_state"),
        "torch.set_default_dtype": (torch, "set_default_dtype"),
        "torch.manual_seed": (torch, "manual_seed"),
        "transformers.set_verbosity": (transformers.utils.logging, "set_verbosity"),
        "transformers.disable_progress_bar": (transformers.utils.logging, "disable_progress_bar"),
        "warnings.catch_warnings": (warnings.catch_warnings, "__enter__"),
        "copying a joint projection": (JointQKVAttentionBridge, "__deepcopy__"),
    }

    def noting(what: str, change):
        def changed(*args, **kwargs):
            changes.append((what, PROCESS_STATE._is_owned()))
            return change(*args, **kwargs)

        return changed

    _file_names.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for what, (place, name) in watched.items():
            patch.setattr(place, name, noting(what, getattr(place, name)))
        measured: list[tuple[str, bool]] = []
        for run in runs.values():
            lens = Lens(run.standing_model())
            run.checkpoints[-1].load_into(lens.model)
            n_before = len(changes)
            measure(lens)
            measured += changes[n_before:]
    assert [what for what, locked in changes if not locked] == []
    assert {what for what, _ in measured} == {"copying a joint projection"}
    assert watched.keys() - {what for what, _ in changes} <= {"warnings.catch_warnings"}


def test_opening_a_hugging_face_model_draws_no_random_numbers():
    config = transformers.GPT2Config(vocab_size=60, n_embd=24, n_layer=2, n_head=3, n_positions=64, bos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).eval()
    state = torch.get_rng_state()
    opened = open_model(model)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_allclose(opened(TOKENS).detach(), model(TOKENS).logits.detach(), atol=1e-5)
