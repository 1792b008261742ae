"""Models in GGUF files, as llama.cpp and others keep them: read by transformers, with quantised blocks decoded.

The weights are what a file's blocks of 4 or 8 bits decode to, in float32: scores are those of the quantised model, not
of the one that it was made from. A file is read as data: its header is checked before transformers sees it, so that
what it claims takes no more memory than what it holds, and nothing beside it is read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from ..errors import ModelError
from ..system.gguf_header import GgufHeader, read_gguf_header
from ..system.process_state import private_random_numbers
from .running import explaining

PACKAGES = ("accelerate", "gguf")  # what transformers reads such files with
_NO_TOKENIZER = (None, "none", "no_vocab")
_FLOAT32 = 0
_ROTARY_FACTORS, _UNEMBEDDING = "rope_freqs.weight", "output.weight"


@private_random_numbers()
def gguf_config(file: Path) -> Any:
    """Return transformers' configuration of the model in a GGUF file.

    Raises ModelError if the file is damaged, or transformers does not know its architecture, or reads only a part of
    what the file says.
    """
    header = _checked_header(file)
    with _reading(file) as nothing:
        config = transformers.AutoConfig.from_pretrained(nothing, gguf_file=str(file.resolve()))
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    config.architectures = [type(model).__name__]
    _refuse_other_size(file, header, model)
    _set_rotary_factors(file, header, config)
    return config


@private_random_numbers()
def gguf_model(file: Path, config: Any) -> Any:
    """Return the Hugging Face model in a GGUF file, in float32; `config` is its `gguf_config`.

    Raises ModelError if transformers cannot read the file, or finds no values for a weight.
    """
    _checked_header(file)  # the file may have changed since
    # By default blocks stay as they are where transformers has kernels for them.
    decoded = {"quantization_config": transformers.GgufConfig(dequantize=True)} if _keeps_blocks() else {}
    with _reading(file) as nothing:
        kind: Any = transformers.AutoModelForCausalLM  # Any, as with `output_loading_info` it returns a pair
        model, about = kind.from_pretrained(
            nothing,
            gguf_file=str(file.resolve()),
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            **decoded,
        )
    if lost := sorted(map(str, {*about["missing_keys"], *about["mismatched_keys"]})):
        raise ModelError(f"{file} has no values for {len(lost)} weights of {type(model).__name__}, such as {lost[0]}")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # its weights are plain now
    return model.eval()


def gguf_weights(file: Path, config: Any) -> dict[str, Tensor]:
    """Return the weights in a GGUF file by their names in the Hugging Face model."""
    return {name: parameter.data for name, parameter in gguf_model(file, config).named_parameters()}


@contextlib.contextmanager
def hugging_face_folder(file: Path, config: Any) -> Iterator[str]:
    """Write a GGUF file's configuration and its tokenizer, if it has one, into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        if _checked_header(file).values.get("tokenizer.ggml.model") not in _NO_TOKENIZER:
            # AutoTokenizer would read the whole header again to choose this class.
            with _reading(file) as nothing:
                tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(nothing, gguf_file=str(file.resolve()))
            tokenizer.save_pretrained(folder)
        yield folder


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[str]:
    """Yield an empty folder for transformers to look into, and explain what it raises about the file."""
    with tempfile.TemporaryDirectory() as nothing:
        with explaining(f"transformers {transformers.__version__} cannot read {file}"):
            yield nothing


def _keeps_blocks() -> bool:
    return hasattr(transformers, "GgufConfig")


def _checked_header(file: Path) -> GgufHeader:
    """Return the header of a file that holds all of the data that it names. Raises ModelError."""
    header = read_gguf_header(file, ModelError)
    if not all(map(importlib.util.find_spec, PACKAGES)):
        raise ModelError(
            f"reading {file} takes the packages {' and '.join(PACKAGES)}: pip install 'inductionkit[gguf]'"
        )
    from gguf import GGML_QUANT_SIZES

    n_bytes, end = 0, 0
    for tensor in header.tensors:
        if tensor.kind not in GGML_QUANT_SIZES:
            raise ModelError(
                f"{file} holds {tensor.name} in type {tensor.kind}, which the installed package gguf does not know; "
                f"update it"
            )
        block, block_bytes = GGML_QUANT_SIZES[tensor.kind]  # type: ignore[index]  # an IntEnum
        taken = math.prod(tensor.shape) // block * block_bytes
        n_bytes, end = n_bytes + taken, max(end, tensor.offset + taken)
    if max(n_bytes, end) > file.stat().st_size - header.data_start:  # the sum, as tensors may claim the same bytes
        raise ModelError(f"{file} is cut short or damaged: its tensors reach beyond its end; copy it again")
    n_layers = header.values.get(f"{header.architecture}.block_count")
    if isinstance(n_layers, int) and n_layers > len(header.tensors):
        raise ModelError(f"{file} is damaged: it claims {n_layers} layers and has {len(header.tensors)} tensors")
    return header


def _refuse_other_size(file: Path, header: GgufHeader, model: Any) -> None:
    """Raise ModelError if the file has more or fewer weights than its model: transformers leaves out what it misses."""
    expected = sum(parameter.numel() for parameter in model.parameters())
    read = [tensor for tensor in header.tensors if tensor.name != _ROTARY_FACTORS]
    if model.config.tie_word_embeddings:
        read = [tensor for tensor in read if tensor.name != _UNEMBEDDING]
    seen = sum(math.prod(tensor.shape) for tensor in read)
    if seen != expected:
        raise ModelError(
            f"{file} has {seen:,} weights of the architecture {header.architecture!r}, as transformers "
            f"{transformers.__version__} reads it {expected:,}: some would be left out, and the scores of another model"
        )


def _set_rotary_factors(file: Path, header: GgufHeader, config: Any) -> None:
    """Write the factors by which Llama 3 divides its rotary frequencies into `config`; transformers ignores them."""
    factors = [tensor for tensor in header.tensors if tensor.name == _ROTARY_FACTORS]
    kind = header.values.get(f"{header.architecture}.rope.scaling.type", "none")
    rotary: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    unreadable = [tensor for tensor in factors if not rotary or tensor.kind != _FLOAT32]
    if unreadable or (kind != "none" and rotary.get("rope_type") != kind):
        raise ModelError(f"{file} scales its rotary positions ({kind}), which transformers does not read from GGUF")
    for tensor in factors:
        start = header.data_start + tensor.offset
        divisors = np.fromfile(file, "<f4", math.prod(tensor.shape), offset=start).tolist()
        config.rope_parameters = {
            **rotary,
            "rope_type": "longrope",  # the kind that has a factor for each frequency
            "short_factor": divisors,
            "long_factor": divisors,
            "factor": 1.0,
            "attention_factor": 1.0,
            "original_max_position_embeddings": config.max_position_embeddings,
        }
