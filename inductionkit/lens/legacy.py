"""TransformerLens' own repositories of checkpoints: their names, their models, their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ModelError
from ..system.process_state import private_random_numbers
from .from_config import folder_tokenizer
from .loading import load_weights


def legacy_repository(name: str) -> str:
    """Return the repository of one of the models, from `attn-only-2l` or `NeelNanda/Attn_Only_2L512W_C4_Code`."""
    from transformer_lens.tools.model_registry.registry_io import resolve_model_alias

    return resolve_model_alias(name) or name


def legacy_config(repository: str) -> Any:
    """Return TransformerLens' configuration of the model in a repository, whose `config.json` it fetches.

    Raises what the hub's client raises if that cannot be fetched, and ModelError if it describes no model that a bridge
    can be: some have positional embeddings that a bridge lacks, and the matrices of the oldest are transposed.
    """
    from transformer_lens.model_bridge.sources.tl_legacy import derive_tl_legacy_config

    try:
        config = derive_tl_legacy_config(repository)
    except OSError:
        raise
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"the config.json of {repository} describes no model that can be built: {error!r}") from error
    if config.original_architecture in ("neel-solu-old", "mingpt"):
        raise ModelError(f"{repository} has the layout {config.original_architecture}, which is not read here")
    return config


@private_random_numbers()
def standing_legacy_bridge(config: Any, tokenizer_folder: Path | None) -> Any:
    """Build a bridge from the `legacy_config` of a repository, with arbitrary weights and a tokenizer from a folder."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = None if tokenizer_folder is None else folder_tokenizer(tokenizer_folder)
    # TransformerLens puts the method on the class from another module.
    bridge = TransformerBridge.boot_native(config, tokenizer=tokenizer, device="cpu")  # type: ignore[attr-defined]
    return bridge.eval()


def swap_legacy_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Do as `swap_weights` for weights under the names of a `HookedTransformer`."""
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    try:
        converted = convert_tl_checkpoint(dict(weights), model.cfg)
    except ValueError as error:
        raise ModelError(f"the weights do not fit the model: {error}") from None
    load_weights(model, converted)
