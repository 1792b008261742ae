"""Checkpoints as other trainings write them: a small GPT-2 in plain torch, saved in the layouts of several projects."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODEL_ARGS = {
    "n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 64, "bias": True, "vocab_size": 70, "dropout": 0.0,
}  # fmt: skip
TOKENS = torch.randint(70, (3, 40), generator=torch.Generator().manual_seed(0))


class Norm(nn.Module):
    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class SelfAttention(nn.Module):
    def __init__(self, width: int, n_head: int, bias: bool):
        super().__init__()
        self.n_head = n_head
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        z = scores.masked_fill(later, -math.inf).softmax(-1) @ v
        return self.c_proj(z.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, n_head: int, bias: bool):
        super().__init__()
        self.ln_1, self.attn = Norm(width, bias), SelfAttention(width, n_head, bias)
        self.ln_2, self.mlp = Norm(width, bias), FeedForward(width, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """GPT-2 with nanoGPT's names: `model(tokens)` returns the logits of the last position alone, and no loss."""

    def __init__(self, seed: int = 0, **changes: object):
        super().__init__()
        self.args = {**MODEL_ARGS, **changes}
        width, bias = self.args["n_embd"], self.args["bias"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(self.args["vocab_size"], width),
                "wpe": nn.Embedding(self.args["block_size"], width),
                "h": nn.ModuleList(Block(width, self.args["n_head"], bias) for _ in range(self.args["n_layer"])),
                "ln_f": Norm(width, bias),
            }
        )
        self.lm_head = nn.Linear(width, self.args["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():  # large enough for every part to matter, biases too
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (parameter.mean() > 0.9))

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.transformer["wte"](tokens) + self.transformer["wpe"].weight[: tokens.shape[1]]
        for block in self.transformer["h"]:
            x = block(x)
        x = self.transformer["ln_f"](x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def logits_of(model: NanoGPT, tokens: Tensor = TOKENS) -> Tensor:
    """Of all positions."""
    with torch.no_grad():
        return model(tokens, tokens)[0]


def nano_gpt_content(
    model: NanoGPT, step: int, optimizer: torch.optim.Optimizer | None = None, /, **changes: object
) -> dict[str, object]:
    """What nanoGPT saves at a step."""
    config = {"batch_size": 12, "block_size": model.args["block_size"], "gradient_accumulation_steps": 40, "seed": 1}
    return {
        "model": model.state_dict(),
        "optimizer": (optimizer or torch.optim.AdamW(model.parameters())).state_dict(),
        "model_args": dict(model.args),
        "iter_num": step,
        "best_val_loss": torch.tensor(3.25),
        "config": {**config, "out_dir": "out", "learning_rate": 6e-4, "compile": True},
        **changes,
    }


def prefixed(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


LLM_C_ORDER = (
    "ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
    "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
)  # fmt: skip


def write_llm_c(model: NanoGPT, file: Path, version: int = 3, n_rows: int = 128) -> Path:
    """As `gpt2_write_to_checkpoint` does: each kind of parameter for all layers, in the precision of the training."""
    state, args = model.state_dict(), model.args
    sizes = [args[name] for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd")]
    header = struct.pack("<256i", 20240326, version, *sizes, n_rows, *[0] * 248)
    padding = torch.full((n_rows - args["vocab_size"], args["n_embd"]), 9.0)
    tensors = [state["transformer.wte.weight"], padding, state["transformer.wpe.weight"]]
    tensors += [state[f"transformer.h.{layer}.{part}"] for part in LLM_C_ORDER for layer in range(args["n_layer"])]
    tensors += [state["transformer.ln_f.weight"], state["transformer.ln_f.bias"]]
    numbers = torch.cat([tensor.flatten() for tensor in tensors])
    content = numbers.numpy() if version == 3 else numbers.bfloat16().view(torch.int16).numpy()
    file.write_bytes(header + np.ascontiguousarray(content).tobytes())
    return file
