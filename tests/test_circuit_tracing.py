"""The induction circuit: shares against whole passes of held models, edges against how models were built."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import slow_architectures as slow_side
import torch
from architectures import CONFIGS, D_VOCAB, random_hugging_face_model, randomised
from transformers import AutoModelForCausalLM, MistralConfig

import inductionkit as ik
from inductionkit.circuit import circuits_of
from inductionkit.circuit.verifying import measured_shares
from inductionkit.lens import Lens
from inductionkit.scan.circuit_tracing import Edge, traced_parts, two_repeats
from inductionkit.scores.prompts import PromptSettings
from inductionkit.testing import hand_built_model

PROMPTS = PromptSettings(n_sequences=2, n_distinct=5, pool=range(4, 40))
READER = 2  # the layer whose heads are traced
EPSILON = 1e-3
QUIET = {"progress": False}


class HeldNorm:
    """Makes a norm divide by what it divided by in the first pass since `forget`, written out from its weights."""

    def __init__(self, norm: torch.nn.Module):
        self._norm, self._original = norm, norm.forward
        self._divided_by: torch.Tensor | None = None
        norm.forward = self.forward

    def forget(self) -> None:
        self._divided_by = None

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scale, bias = map(torch.tensor, slow_side.scale_and_bias(self._original, rows.shape[-1]))
        with torch.no_grad():
            uneven = torch.linspace(-1, 3, rows.shape[-1], dtype=rows.dtype)
            centres = torch.allclose(self._original(uneven), self._original(uneven + 1), atol=1e-3)
        rows = rows - rows.mean(-1, keepdim=True) if centres else rows
        if self._divided_by is None:
            eps = next(getattr(self._norm, name, None) or 1e-6 for name in ("eps", "variance_epsilon"))
            self._divided_by = (rows.square().mean(-1, keepdim=True) + eps).sqrt()
        return rows / self._divided_by * scale + bias


def heads_wrote(slow: slow_side.SlowModel, row: np.ndarray) -> list[np.ndarray]:
    """By layer up to `READER`: what each head writes into the residual stream (head, position, d_model)."""
    layers = slow.layers[:READER]
    inputs: list[torch.Tensor] = []
    before_post: list[torch.Tensor] = []
    handles = [
        layer.get_submodule(slow.names.output).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        for layer in layers
    ]
    if slow.names.post_norm is not None:
        handles += [
            layer.get_submodule(slow.names.post_norm).register_forward_pre_hook(
                lambda _, given: before_post.append(given[0])
            )
            for layer in layers
        ]
    with torch.no_grad():
        slow.model(torch.tensor(row)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    found = []
    for layer, z in enumerate(inputs):
        heads = z[0].unflatten(-1, (slow.n_heads, -1)).transpose(0, 1).numpy()
        into = slow.enter_stream(heads @ slow.weights(layer)[3], layer)
        if before_post:  # a norm between the heads and the stream divides
            into = into / before_post[layer][0].square().mean(-1, keepdim=True).sqrt().numpy()
        found.append(into)
    return found


def slow_gap(slow: slow_side.SlowModel, row: np.ndarray, second: slice, head: int) -> float:
    """By how much the score of the follower exceeds the mean score of the keys that are seen, summed over queries."""
    with torch.no_grad():
        seen = slow.model(torch.tensor(row)[None], output_attentions=True, use_cache=False)
    pattern = seen.attentions[READER][0, head].numpy()
    n = second.stop - second.start
    total = 0.0
    for i in range(second.start, second.stop):
        if pattern[i, i - n + 1] > 0:
            total += np.log(pattern[i, i - n + 1]) - np.log(pattern[i][pattern[i] > 0]).mean()
    return total


def slow_changes(model: torch.nn.Module, tokens: torch.Tensor, second: slice, head: int) -> np.ndarray:
    """(layer, head): how the gap of a head in `READER` changes with what each earlier head wrote into the stream that
    its layer's attention reads, keys and queries together, by whole passes."""
    slow = slow_side.SlowModel(copy.deepcopy(model))
    block = slow.layers[READER]
    written = [heads_wrote(slow, row) for row in tokens.numpy()]
    norms = [m for n, m in block.named_modules() if "norm" in type(m).__name__.lower() and not list(m.children())]
    post = slow.names.post_norm and block.get_submodule(slow.names.post_norm)
    held = [HeldNorm(norm) for norm in norms if norm is not post]

    first = block.get_submodule(slow.names.norm) if slow.names.norm else block
    added: list[torch.Tensor | None] = [None]

    def add(module, args, kwargs):
        if added[0] is None:
            return None
        if args:
            return (args[0] + added[0], *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + added[0]}

    first.register_forward_pre_hook(add, with_kwargs=True)

    found = np.zeros((READER, slow.n_heads))
    for row, of_row in zip(tokens.numpy(), written):
        for norm in held:
            norm.forget()
        added[0] = None
        slow_gap(slow, row, second, head)
        for layer, other in np.ndindex(found.shape):
            change = torch.tensor(of_row[layer][other])
            added[0] = EPSILON * change
            more = slow_gap(slow, row, second, head)
            added[0] = -EPSILON * change
            found[layer, other] += (more - slow_gap(slow, row, second, head)) / (2 * EPSILON)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_shares_of_both_sides_equal_whole_passes_with_divisions_held(name):
    model = random_hugging_face_model(name).eval()
    lens = Lens(model)
    prompts = two_repeats(lens, PROMPTS)
    traced = traced_parts(lens, prompts, [(READER, 1)], max_bytes=2**28)
    assert not traced.reasons
    found = sum(traced.parts[side, (READER, 1)] for side in "KQ")[:READER].numpy()
    expected = slow_changes(model, prompts.tokens, prompts.second, head=1)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def built(*layers: str) -> ik.circuit.InductionCircuit:
    model = hand_built_model([layer.split() for layer in layers], seed=1)
    return ik.induction_circuit(model, verify=True, progress=False)


def ends(circuit):
    return {
        (f"{edge.from_layer}.{edge.from_head}", f"{edge.to_layer}.{edge.to_head}", edge.side)
        for edge in circuit.edges.itertuples()
    }


@pytest.mark.parametrize(
    ("layers", "edges", "roles"),
    [
        (
            ("previous-token idle", "idle induction"),
            {("0.0", "1.1", "K")},
            {(0, 0): "previous-token", (1, 1): "induction"},
        ),
        (
            ("idle previous-token", "idle idle", "anti-induction induction"),
            {("0.1", "2.0", "K"), ("0.1", "2.1", "K")},
            {(0, 1): "previous-token", (2, 0): "anti-copying", (2, 1): "induction"},
        ),
        (("previous-token duplicate-token",), set(), {}),
        (("idle idle", "induction induction"), set(), {}),  # without a previous-token head they match nothing
    ],
)
def test_hand_built_models_have_the_circuit_that_was_built(layers, edges, roles):
    circuit = built(*layers)
    assert ends(circuit) == edges
    assert circuit.nodes["role"].to_dict() == roles
    np.testing.assert_allclose(circuit.edges["share"], 1.0, rtol=1e-4)  # by construction nothing else is read
    np.testing.assert_allclose(circuit.edges["measured"], 1.0, rtol=1e-4)
    assert circuit.untraced == []


def test_two_previous_token_heads_share_what_is_read():
    circuit = built("previous-token previous-token", "idle induction")
    assert ends(circuit) == {("0.0", "1.1", "K"), ("0.1", "1.1", "K")}
    np.testing.assert_allclose(circuit.edges[["share", "measured"]], 0.5, rtol=1e-4)


def test_the_sentence_of_a_hand_built_model():
    assert repr(built("previous-token idle", "idle induction")).endswith(
        ": 0.0 writes the previous token; 1.1 matches on it; 1.1 raises the token by 1.0 nats"
    )
    assert repr(built("previous-token idle")).endswith(": no induction circuit")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen3", "olmo2", "gptj"])
def test_models_with_random_weights_have_no_circuit(name):
    circuit = ik.induction_circuit(random_hugging_face_model(name), progress=False)
    assert circuit.nodes.empty and circuit.edges.empty


@pytest.mark.parametrize("side", "KQ")
@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "olmo2"])
def test_measured_shares_equal_own_passes(name, side):
    """Of the Hugging Face model, with what a head wrote taken from what one projection reads."""
    model = random_hugging_face_model(name).eval()
    prompts = two_repeats(Lens(model), PROMPTS)
    edge = Edge((0, 1), (READER, 0), side, 0.5, 2.0)
    found = measured_shares(Lens(model), prompts, [edge], 2**28)[edge]
    slow = slow_side.SlowModel(copy.deepcopy(model))
    block = slow.layers[READER]
    lost = 0.0
    for row in prompts.tokens.numpy():
        wrote = torch.tensor(heads_wrote(slow, row)[0][1])
        streams: list[torch.Tensor] = []

        def keep(module, args, kwargs, streams=streams):
            streams.append((args[0] if args else kwargs["hidden_states"]).clone())

        def read_less(module, args, wrote=wrote, streams=streams):
            less = streams[-1] - wrote
            return (block.get_submodule(slow.names.norm)(less) if slow.names.norm else less,)

        before = (block.get_submodule(slow.names.norm) if slow.names.norm else block).register_forward_pre_hook(
            keep, with_kwargs=True
        )
        clean = slow_gap(slow, row, prompts.second, 0)
        before.remove()
        projection = block.get_submodule(slow.names.reads["QK".index(side)])
        handle = projection.register_forward_pre_hook(read_less)
        lost += clean - slow_gap(slow, row, prompts.second, 0)
        handle.remove()
    assert found == pytest.approx(lost / (edge.whole * prompts.targets.numel()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gptj", "falcon", "opt"])
def test_measured_shares_do_not_depend_on_batches(name):
    lens = Lens(random_hugging_face_model(name).eval())
    prompts = two_repeats(lens, PROMPTS)
    edges = [Edge((layer, 1), (READER, 0), side, 0.5, 2.0) for layer in range(READER) for side in "KQ"]
    edges.append(Edge((1, 0), (READER, 1), "V", 0.5, 0.2))
    found, in_parts = (measured_shares(lens, prompts, edges, n) for n in (2**28, 1))
    assert found == pytest.approx(in_parts, rel=1e-3, abs=1e-5)
    assert all(np.isfinite(share) and share != 0 for share in found.values())


def test_a_head_with_a_window_is_traced_by_what_it_sees():
    config = MistralConfig(
        vocab_size=D_VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=128, sliding_window=8,
    )  # fmt: skip
    model = randomised(AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval())
    prompts = two_repeats(Lens(model), PROMPTS)
    traced = traced_parts(Lens(model), prompts, [(READER, 1)], max_bytes=2**28)
    assert traced.reasons == [] and abs(traced.whole["K", (READER, 1)]) < 1e3
    slow = slow_side.SlowModel(copy.deepcopy(model))
    expected = sum(slow_gap(slow, row, prompts.second, 1) for row in prompts.tokens.numpy())
    assert traced.whole["K", (READER, 1)] == pytest.approx(expected, rel=1e-3)
    assert np.abs(traced.parts["K", (READER, 1)][:READER]).max() > 1e-3


def test_it_works_where_gradients_are_off():
    model = hand_built_model([["previous-token", "idle"], ["idle", "induction"], ["idle", "idle"]])
    with torch.no_grad():
        torch.set_grad_enabled(False)
        assert ends(ik.induction_circuit(model, verify=True, **QUIET)) == {("0.0", "1.1", "K")}


def test_a_run_shows_its_circuit_assembling(tmp_path):
    run = ik.open_run("bundled")
    ends_of_it = dataclasses.replace(run, checkpoints=[run.checkpoints[0], run.checkpoints[-1]])
    history = ik.scan_run(ends_of_it, circuit=True, n_evaluation=2, store=tmp_path / "scan.zarr", **QUIET)
    first, last = circuits_of(ik.open_history(tmp_path / "scan.zarr"))
    assert first.nodes.empty and first.edges.empty
    assert ("0.3", "1.3", "K") in ends(last)
    assert last.nodes["role"][0, 3] == "previous-token" and last.nodes["role"][1, 3] == "induction"
    alone = ik.induction_circuit(run.load_model(3906), held_out=run.held_out(), **QUIET)
    assert ends(alone) >= {("0.3", "1.3", "K")}
    assert ik.PhaseExplorer(history) is not None
