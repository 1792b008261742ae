"""A converted model beside its original: the same predictions, or the first place where they differ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..system.process_state import private_random_numbers
from .lens import Lens
from .running import evaluating
from .unwrapping import unwrapped

N_SEQUENCES, N_POSITIONS = 2, 64
_ATTENTION = ("attn", "attention", "self_attn", "self_attention", "sa")  # what blocks call it
_EMBEDDING = "the embedding"

Activations = dict[str, Tensor]  # by place: the residual stream, and what attention adds to it


@dataclass(frozen=True)
class ConversionCheck:
    """Two models agree: on `n_tokens` tokens their log-probabilities differ by `difference` nats at most."""

    n_tokens: int
    difference: float

    def __repr__(self) -> str:
        return (
            f"ConversionCheck({self.n_tokens} tokens, log-probabilities differ by at most {self.difference:.1e} nats)"
        )


def check_conversion(
    converted: Any,
    original: Callable[[Tensor], Any],
    tokens: Tensor | np.ndarray | None = None,
    atol: float = 1e-4,
    blocks: Sequence[nn.Module] | None = None,
) -> ConversionCheck:
    """Check that a converted model predicts what its original does; otherwise say in which layer they first differ.

    Compares log-probabilities on the same tokens, modules in evaluation mode. Afterwards both models are as they were.

    Parameters
    ----------
    converted
        A TransformerLens model with raw weights, such as `run.load_model()`.
    original
        The model that the weights came from: a module, or any function, from tokens (sequence, position) to logits
        (sequence, position, vocabulary), or to a tuple that starts with them, or to an object with `.logits`. A module
        is put in evaluation mode; before passing a function around one with dropout, call `model.eval()`.
    tokens
        Token ids (sequence, position); by default two sequences of at most 64 random tokens.
    atol
        How far log-probabilities may differ, in nats. Rounding stays below the default in float32; in bfloat16 it may
        reach 0.1.
    blocks
        The original's modules, one for each layer, in order. By default the first list of that many modules of one
        class in `original`.

    Raises
    ------
    ModelError
        If the models differ by more than `atol`. It names the first place where their residual streams differ: the
        embedding, the attention or the MLP of a layer, or what comes after the last layer.
    """
    lens = Lens(converted)
    model, original = lens.model, unwrapped(original)
    if tokens is None:
        shape = (N_SEQUENCES, min(N_POSITIONS, lens.n_ctx))
        tokens = torch.randint(lens.d_vocab, shape, generator=torch.Generator().manual_seed(0))
    tokens = lens.as_tokens(tokens)
    if blocks is None:
        blocks = _blocks_of(original, lens.n_layers)
    elif len(blocks) != lens.n_layers:
        raise ModelError(f"blocks= has {len(blocks)} modules; the converted model has {lens.n_layers} layers")
    parts = [model, getattr(model, "original_model", None)]
    logits, converted_at = _run(partial(model, return_type="logits"), parts, model.blocks, tokens)
    expected, original_at = _run(original, [original, *blocks], blocks, tokens)
    if logits.shape != expected.shape:
        raise ModelError(
            f"the original returned logits of shape {tuple(expected.shape)}, the converted model of "
            f"{tuple(logits.shape)}; check the size of the vocabulary"
        )
    difference = (logits.log_softmax(-1) - expected.log_softmax(-1)).abs().max().item()
    if not difference <= atol:  # or it is NaN
        where = _first_difference(converted_at, original_at, lens.n_layers, atol / 10)
        if not isinstance(original, nn.Module):
            where += ". If the function runs a model with dropout, call model.eval() first"
        raise ModelError(f"log-probabilities differ by up to {difference:.2g} nats: {where}")
    return ConversionCheck(tokens.numel(), difference)


def _first_difference(converted: Activations, original: Activations, n_layers: int, tolerance: float) -> str:
    """Say where two models first differ by more than `tolerance` times the largest number, and what to check."""

    def comparable(place: str) -> bool:
        return place in converted and place in original and converted[place].shape == original[place].shape

    def difference(place: str) -> float:
        return (converted[place] - original[place]).abs().max().item()

    def differ(place: str) -> bool:
        return not difference(place) <= tolerance * original[place].abs().max().item()

    for place in (_EMBEDDING, *map(_layer, range(n_layers))):
        if not comparable(place):
            return "to see in which layer, pass blocks=, the original's modules, one for each layer"
        if not differ(place):
            continue
        seen = f"they first differ in {place}, by up to {difference(place):.2g}"
        if place == _EMBEDDING:
            return f"{seen}; check the token and position embeddings"
        if not comparable(_attention(place)):
            return f"{seen}; check its norms, its attention and its MLP"
        if differ(_attention(place)):
            return f"{seen}, in its attention; check its queries, keys, values and output, and the norm before them"
        return f"{seen}, but its attention agrees; check the weights and the activation of its MLP, and its norm"
    return "all layers agree; check the final norm and the unembedding"


def _layer(layer: int) -> str:
    return f"layer {layer}"


def _attention(layer: str) -> str:
    return f"attention of {layer}"


@private_random_numbers()
@torch.no_grad()
def _run(
    model: Callable[[Tensor], Any], parts: Sequence[Any], blocks: Sequence[nn.Module], tokens: Tensor
) -> tuple[Tensor, Activations]:
    """Return the logits and the activations of a model whose modules are `parts`, in float32 on the CPU."""
    seen: Activations = {}

    def keep(place: str, *values: Any) -> None:
        """Keep the first tensor among what a module was given or returned."""
        for value in values:
            first = value[0] if isinstance(value, tuple | list) and value else value
            if isinstance(first, Tensor):
                seen[place] = first.float().cpu()
                return

    def keep_input(module: nn.Module, args: Any, named: dict[str, Any]) -> None:
        keep(_EMBEDDING, *args, *named.values())

    def keep_output(module: nn.Module, args: Any, returned: Any, place: str) -> None:
        keep(place, returned)

    modules = [part for part in parts if isinstance(part, nn.Module)]
    device = next((weight.device for module in modules for weight in module.parameters()), tokens.device)
    with evaluating(modules), contextlib.ExitStack() as stack:
        if blocks:
            stack.callback(blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True).remove)
        for place, block in zip(map(_layer, range(len(blocks))), blocks):
            stack.callback(block.register_forward_hook(partial(keep_output, place=place)).remove)
            attention = next((getattr(block, name) for name in _ATTENTION if hasattr(block, name)), None)
            if isinstance(attention, nn.Module):
                stack.callback(attention.register_forward_hook(partial(keep_output, place=_attention(place))).remove)
        return _logits(model(tokens.to(device)), tokens), seen


def _logits(returned: Any, tokens: Tensor) -> Tensor:
    """Return logits of each position, in float32 on the CPU, from what a model returned."""
    logits = getattr(returned, "logits", returned)
    logits = logits[0] if isinstance(logits, tuple | list) and logits else logits
    if not isinstance(logits, Tensor):
        raise ModelError(f"the original returned a {type(returned).__name__}, not logits; pass a function that does")
    if logits.ndim == 3 and logits.shape[:2] == tokens.shape:
        return logits.float().cpu()
    if logits.shape[:-1] in ((len(tokens),), (len(tokens), 1)):
        raise ModelError(
            "the original returned the logits of the last position alone, as nanoGPT's does without targets; pass a "
            "function that returns all, such as lambda tokens: model(tokens, tokens)[0], and blocks=model.transformer.h"
        )
    raise ModelError(
        f"the original returned {tuple(logits.shape)} for tokens of {tuple(tokens.shape)}; logits (sequence, position, "
        f"vocabulary) are needed: pass a function that returns them"
    )


def _blocks_of(original: Any, n_layers: int) -> Sequence[nn.Module]:
    """Return the first list of `n_layers` modules of one class, or none."""
    modules = original.modules() if isinstance(original, nn.Module) else ()
    lists = (list(module) for module in modules if isinstance(module, nn.ModuleList | nn.Sequential))
    return next((each for each in lists if len(each) == n_layers and len(set(map(type, each))) == 1), [])
