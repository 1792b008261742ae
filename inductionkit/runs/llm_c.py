"""Models of llm.c, `model_00001000.bin`: a header of 256 integers, then the parameters of GPT-2 one after another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .nano_gpt import TANH_GELU, gpt2_config
from .safe_read import inside

MAGIC = 20240326
_HEADER_BYTES = 4 * 256
_BYTES = {3: 4, 5: 2}  # of a number, by version of the file: float32, and bfloat16, which is its upper half


@dataclass(frozen=True)
class Header:
    """What the header of a file says: the version, and the `sizes` by nanoGPT's names for them."""

    version: int
    sizes: dict[str, int]
    n_rows: int  # of the embedding, which is padded beyond the vocabulary

    @property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters in their order in the file, those of all layers together."""
        n, d = self.sizes["n_layer"], self.sizes["n_embd"]
        return {
            "wte.weight": (self.n_rows, d),
            "wpe.weight": (self.sizes["block_size"], d),
            "h.ln_1.weight": (n, d),
            "h.ln_1.bias": (n, d),
            "h.attn.c_attn.weight": (n, 3 * d, d),
            "h.attn.c_attn.bias": (n, 3 * d),
            "h.attn.c_proj.weight": (n, d, d),
            "h.attn.c_proj.bias": (n, d),
            "h.ln_2.weight": (n, d),
            "h.ln_2.bias": (n, d),
            "h.mlp.c_fc.weight": (n, 4 * d, d),
            "h.mlp.c_fc.bias": (n, 4 * d),
            "h.mlp.c_proj.weight": (n, d, 4 * d),
            "h.mlp.c_proj.bias": (n, d),
            "ln_f.weight": (d,),
            "ln_f.bias": (d,),
        }

    @property
    def n_bytes(self) -> int:
        """The size of the whole file."""
        return _HEADER_BYTES + _BYTES[self.version] * sum(map(math.prod, self.layout.values()))


def is_llm_c(path: Path) -> bool:
    """Return whether a file begins like a model of llm.c."""
    if path.suffix != ".bin" or not path.is_file():
        return False
    with open(path, "rb") as opened:
        return opened.read(4) == MAGIC.to_bytes(4, "little")


def llm_c_config(path: Path, root: Path) -> dict[str, Any]:
    """Return the contents of a `config.json` for the model in a file. Raises RunError if the file is damaged."""
    return gpt2_config(_read_header(path, root).sizes, TANH_GELU)


def read_llm_c(path: Path, root: Path) -> dict[str, np.ndarray]:
    """Return the parameters in a file by nanoGPT's names, in float32; the vocabulary is without its padding."""
    header = _read_header(path, root)
    weights: dict[str, np.ndarray] = {}
    with open(inside(path, root), "rb") as opened:
        opened.seek(_HEADER_BYTES)
        for name, shape in header.layout.items():
            numbers = np.fromfile(opened, f"<u{_BYTES[header.version]}", math.prod(shape))
            if header.version == 5:
                numbers = numbers.astype("<u4") << 16
            array = numbers.view("<f4").reshape(shape)
            if name.startswith("h."):
                weights |= {f"transformer.h.{layer}.{name[2:]}": part for layer, part in enumerate(array)}
            else:
                weights[f"transformer.{name}"] = array
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][: header.sizes["vocab_size"]]
    return weights


def _read_header(path: Path, root: Path) -> Header:
    file = inside(path, root)
    numbers = np.fromfile(file, "<i4", 8).tolist()
    if len(numbers) < 8 or numbers[0] != MAGIC or numbers[1] not in _BYTES:
        raise RunError(
            f"{path} is no model of llm.c in version 3 (float32) or 5 (bfloat16), its header begins {numbers[:2]}; "
            f"write it with a current llm.c"
        )
    version, n_ctx, d_vocab, n_layers, n_heads, d_model, n_rows = numbers[1:]
    sizes = {
        "n_layer": n_layers, "n_head": n_heads, "n_embd": d_model, "block_size": n_ctx, "vocab_size": d_vocab,
    }  # fmt: skip
    header = Header(version, sizes, n_rows)
    if min(sizes.values()) < 1 or d_model % n_heads or n_rows < d_vocab or header.n_bytes != file.stat().st_size:
        raise RunError(
            f"{path} is cut short or no GPT-2: it is {file.stat().st_size:,} bytes, by its header {header.n_bytes:,} "
            f"with {sizes}; copy it again"
        )
    return header
