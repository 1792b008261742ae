"""Checkpoints in Hugging Face layout, and what they must come out as."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
import transformers
from architectures import D_VOCAB, random_hugging_face_model, save
from safetensors.torch import load_file, save_file

TOKENS = torch.randint(4, D_VOCAB, (3, 40), generator=torch.Generator().manual_seed(0))
BOS = 3


def save_checkpoint(folder: Path, kind: str = "gpt_neox", seed: int = 0) -> Path:
    model = random_hugging_face_model(kind, seed)
    model.config.bos_token_id = BOS
    return save(model, folder)


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def booted(folder: Path):
    """The model booted afresh, by TransformerLens alone."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), tokenizer=tokenizer, device="cpu")


@cache
def booted_logits(folder: Path) -> torch.Tensor:
    """Of a folder that stays as it is."""
    return logits(booted(folder))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS)


def cache_bytes(cache: Path) -> int:
    """Bytes of weights on disk, links not counted twice and files that vanish meanwhile not at all."""
    total = 0
    for path in cache.glob("*/blobs/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def write_shards(folder: Path, suffix: str, stem: str) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"{stem}-{i + 1:05d}-of-00002{suffix}"
        tensors = {name: weights[name] for name in part}
        save_file(tensors, folder / file) if suffix == ".safetensors" else torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


LAYOUTS = {
    "safetensors": lambda folder: None,
    "sharded safetensors": lambda folder: write_shards(folder, ".safetensors", "model"),
    "pickle": write_pickle,
    "sharded pickle": lambda folder: write_shards(folder, ".bin", "pytorch_model"),
}
