"""Adapters of TransformerLens, corrected for architectures that version 4.3 cannot open or misreads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.factories.architecture_adapter_factory import (
    SUPPORTED_ARCHITECTURES,
    ArchitectureAdapterFactory,
)
from transformer_lens.model_bridge.generalized_components import NormalizationBridge
from transformer_lens.model_bridge.supported_architectures.codegen import CodeGenArchitectureAdapter
from transformer_lens.model_bridge.supported_architectures.falcon import FalconArchitectureAdapter
from transformer_lens.model_bridge.supported_architectures.granite_moe_hybrid import (
    GraniteMoeHybridArchitectureAdapter,
)


class CodeGenAdapter(CodeGenArchitectureAdapter):
    """CodeGen: its attention modules get the rotary table and the scale that transformers 5 no longer gives them."""

    def prepare_model(self, hf_model: Any) -> None:
        super().prepare_model(hf_model)
        for block in hf_model.transformer.h:
            attention = block.attn
            if not hasattr(attention, "embed_positions"):
                table = hf_model.transformer.rotary_emb.embed_positions
                attention.register_buffer("embed_positions", table.clone(), persistent=False)
                attention.scale_attn = attention.head_dim**0.5


class FalconAdapter(FalconArchitectureAdapter):
    """Falcon: in the new decoder each group has its queries, its key and its value side by side."""

    def __init__(self, cfg: Any) -> None:
        is_new = getattr(cfg, "new_decoder_architecture", False)
        if is_new:
            cfg.multi_query = False  # which this decoder ignores, but TransformerLens does not
        super().__init__(cfg)
        if is_new and getattr(cfg, "num_ln_in_parallel_attn", None) == 1:
            self.component_mapping["blocks"].submodules["ln1"] = NormalizationBridge(name="input_layernorm", config=cfg)

    def _split_falcon_qkv(self, original_attention_component: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        if not self._is_new_arch:
            return super()._split_falcon_qkv(original_attention_component)
        joint = original_attention_component.query_key_value
        n_groups = self.cfg.n_key_value_heads or self.cfg.n_heads
        sizes = (self.cfg.n_heads // n_groups, 1, 1)

        def split(parameter: Tensor) -> Iterator[Tensor]:
            heads = parameter.detach().unflatten(0, (n_groups, sum(sizes), -1))
            return (part.flatten(0, 2).clone() for part in heads.split(sizes, dim=1))

        weights = split(joint.weight)
        biases = [None] * 3 if joint.bias is None else split(joint.bias)
        query, key, value = (_linear(weight, bias) for weight, bias in zip(weights, biases))
        return query, key, value


class GraniteMoeHybridAdapter(GraniteMoeHybridArchitectureAdapter):
    """Granite 4: a model without rotary embeddings has no module of them."""

    def prepare_model(self, hf_model: Any) -> None:
        super().prepare_model(hf_model)
        if getattr(hf_model.model, "rotary_emb", None) is None:
            (self.component_mapping or {}).pop("rotary_emb", None)
            self.cfg.positional_embedding_type = "none"


_CORRECTED = {
    "CodeGenForCausalLM": CodeGenAdapter,
    "FalconForCausalLM": FalconAdapter,
    "GraniteMoeHybridForCausalLM": GraniteMoeHybridAdapter,
}


@contextlib.contextmanager
def corrected_adapters() -> Iterator[None]:
    """Let TransformerLens open models with these adapters for a time, unless the user has registered others."""
    factory = ArchitectureAdapterFactory
    ours = [name for name in _CORRECTED if factory._adapters.get(name) is SUPPORTED_ARCHITECTURES[name]]
    for name in ours:
        factory.register_adapter(name, _CORRECTED[name])
    try:
        yield
    finally:
        for name in ours:
            factory.register_adapter(name, SUPPORTED_ARCHITECTURES[name])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias)
    return linear
