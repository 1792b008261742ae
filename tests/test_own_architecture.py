"""The page on models of one's own, run as it stands, and the check of a conversion: faults are found where they are."""

from __future__ import annotations

import contextlib
import copy
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from architectures import random_hugging_face_model, randomised
from foreign_layouts import NanoGPT, nano_gpt_content

import inductionkit as ik
from inductionkit.errors import ModelError

PAGE = Path(__file__).parents[1] / "docs" / "how_to" / "your_own_architecture.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> SimpleNamespace:
    """What the page's code defines, run from top to bottom in a folder with the checkpoints that it names."""
    names: dict = {"held_out": torch.randint(1, 100, (24, 128), generator=torch.Generator().manual_seed(0))}
    folder = tmp_path_factory.mktemp("page")
    (folder / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for i, code in enumerate(CODE):
            exec(compile(code, str(PAGE), "exec"), names)
            if i == 0:
                for step in (0, 1000):
                    torch.save(randomised(names["MyGPT"](), step).state_dict(), f"out/step_{step}.pt")
        yield SimpleNamespace(**names)


def test_the_page_runs(page):
    assert page.run.steps == [0, 1000]
    assert [checkpoint.tokens_seen for checkpoint in page.run.checkpoints] == [0, 1000 * 16 * 128]
    with torch.no_grad():
        torch.testing.assert_close(
            page.run.load_model(1000)(page.held_out), page.original(page.held_out), atol=1e-5, rtol=1e-5
        )
    assert page.history.step.values.tolist() == [0, 1000]


def test_the_names_on_the_page(page):
    """The table has all names of the model, with their shapes, and of the gated one those that are only there."""
    text = PAGE.read_text(encoding="utf-8")
    listed, part = {}, ""
    for names, shape in re.findall(r"^\| (`[a-z]\w*\..*?) \| \((.*?)\)", text, re.MULTILINE):
        sizes = [size.strip("` ") for size in shape.split(", ")]
        for name in re.findall(r"`([\w.]+)`", names):
            name = f"{part}{name}" if name.startswith(".") else name
            part = name.rpartition(".")[0]
            listed[name] = sizes[:1] if name.endswith(".bias") else sizes
    values = {"d_vocab": 100, "n_ctx": 128, "d_model": 48, "d_mlp": 192, "n_heads` · `d_head": 48}
    shapes = {name: tuple(values[size] for size in sizes) for name, sizes in listed.items()}
    gate = shapes.pop("blocks.0.mlp.gate.weight")
    first = {n: tuple(t.shape) for n, t in page.native.state_dict().items() if not re.match(r"blocks\.[12]", n)}
    assert shapes == first and gate == (192, 48)


def converted(page, change=lambda weights: None):
    """The model of step 1000, some of its weights changed by their names on the page."""
    weights = {name: weight.clone() for name, weight in page.load(1000).items()}
    change(weights)
    return ik.open_run([(1000, lambda: weights)], model=page.native).load_model()


def transpose(name):
    def change(weights):
        weights[name] = weights[name].T.contiguous()

    return change


def exchange(one, other):
    def change(weights):
        weights[one], weights[other] = weights[other], weights[one]

    return change


def interleave(weights):
    """As if queries, keys and values of each head lay together."""
    for layer in range(3):
        names = [f"blocks.{layer}.attn.{letter}.weight" for letter in "qkv"]
        joint = torch.cat([weights[name] for name in names])
        parts = joint.unflatten(0, (4, 3, 12)).transpose(0, 1).flatten(1, 2)
        weights.update(zip(names, parts))


def reverse_layers(weights):
    for name in [name for name in weights if name.startswith("blocks.0.")]:
        exchange(name, name.replace("blocks.0.", "blocks.2."))(weights)


ATTENTION = r"they first differ in layer {}, by up to \S+, in its attention"
MLP = r"they first differ in layer {}, by up to \S+, but its attention agrees; check the weights and the activation"
END = r"all layers agree; check the final norm and the unembedding"
FAULTS = {
    "transposed output": (transpose("blocks.1.attn.o.weight"), ATTENTION.format(1)),
    "transposed values": (transpose("blocks.2.attn.v.weight"), ATTENTION.format(2)),
    "queries for keys": (exchange("blocks.2.attn.q.weight", "blocks.2.attn.k.weight"), ATTENTION.format(2)),
    "heads interleaved": (interleave, ATTENTION.format(0)),
    "norms exchanged": (exchange("blocks.1.ln1.weight", "blocks.1.ln2.weight"), ATTENTION.format(1)),
    "norm before the MLP": (lambda weights: weights["blocks.2.ln2.bias"].zero_(), MLP.format(2)),
    "MLP of another layer": (exchange("blocks.0.mlp.in.weight", "blocks.2.mlp.in.weight"), MLP.format(0)),
    "a bias in an MLP": (lambda weights: weights["blocks.1.mlp.in.bias"].add_(0.1), MLP.format(1)),
    "layers in reverse": (reverse_layers, ATTENTION.format(0)),
    "no final norm weights": (lambda weights: weights["ln_final.weight"].fill_(1), END),
    "unembedding": (lambda weights: weights["unembed.weight"].copy_(weights["unembed.weight"].roll(1, 0)), END),
    "embedding": (lambda weights: weights["embed.weight"].mul_(1.01), r"they first differ in the embedding"),
    "positions": (
        lambda weights: weights["pos_embed.weight"].copy_(weights["pos_embed.weight"].roll(1, 0)),
        r"they first differ in the embedding, by up to \S+; check the token and position embeddings",
    ),
    "nothing loaded": (lambda weights: weights["blocks.1.mlp.in.weight"].fill_(torch.nan), MLP.format(1)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_mapping_is_found_where_it_is(fault, page):
    change, expected = FAULTS[fault]
    with pytest.raises(ModelError, match=rf"^log-probabilities differ by up to \S+ nats: {expected}"):
        ik.check_conversion(converted(page, change), page.original)


def test_the_message_on_the_page(page):
    """But for its numbers."""

    def change(weights):
        for layer in range(3):
            exchange(f"blocks.{layer}.attn.q.weight", f"blocks.{layer}.attn.k.weight")(weights)

    with pytest.raises(ModelError) as raised:
        ik.check_conversion(converted(page, change), page.original)
    [shown] = re.findall(r"^ModelError: (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.sub(r"\d\S*", "#", shown) == re.sub(r"\d\S*", "#", str(raised.value))


@pytest.mark.parametrize("layer", range(3))
def test_another_activation_in_one_layer(layer, page):
    model = converted(page)
    mlp = model.blocks[layer].mlp.original_component
    assert mlp.act is torch.nn.functional.relu
    mlp.act = torch.nn.functional.gelu
    with pytest.raises(ModelError, match=MLP.format(layer)):
        ik.check_conversion(model, page.original)


def test_what_is_no_fault(page):
    """Rounding, and what no probability shows: a constant added to all logits."""
    report = ik.check_conversion(converted(page), page.original)
    assert report.n_tokens == 128 and 0 <= report.difference < 1e-4
    assert re.fullmatch(
        r"ConversionCheck\(128 tokens, log-probabilities differ by at most \d\.\de-0\d nats\)", repr(report)
    )
    shifted = converted(page, lambda weights: weights.update({"unembed.bias": torch.full((100,), 7.0)}))
    ik.check_conversion(shifted, page.original)
    tilted = converted(page, lambda weights: weights.update({"unembed.bias": 1e-2 * torch.arange(100) / 100}))
    with pytest.raises(ModelError, match=END):
        ik.check_conversion(tilted, page.original)
    ik.check_conversion(tilted, page.original, atol=0.02)
    rounded = copy.deepcopy(page.original).bfloat16()
    with pytest.raises(ModelError, match="differ by up to"):
        ik.check_conversion(converted(page), rounded)
    ik.check_conversion(converted(page), rounded, atol=0.5)


def state_of(model):
    modules = [module for root in (model, getattr(model, "original_model", model)) for module in root.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules]
    return [module.training for module in modules], hooks, [p.requires_grad for p in model.parameters()]


def test_both_models_are_left_as_they_were(page):
    """In whatever mode their parts were, whether they agree or not, or fail on the way; dropout plays no part."""
    original = copy.deepcopy(page.original)
    original.layers[1].norm1 = torch.nn.Sequential(original.layers[1].norm1, torch.nn.Dropout(0.5))
    original.eval()
    original.layers[1].train()
    for model in (converted(page), converted(page, FAULTS["embedding"][0])):
        model.train()
        model(torch.zeros(1, 5, dtype=torch.long))  # TransformerLens adds hooks of its own in a first pass
        before, generator = (state_of(original), state_of(model)), torch.get_rng_state()
        for tokens in (None, torch.zeros(1, 5, dtype=torch.long)):
            with contextlib.suppress(ModelError):
                ik.check_conversion(model, original, tokens)
        with pytest.raises(IndexError):
            ik.check_conversion(model, lambda tokens: original(tokens + 1000), blocks=original.layers)
        assert (state_of(original), state_of(model)) == before
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(parameter.grad is None for parameter in (*model.parameters(), *original.parameters()))
    ik.check_conversion(converted(page), original)


def test_what_an_original_may_be(page):
    model, original = converted(page), page.original
    broken = converted(page, FAULTS["transposed values"][0])
    forms = {
        "a function": lambda tokens: original(tokens),
        "a tuple": lambda tokens: (original(tokens), None),
        "an object": lambda tokens: SimpleNamespace(logits=original(tokens)),
        "wrapped": torch.compile(original),
        "in a list": torch.nn.ModuleList([original])[0],
    }
    for form, function in forms.items():
        ik.check_conversion(model, function)
        with pytest.raises(ModelError, match=ATTENTION.format(2)):
            ik.check_conversion(broken, function, blocks=original.layers)
        expected = ATTENTION.format(2) if form in ("wrapped", "in a list") else "to see in which layer, pass blocks="
        with pytest.raises(ModelError, match=expected):
            ik.check_conversion(broken, function)
    sequential = copy.deepcopy(original)
    sequential.layers = torch.nn.Sequential(*sequential.layers)
    with pytest.raises(ModelError, match=ATTENTION.format(2)):
        ik.check_conversion(broken, sequential)
    ik.check_conversion(model, original, np.arange(40).reshape(2, 20))


def test_a_function_around_a_model_with_dropout(page):
    """A module is put in evaluation mode; what a function runs cannot be, and the message says so."""
    original = copy.deepcopy(page.original)
    original.layers = torch.nn.ModuleList(
        [torch.nn.Sequential(layer, torch.nn.Dropout(0.5)) for layer in original.layers]
    )
    original.train()
    ik.check_conversion(converted(page), original, blocks=[layer[0] for layer in original.layers])
    with pytest.raises(ModelError, match=r"If the function runs a model with dropout, call model\.eval\(\) first"):
        ik.check_conversion(converted(page), lambda tokens: original(tokens))
    original.eval()
    ik.check_conversion(converted(page), lambda tokens: original(tokens))
    with pytest.raises(ModelError) as refused:
        ik.check_conversion(converted(page, FAULTS["transposed values"][0]), original)
    assert "dropout" not in str(refused.value)


def test_blocks_that_do_not_say_where(page):
    """Attention that is under another name leaves the layer; modules of other shapes leave nothing."""
    original, broken = copy.deepcopy(page.original), converted(page, FAULTS["transposed values"][0])
    with pytest.raises(ModelError, match="blocks= has 2 modules; the converted model has 3 layers"):
        ik.check_conversion(broken, original, blocks=original.layers[:2])
    with pytest.raises(ModelError, match="to see in which layer, pass blocks="):
        ik.check_conversion(broken, original, blocks=[layer.down for layer in original.layers])
    for layer in original.layers:
        layer.forward = lambda x, layer=layer: _forward(layer, x)
        layer.mixing = layer.attn
        del layer.attn
    with pytest.raises(
        ModelError, match=r"first differ in layer 2, by up to \S+; check its norms, its attention and its MLP"
    ):
        ik.check_conversion(broken, original)


def _forward(layer, x):
    x = x + layer.mixing(layer.norm1(x))
    return x + layer.down(torch.relu(layer.up(layer.norm2(x))))


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (lambda logits: logits[:, :, :99], r"logits of shape \(2, 64, 99\), the converted model of \(2, 64, 100\)"),
        (lambda logits: logits[:, [-1]], r"the logits of the last position alone, as nanoGPT's does without targets"),
        (lambda logits: logits[:, -1], r"the logits of the last position alone"),
        (
            lambda logits: logits.flatten(0, 1),
            r"returned \(128, 100\) for tokens of \(2, 64\); logits \(sequence, position,",
        ),
        (lambda logits: None, r"returned a NoneType, not logits"),
        (lambda logits: (), r"returned a tuple, not logits"),
    ],
)
def test_what_is_no_logits(returned, expected, page):
    with pytest.raises(ModelError, match=expected):
        ik.check_conversion(converted(page), lambda tokens: returned(page.original(tokens)))


def test_tokens_that_do_not_fit(page):
    for tokens, expected in (
        (torch.full((1, 4), 100), "leave the vocabulary"),
        (torch.zeros(1, 200).long(), "do not fit"),
    ):
        with pytest.raises(ModelError, match=expected):
            ik.check_conversion(converted(page), page.original, tokens)


def test_a_run_of_nano_gpt_beside_its_model(tmp_path):
    model = NanoGPT(3)
    torch.save(nano_gpt_content(model, 5), tmp_path / "ckpt.pt")
    opened = ik.open_run(tmp_path).load_model()
    with pytest.raises(
        ModelError, match=r"such as lambda tokens: model\(tokens, tokens\)\[0\], and blocks=model\.transformer"
    ):
        ik.check_conversion(opened, model)
    ik.check_conversion(opened, lambda tokens: model(tokens, tokens)[0], blocks=model.transformer.h)
    for block in model.transformer.h[1:]:  # as before nanoGPT had the exact GELU
        block.mlp.gelu = torch.nn.GELU(approximate="tanh")
    with pytest.raises(ModelError, match=MLP.format(1)):
        ik.check_conversion(opened, lambda tokens: model(tokens, tokens)[0], blocks=model.transformer.h)


# What else mappings do


def formula(row: str) -> str:
    """The code in a row of the page's last table."""
    line = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|") and row in line)
    return re.findall(r"`((?:q, k, v = )?weight\..*?)`", line)[-1]


def llama_to_native(model, rotary: str):
    """Llama has rotary positions in halves, RMS norms, a gate and fewer keys than queries."""
    weights, config = model.state_dict(), model.config
    native = {
        "embed.weight": weights["model.embed_tokens.weight"],
        "ln_final.weight": weights["model.norm.weight"],
        "unembed.weight": weights["lm_head.weight"],
    }
    names = {
        "ln1": "input_layernorm", "ln2": "post_attention_layernorm", "attn.q": "self_attn.q_proj",
        "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj", "attn.o": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj", "mlp.in": "mlp.up_proj", "mlp.out": "mlp.down_proj",
    }  # fmt: skip
    d_head = config.hidden_size // config.num_attention_heads
    for layer in range(config.num_hidden_layers):
        for theirs, mine in names.items():
            weight = weights[f"model.layers.{layer}.{mine}.weight"]
            if theirs in ("attn.q", "attn.k"):
                weight = eval(rotary, {"weight": weight, "n_heads": len(weight) // d_head, "d_head": d_head})
            native[f"blocks.{layer}.{theirs}.weight"] = weight
            if theirs.startswith("attn"):
                native[f"blocks.{layer}.{theirs}.bias"] = torch.zeros(len(weight))
    return native


def test_rotary_positions_in_halves_norms_gates_and_groups():
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    llama = random_hugging_face_model("llama")
    shape = {"n_layers": 3, "d_model": 32, "n_heads": 4, "d_head": 8, "d_mlp": 48, "n_ctx": 128, "d_vocab": 96}
    config = TransformerBridgeConfig(
        **shape,
        act_fn="silu",
        normalization_type="RMS",
        eps=llama.config.rms_norm_eps,
        gated_mlp=True,
        n_key_value_heads=2,
        positional_embedding_type="rotary",
        architecture="TransformerLensNative",
    )
    native = TransformerBridge.boot_native(config)
    run = ik.open_run([(0, lambda: llama_to_native(llama, formula("rotary positions that pair")))], model=native)
    assert ik.check_conversion(run.load_model(), llama).difference < 1e-4
    as_it_is = ik.open_run([(0, lambda: llama_to_native(llama, "weight"))], model=native)
    with pytest.raises(ModelError, match=ATTENTION.format(0)):
        ik.check_conversion(as_it_is.load_model(), llama)


def test_heads_that_have_their_three_parts_together(page):
    q, k, v = (torch.randn(4, 12, 48, generator=torch.Generator().manual_seed(i)) for i in range(3))
    joint = torch.stack([q, k, v], dim=1).flatten(0, 2)  # head by head: its queries, its keys, its values
    names = {"weight": joint, "n_heads": 4, "d_head": 12}
    exec(formula("three parts of each head together"), names)
    assert all(torch.equal(names[letter], part.flatten(0, 1)) for letter, part in zip("qkv", (q, k, v)))
