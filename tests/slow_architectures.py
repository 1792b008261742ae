"""The scores once more for Hugging Face models, in float64, straight from their modules.

Shares no code with the package and knows nothing of TransformerLens: attention and residual streams
come from the Hugging Face forward pass, every circuit is formed in full, and what a block does to a
token is found by running the block with its attention switched off.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import numpy as np
import slow_scores
import torch
from torch import nn


@dataclass(frozen=True)
class Names:
    """Where an architecture keeps its parts: in the model, in a layer (`norm` to `output`), in the model again."""

    layers: str
    norm: str | None  # before attention
    reads: tuple[str, ...]  # projections of queries, keys and values, or of all three in one
    output: str
    final_norm: str
    positions: str | None = None  # learned position embeddings
    post_norm: str | None = None  # between W_O and the residual stream
    group_by_group: bool = False  # the one projection holds a group's queries, its key, its value, then the next group
    n_shards: int = 0  # the one projection holds queries, values and keys of each of so many shards of the heads


_SEPARATE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GPT2 = Names("transformer.h", "ln_1", ("attn.c_attn",), "attn.c_proj", "transformer.ln_f", "transformer.wpe")
_LLAMA = Names("model.layers", "input_layernorm", _SEPARATE, "self_attn.o_proj", "model.norm")
_BLOOM = Names(
    "transformer.h",
    "input_layernorm",
    ("self_attention.query_key_value",),
    "self_attention.dense",
    "transformer.ln_f",
    group_by_group=True,
)
_DEEPSEEK = replace(_LLAMA, reads=("self_attn.kv_a_proj_with_mqa",))
_GEMMA2 = replace(_LLAMA, post_norm="post_attention_layernorm")
NAMES = {
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": Names(
        "transformer.h",
        "ln_1",
        ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
        "attn.attention.out_proj",
        "transformer.ln_f",
        "transformer.wpe",
    ),
    "gpt_neox": Names(
        "gpt_neox.layers",
        "input_layernorm",
        ("attention.query_key_value",),
        "attention.dense",
        "gpt_neox.final_layer_norm",
        group_by_group=True,
    ),
    "gptj": Names(
        "transformer.h", "ln_1", ("attn.q_proj", "attn.k_proj", "attn.v_proj"), "attn.out_proj", "transformer.ln_f"
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "opt": Names(
        "model.decoder.layers",
        "self_attn_layer_norm",
        _SEPARATE,
        "self_attn.out_proj",
        "model.decoder.final_layer_norm",
        "model.decoder.embed_positions",
    ),
    "bloom": _BLOOM,
    "codegen": Names("transformer.h", "ln_1", ("attn.qkv_proj",), "attn.out_proj", "transformer.ln_f", n_shards=4),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "falcon": _BLOOM,
    "falcon, two norms": replace(_BLOOM, norm="ln_attn"),
    "granite": _LLAMA,
    "nanochat": _LLAMA,
    "mpt": Names("transformer.blocks", "norm_1", ("attn.Wqkv",), "attn.out_proj", "transformer.norm_f"),
    "phi": Names("model.layers", "input_layernorm", _SEPARATE, "self_attn.dense", "model.final_layernorm"),
    "phi3": replace(_LLAMA, reads=("self_attn.qkv_proj",)),
    "stablelm": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": replace(_GEMMA2, norm=None),
    "nemotron": _LLAMA,
    "glm4": replace(_LLAMA, post_norm="post_self_attn_layernorm"),
}


class SlowModel:
    """A Hugging Face model taken apart into the weights of its query heads; `model` is turned to float64."""

    def __init__(self, model: nn.Module):
        self.model = in_double(model.double().eval())
        two_norms = getattr(model.config, "num_ln_in_parallel_attn", None) == 2
        self.names = NAMES[model.config.model_type + ", two norms" * two_norms]
        self.layers = list(model.get_submodule(self.names.layers))
        self.n_heads = model.config.num_attention_heads
        self.final_norm = model.get_submodule(self.names.final_norm)
        self.d_model = model.config.hidden_size
        self.has_latent = hasattr(model.config, "kv_lora_rank")
        norms = ("q_norm", "q_layernorm", "kv_a_layernorm")
        self.norms_queries = any(name.endswith(norms) for name, _ in model.named_modules())
        uneven = torch.linspace(-1, 3, self.d_model, dtype=torch.float64)
        self.centres = torch.allclose(self.final_norm(uneven), self.final_norm(uneven + 1), atol=1e-4)

    def weights(self, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`W_Q`, `W_K`, `W_V` (head, d_model, d_head), those of its group for each query head, and `W_O`, as stored.

        Of latent attention, whose queries and keys pass norms: `W_V` in the place of all three, but for the division
        of the norm that it has in its middle.
        """
        block = self.layers[layer]
        reads = [_matrix(block.get_submodule(name)) for name in self.names.reads]
        written = _matrix(block.get_submodule(self.names.output))
        d_head = len(written) // self.n_heads
        output = written.reshape(self.n_heads, d_head, self.d_model)
        if self.has_latent:
            attention, latents = block.self_attn, np.eye(self.model.config.kv_lora_rank)
            up = self._values_of_latents(attention, latents * scale_and_bias(attention.kv_a_layernorm, len(latents))[0])
            value = np.einsum("ml,lhd->hmd", reads[0][:, : len(latents)], up)
            return value, value, value, output
        if len(reads) == 1:
            n_groups = (reads[0].shape[1] // d_head - self.n_heads) // 2
            if self.names.n_shards:
                in_shards = reads[0].reshape(self.d_model, self.names.n_shards, 3, -1)
                reads = [in_shards[:, :, part] for part in (0, 2, 1)]
            elif self.names.group_by_group:
                grouped = reads[0].reshape(self.d_model, n_groups, -1)
                reads = np.split(grouped, [-2 * d_head, -d_head], axis=2)
            else:
                reads = np.split(reads[0], [self.n_heads * d_head, (self.n_heads + n_groups) * d_head], axis=1)
        query, key, value = (matrix.reshape(self.d_model, -1, d_head).transpose(1, 0, 2) for matrix in reads)
        group = [head * len(key) // self.n_heads for head in range(self.n_heads)]
        return query, key[group], value[group], output

    @torch.no_grad()
    def values(self, layer: int, read: np.ndarray) -> np.ndarray:
        """(head, position, d_head) of what attention reads (position, d_model), biases left out."""
        if not self.has_latent:
            return read @ self.weights(layer)[2]
        attention = self.layers[layer].self_attn
        down = attention.kv_a_proj_with_mqa(torch.tensor(read))[:, : self.model.config.kv_lora_rank]
        return self._values_of_latents(attention, attention.kv_a_layernorm(down).numpy()).swapaxes(0, 1)

    @torch.no_grad()
    def _values_of_latents(self, attention: nn.Module, latents: np.ndarray) -> np.ndarray:
        """(latent, head, d_head)."""
        keys_and_values = attention.kv_b_proj(torch.tensor(latents)).unflatten(1, (self.n_heads, -1))
        return keys_and_values[:, :, -self.model.config.v_head_dim :].numpy()

    def scale_and_bias(self, layer: int, name: str | None) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Of a layer's norm; of none, 1 and 0."""
        return (1.0, 0.0) if name is None else scale_and_bias(self.layers[layer].get_submodule(name), self.d_model)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """What a LayerNorm leaves of vectors over `d_model`, its division and scale aside."""
        return rows - rows.mean(-1, keepdims=True) if self.centres else rows

    def canonical(self, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`weights` with the norms around them folded in."""
        query, key, value, output = self.weights(layer)
        scale, _ = self.scale_and_bias(layer, self.names.norm)
        query, key, value = (self.project(scale * w.swapaxes(1, 2)).swapaxes(1, 2) for w in (query, key, value))
        return query, key, value, self.project(self.enter_stream(output, layer))

    def enter_stream(self, written: np.ndarray, layer: int) -> np.ndarray:
        """Outputs of `W_O` as they enter the residual stream, but for the division of a norm in between."""
        factor = getattr(self.model.config, "residual_multiplier", 1)
        return factor * written * self.scale_and_bias(layer, self.names.post_norm)[0]

    def unembedding(self) -> np.ndarray:
        """(d_model, d_vocab), the final norm folded in, centred over the vocabulary."""
        scale, _ = scale_and_bias(self.final_norm, self.d_model)
        folded = self.project(self.model.get_output_embeddings().weight.detach().numpy() * scale).T
        return folded - folded.mean(1, keepdims=True)

    @torch.no_grad()
    def run(self, tokens: np.ndarray, **options: torch.Tensor) -> Run:
        read, written = [], []
        with (
            _hooked([layer.get_submodule(self.names.reads[-1]) for layer in self.layers], _keep_input_in(read)),
            _hooked([layer.get_submodule(self.names.output) for layer in self.layers], _keep_output_in(written)),
        ):
            seen = self.model(torch.tensor(tokens)[None], output_attentions=True, use_cache=False, **options)
        return Run(
            [pattern[0].numpy() for pattern in seen.attentions],
            [x[0].numpy() - self.scale_and_bias(layer, self.names.norm)[1] for layer, x in enumerate(read)],
            [out[0].numpy() for out in written],
        )

    @torch.no_grad()
    def own_lift(self, written: np.ndarray, tokens: np.ndarray, queries: np.ndarray, own: np.ndarray) -> np.ndarray:
        """(query, source): how fast the logit of each source's `own` token, less the mean logit, rises at each query
        with what the source writes (source, d_model), the final norm's division held; by whole passes with a little of
        it added."""
        n = len(written)
        norm, epsilon = self.final_norm, 1e-4
        scale = torch.tensor(scale_and_bias(norm, self.d_model)[0])
        changes = scale * torch.tensor(self.project(written))
        source, query = torch.arange(n).repeat(n), torch.tensor(queries).repeat_interleave(n)
        logits = []
        residual: list[torch.Tensor] = []  # some models use the final norm for embeddings too: the last call counts

        def add(module: nn.Module, given: tuple, sign: int) -> tuple:
            stream = torch.tensor(self.project(residual[-1].numpy()))
            eps = epsilon_of(norm)
            sigma = (stream.square().mean(-1) + eps).sqrt()[torch.arange(n * n), query]
            read = given[0].clone()
            read[torch.arange(n * n), query] += sign * epsilon * changes[source] / sigma[:, None]
            return (read,)

        for sign in (1, -1):
            with _hooked([norm], _keep_input_in(residual)):
                handle = self.model.get_output_embeddings().register_forward_pre_hook(partial(add, sign=sign))
                batch = torch.tensor(tokens)[None].expand(n * n, -1)
                seen = self.model(batch, use_cache=False).logits
                handle.remove()
            logits.append(seen[torch.arange(n * n), query])
        rise = (logits[0] - logits[1]) / (2 * epsilon)
        rises = rise[torch.arange(n * n), torch.tensor(own)[source]] - rise.mean(1)
        return rises.reshape(n, n).numpy()

    @torch.no_grad()
    def total_rise(
        self, tokens: np.ndarray, layer: int, head: int, queries: np.ndarray, moved: np.ndarray, own: np.ndarray
    ) -> float:
        """How fast the logit of each query's `own` token, less the mean logit, rises, summed over the queries and
        divided by their number, as the head's output grows by `moved` at all of them; by whole passes."""

        def add(module: nn.Module, given: tuple, step: float) -> torch.Tensor:
            heads = given[0].unflatten(-1, (self.n_heads, -1)).clone()
            heads[0, queries, head] += step * torch.tensor(moved)
            return heads.flatten(-2)

        def lift(step: float) -> float:
            output = self.layers[layer].get_submodule(self.names.output)
            handle = output.register_forward_pre_hook(partial(add, step=step))
            try:
                with mock.patch("torch.nn.functional.softmax", _double_softmax):  # models compute it in float32
                    logits = self.model(torch.tensor(tokens)[None], use_cache=False).logits[0, queries]
            finally:
                handle.remove()
            return (logits[np.arange(len(queries)), own] - logits.mean(1)).mean().item()

        return (lift(1e-3) - lift(-1e-3)) / 2e-3

    @torch.no_grad()
    def loss_without(self, tokens: torch.Tensor, layer: int, head: int) -> float:
        """The mean loss with what one head gives to `W_O` set to 0."""

        def cut(module: nn.Module, given: tuple) -> torch.Tensor:
            heads = given[0].unflatten(-1, (self.n_heads, -1)).clone()
            heads[..., head, :] = 0
            return heads.flatten(-2)

        handle = self.layers[layer].get_submodule(self.names.output).register_forward_pre_hook(cut)
        try:
            logits = self.model(tokens, use_cache=False).logits
        finally:
            handle.remove()
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()

    @torch.no_grad()
    def embedding(self, effective: bool = False) -> np.ndarray:
        """(d_vocab, d_model): what enters the first block for each token, positions left out; or leaves it, for
        `effective`, when its attention writes nothing."""
        positions = [] if self.names.positions is None else [self.model.get_submodule(self.names.positions)]
        attention = [self.layers[0].get_submodule(self.names.output)]
        entering, leaving = [], []
        with (
            _hooked(positions + attention, lambda module, given, out: torch.zeros_like(out)),
            _hooked(self.layers[:1], _keep_input_in(entering)),
            _hooked(self.layers[:1], _keep_output_in(leaving)),
        ):
            self.model(torch.arange(self.model.config.vocab_size)[:, None], use_cache=False)
        return self.project((leaving if effective else entering)[0][:, 0].numpy())


@dataclass(frozen=True)
class Run:
    """One sequence, layer by layer: attention (head, query, key), what attention reads without the norm's bias, and
    what `W_O` gives, its bias included (position, d_model)."""

    patterns: list[np.ndarray]
    read: list[np.ndarray]
    written: list[np.ndarray]


def epsilon_of(norm: nn.Module) -> float:
    """What a norm adds to the mean square; OLMo's has no name for it."""
    return next((getattr(norm, name) for name in ("eps", "variance_epsilon") if hasattr(norm, name)), 1e-5)


def in_double(model: nn.Module) -> nn.Module:
    """The model with norms that compute in float32 whatever they are given written out, in double precision."""
    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower() and not list(module.children())
        if is_norm and not isinstance(module, nn.LayerNorm):
            eps = epsilon_of(module)
            module.forward = partial(_double_norm, module.forward, eps)
    return model


_softmax = torch.nn.functional.softmax


def _double_softmax(scores: torch.Tensor, dim: int = -1, dtype: object = None) -> torch.Tensor:
    return _softmax(scores.double(), dim=dim)


def _double_norm(original: Callable, eps: float, rows: torch.Tensor) -> torch.Tensor:
    scale, bias = map(torch.tensor, scale_and_bias(original, rows.shape[-1]))
    with torch.no_grad():
        uneven = torch.linspace(-1, 3, rows.shape[-1], dtype=torch.float64)
        centres = torch.allclose(original(uneven), original(uneven + 1), atol=1e-4)
    rows = rows - rows.mean(-1, keepdim=True) if centres else rows
    return rows / (rows.square().mean(-1, keepdim=True) + eps).sqrt() * scale + bias


@torch.no_grad()
def scale_and_bias(norm: nn.Module, d_model: int) -> tuple[np.ndarray, np.ndarray]:
    """What a norm multiplies by and adds, seen from what it makes of a vector that is normalised but for its length."""
    signs = torch.ones(d_model, dtype=torch.float64)
    signs[1::2] = -1
    up, down = norm(1e4 * signs), norm(-1e4 * signs)
    return ((up - down) / 2 * signs).numpy(), ((up + down) / 2).numpy()


def _keep_input_in(kept: list) -> Callable:
    return lambda module, given, out: kept.append(given[0].clone())


def _keep_output_in(kept: list) -> Callable:
    # A copy: some blocks add to it in place afterwards.
    return lambda module, given, out: kept.append((out[0] if isinstance(out, tuple) else out).clone())


@contextmanager
def _hooked(modules: list[nn.Module], hook: Callable) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _matrix(module: nn.Module) -> np.ndarray:
    """(inputs, outputs), for rows from the left."""
    weight = module.weight.detach().numpy()
    return weight.T if isinstance(module, nn.Linear) else weight  # GPT-2's Conv1D keeps inputs first


def pass_scores(slow: SlowModel, prompts: np.ndarray, text: np.ndarray, bos: int | None, n_distinct: int) -> dict:
    """The five scores of a forward pass, each (layer, head); `prompts` start with `bos` if it is not None."""
    runs, texts = [slow.run(row) for row in prompts], [slow.run(row) for row in text]
    start = 0 if bos is None else 1
    first = slice(start, start + n_distinct)
    w_u = slow.unembedding()
    found: dict[str, np.ndarray] = {
        name: np.zeros((len(slow.layers), slow.n_heads))
        for name in (
            "prefix_matching", "duplicate_token", "previous_token", "copying", "logit_lift", "direct_lift", "total_lift"
        )
    }  # fmt: skip
    two_repeats = prompts[:, : start + 2 * n_distinct]
    second = np.arange(start + n_distinct, start + 2 * n_distinct)
    for layer, head in itertools.product(range(len(slow.layers)), range(slow.n_heads)):
        patterns = [run.patterns[layer][head] for run in runs]
        found["prefix_matching"][layer, head] = np.mean(
            [slow_scores.prefix_matching(pattern, row) for pattern, row in zip(patterns, prompts)]
        )
        found["duplicate_token"][layer, head] = np.mean(
            [slow_scores.duplicate_token(pattern, row) for pattern, row in zip(patterns, prompts)]
        )
        found["previous_token"][layer, head] = np.mean(
            [run.patterns[layer][head, i, i - 1] for run in texts for i in range(1, text.shape[1])]
        )
        output = slow.weights(layer)[3]
        attended = sample = 0.0
        lifts = []
        for run, pattern, row in zip(runs, patterns, prompts):
            value = slow.values(layer, run.read[layer][first])[head]
            written = slow.enter_stream(value @ output[head], layer)
            u = written @ w_u
            own = slow.own_lift(written, row, np.arange(first.start, first.stop), row[first])
            for i in range(n_distinct):
                attention, tokens = pattern[first, first][i], row[first]
                for j in range(n_distinct):
                    attended += attention[j] * max(u[j, tokens[j]], 0)
                    sample += attention[j] * np.maximum(u[j, tokens], 0).sum()
                lifts.append(sum(attention[j] * own[i, j] for j in range(n_distinct)) / attention.sum())
        found["copying"][layer, head] = 4 * attended / (attended + sample) - 1
        found["logit_lift"][layer, head] = np.mean(lifts)
        direct, total = [], []
        for row in two_repeats:
            run, keys = slow.run(row), second - n_distinct + 1
            value = slow.values(layer, run.read[layer])[head]
            moved = run.patterns[layer][head, second, keys][:, None] * value[keys]
            written = slow.enter_stream(moved @ output[head], layer)
            direct.append(np.diagonal(slow.own_lift(written, row, second, row[second - n_distinct + 1])))
            total.append(slow.total_rise(row, layer, head, second, moved, row[second - n_distinct + 1]))
        found["direct_lift"][layer, head], found["total_lift"][layer, head] = np.mean(direct), np.mean(total)
    return found


def ov_copying(slow: SlowModel, effective: bool = False) -> np.ndarray:
    """Eigenvalues of the whole OV circuit, a matrix of the vocabulary's square."""
    w_e, w_u = slow.embedding(effective), slow.unembedding()
    found = np.zeros((len(slow.layers), slow.n_heads))
    for layer, head in np.ndindex(found.shape):
        _, _, value, output = slow.canonical(layer)
        eigenvalues = np.linalg.eigvals(w_e @ value[head] @ output[head] @ w_u)
        found[layer, head] = eigenvalues.sum().real / np.abs(eigenvalues).sum()
    return found


def compositions(slow: SlowModel) -> dict[str, np.ndarray]:
    """Each head's largest composition with one head of an earlier layer, less the random baseline."""
    names = ("q_composition", "k_composition", "v_composition")
    found = {name: np.full((len(slow.layers), slow.n_heads), np.nan) for name in names}
    for layer, head in itertools.product(range(1, len(slow.layers)), range(slow.n_heads)):
        query, key, value, output = (weights[head] for weights in slow.canonical(layer))
        qk, ov = query @ key.T, value @ output
        baseline = 1 / np.sqrt(len(qk) - slow.centres)
        earlier = _earlier_ov(slow, layer)
        v = [_norm(e @ ov) / (_norm(e) * _norm(ov)) for _, e in earlier]
        found["v_composition"][layer, head] = max(v) - baseline
        if not slow.norms_queries:
            q = [_norm(e @ qk) / (_norm(e) * _norm(qk)) for _, e in earlier]
            k = [_norm(qk @ e.T) / (_norm(e) * _norm(qk)) for _, e in earlier]
            found["q_composition"][layer, head] = max(q) - baseline
            found["k_composition"][layer, head] = max(k) - baseline
    return found


def qk_trace(slow: SlowModel, previous_token: np.ndarray) -> np.ndarray:
    found = np.full((len(slow.layers), slow.n_heads), np.nan)
    if slow.norms_queries:
        return found
    w_e = slow.embedding()
    for layer, head in itertools.product(range(1, len(slow.layers)), range(slow.n_heads)):
        query, key, _, _ = (weights[head] for weights in slow.canonical(layer))
        terms = [previous_token[at] * w_e @ query @ key.T @ e.T @ w_e.T for at, e in _earlier_ov(slow, layer)]
        found[layer, head] = np.trace(sum(terms))
    return found


def _earlier_ov(slow: SlowModel, layer: int) -> list[tuple[tuple[int, int], np.ndarray]]:
    found = []
    for earlier in range(layer):
        _, _, value, output = slow.canonical(earlier)
        found += [((earlier, head), value[head] @ output[head]) for head in range(slow.n_heads)]
    return found


def _norm(matrix: np.ndarray) -> float:
    return np.sqrt((matrix**2).sum())
