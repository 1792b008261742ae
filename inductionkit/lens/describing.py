"""Describes a model in memory: everything besides its weights that decides which numbers it computes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

# Where a model came from and where it is; class, dtypes and device are described apart.
_NOT_THE_MODEL = {
    "_name_or_path", "architectures", "device", "dtype", "model_name", "tokenizer_name", "transformers_version",
}  # fmt: skip


def describe_model(model: torch.nn.Module) -> str:
    """Return a text on a model's class, configuration, modules, parameters, buffers and device, not on its weights.

    Two models with the same text compute the same from the same weights, unless they were given attributes that their
    modules do not print. Copies of a model have the same text in any process.
    """
    wrapped = getattr(getattr(model, "original_model", None), "config", None)
    configs = (getattr(model, "cfg", None), getattr(model, "config", None), wrapped)
    parts = [
        f"{type(model).__module__}.{type(model).__qualname__}",
        *(_fields(config) for config in configs if config is not None),
        model,
        [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in model.named_parameters()],
        _digest(model.named_buffers()),
        [(name, type(hook).__qualname__, getattr(hook, "__qualname__", "")) for name, hook in _hooks(model)],
        sorted({tensor.device.type for tensor in model.parameters()}),
    ]
    # Objects that print where they are in memory would differ between copies.
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join(map(repr, parts)))


def weights_digest(model: torch.nn.Module) -> int:
    """Return 64 bits of the SHA-256 of a model's parameters with their names: the same if and only if they are."""
    parameters = torch.nn.Module.named_parameters(model)  # a bridge's own leaves some out
    return int(_digest(parameters)[:16], 16)


def _hooks(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            yield name, hook


def _fields(config: Any) -> list[tuple[str, Any]]:
    fields = config.to_dict() if hasattr(config, "to_diff_dict") else vars(config)
    return sorted((name, value) for name, value in fields.items() if name not in _NOT_THE_MODEL)


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors with their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
