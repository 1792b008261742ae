"""Models built from a Hugging Face `config.json`, with weights to be swapped in later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from ..errors import ModelError
from ..system.process_state import private_random_numbers
from .running import explaining, transformer_lens_version
from .swapping import refuse_unknown_copies


def standing_bridge(folder: str | Path) -> Any:
    """Build the model of a folder's `config.json` as a `TransformerBridge`, with arbitrary weights.

    It has the folder's tokenizer, if there is one. Code that came with the model is never run. Raises ModelError if
    transformers or TransformerLens does not know the model.
    """
    with _building(folder):
        return bridge_around(_hugging_face_model(folder), folder_tokenizer(folder))


def bridge_around(wrapped: transformers.PreTrainedModel, tokenizer: Any = None) -> Any:
    """Build a `TransformerBridge` around a Hugging Face model, for weights to be swapped in.

    Raises ModelError if TransformerLens has no bridges, or if this one would keep weights that swapping does not reach.
    """
    try:
        from transformer_lens.model_bridge.sources import build_bridge_from_module
    except ImportError:
        raise ModelError(
            f"checkpoints are swapped into a TransformerBridge, which TransformerLens {transformer_lens_version()} "
            f"does not have; update it to 4"
        ) from None
    from .adapters import corrected_adapters

    name = type(wrapped).__name__
    with explaining(f"TransformerLens {transformer_lens_version()} cannot open {name}"), corrected_adapters():
        model = build_bridge_from_module(wrapped.eval(), name, hf_config=wrapped.config, tokenizer=tokenizer)
    refuse_unknown_copies(model)
    return model.eval()


def shape_of(folder: str | Path) -> dict[str, Any]:
    """Return layers, heads, widths and context of the model in a folder, from its `config.json`; allocates nothing."""
    from transformer_lens.model_bridge.sources import build_bridge_config_from_hf

    with _building(folder):
        with torch.device("meta"):
            model = _hugging_face_model(folder)
        config = build_bridge_config_from_hf(model.config, type(model).__name__, str(folder), torch.float32)
    return _shape(config, model)


def shape_of_model(model: Any) -> dict[str, Any]:
    """Return the same for a TransformerLens model."""
    return _shape(model.cfg, model)


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a `config.json` as this version of transformers reads them, defaults filled in.

    Raises ModelError if transformers does not know the model.
    """
    try:
        known = transformers.AutoConfig.for_model(config["model_type"])
        filled: dict[str, Any] = type(known).from_dict(dict(config)).to_dict()
    except Exception as error:  # a foreign configuration may make the library fail anywhere
        raise ModelError(f"a config.json describes no model that can be built: {error}") from error
    return filled


def folder_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer in a folder, or None. Raises ModelError if it cannot be opened."""
    if not any((Path(folder) / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
        return None
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # as above
        raise ModelError(f"the tokenizer in {folder} cannot be opened: {error}") from error


@contextlib.contextmanager
def _building(folder: str | Path) -> Iterator[None]:
    try:
        with private_random_numbers():
            yield
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(f"the config.json in {folder} describes no model that can be built: {error}") from error


def _hugging_face_model(folder: str | Path) -> transformers.PreTrainedModel:
    """Build the folder's model in float32; code that came with it is refused, not run."""
    config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
    )
    return model


def _shape(config: Any, model: torch.nn.Module) -> dict[str, Any]:
    tensors = {id(tensor): tensor.numel() for tensor in (*model.parameters(), *model.buffers())}
    names = ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")
    return {**{name: getattr(config, name) for name in names}, "float32_bytes": 4 * sum(tensors.values())}
