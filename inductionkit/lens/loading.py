"""Models for the lens: built from a run's manifest, opened by TransformerLens, or re-initialised."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..system.gguf_header import is_gguf
from ..system.process_state import PROCESS_STATE, private_random_numbers
from ..system.wrapper_names import without_wrapper_names
from ..train.smeared_keys import SmearedKeys
from .fitting import write_weights
from .gguf_files import gguf_config, gguf_model, hugging_face_folder
from .running import detach_what_modules_keep, explaining, transformer_lens_version
from .unwrapping import plain_copy, refuse_what_is_not_plain, unwrapped


@private_random_numbers()
def open_model(source: Any) -> Any:
    """Open a folder in Hugging Face layout, a `.gguf` file, or a copy of a model in memory, as a `TransformerBridge`.

    The weights of a `.gguf` file are decoded to float32, see `gguf_files`. The copy of a Hugging Face model in memory
    is on the model's device, without the wrappers of trainers and with adapters merged. Raises ModelError if there is
    no model, or none that TransformerLens can load.
    """
    source = unwrapped(source)
    if is_gguf(source):
        config = gguf_config(Path(source))
        with hugging_face_folder(Path(source), config) as folder:
            return _boot(folder, "cpu", hf_model=gguf_model(Path(source), config))
    if isinstance(source, str | Path):
        if not (Path(source) / "config.json").is_file():
            raise ModelError(f"{source} is not a folder with a Hugging Face model: it has no config.json")
        return _boot(source, "cpu")
    if not isinstance(source, torch.nn.Module) or not hasattr(getattr(source, "config", None), "architectures"):
        raise ModelError(
            f"{type(source).__name__} is not a model that can be scored; pass a TransformerBridge "
            f"(TransformerLens 4), a HookedTransformer (2, 3), a Hugging Face model, a folder with one or a .gguf file"
        )
    copied = plain_copy(source)  # the bridge rebuilds the module it wraps
    refuse_what_is_not_plain(copied)
    copied.config.architectures = [type(copied).__name__]  # only saving a model sets it
    with tempfile.TemporaryDirectory() as folder:
        copied.config.save_pretrained(folder)
        device = str(next(source.parameters()).device)
        return _boot(folder, device, hf_model=copied)


def _boot(folder: str | Path, device: str, **options: Any) -> Any:
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        raise ModelError(
            f"TransformerLens {transformer_lens_version()} opens no Hugging Face models by folder; "
            f"update it to 4, or pass a HookedTransformer"
        ) from None
    from transformers import AutoTokenizer

    from .adapters import corrected_adapters

    # Asked for the tokenizer of a folder that has none, transformers makes one up.
    has_tokenizer = any(Path(folder).glob("token*"))
    options["tokenizer"] = AutoTokenizer.from_pretrained(folder) if has_tokenizer else _placeholder_tokenizer()
    name = type(options["hf_model"]).__name__ if "hf_model" in options else f"the model in {folder}"
    with explaining(f"TransformerLens {transformer_lens_version()} cannot open {name}"), corrected_adapters():
        model = TransformerBridge.boot_transformers(str(folder), device=device, **options)
    if not has_tokenizer:
        model.tokenizer = None
    return model


def _placeholder_tokenizer() -> Any:
    """A tokenizer of one token: TransformerLens insists on one, prompts of token ids need none."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<none>": 0}, unk_token="<none>")),
        **dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<none>"),
    )


@private_random_numbers()
def build_model(config: Mapping[str, Any], normalization: str | None = "LN") -> Any:
    """Build a `TransformerBridge` of the shape in a run's manifest, with arbitrary weights."""
    try:
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        raise ModelError(
            f"training runs are loaded into a TransformerBridge, which TransformerLens {transformer_lens_version()} "
            f"does not have; update it to 4"
        ) from None

    bridge_config = TransformerBridgeConfig(
        **{key: config[key] for key in ("n_layers", "d_model", "n_heads", "d_head", "n_ctx", "d_vocab", "eps")},
        d_mlp=config["d_mlp"] or 4 * config["d_model"],
        attn_only=config["d_mlp"] is None,
        act_fn="gelu",
        normalization_type=normalization,
        architecture="TransformerLensNative",
    )
    # TransformerLens puts the method on the class from another module.
    model = TransformerBridge.boot_native(bridge_config).eval()  # type: ignore[attr-defined]
    if config.get("smeared_keys", False):
        for block in model.blocks:
            smeared = SmearedKeys(config["d_model"], config["n_heads"], config["d_head"])
            block.attn.k.set_original_component(smeared)
    return model


def load_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Copy a checkpoint's arrays into a model of this project or one like it, in its own dtype.

    Raises ModelError, with the model unchanged, if a name or shape does not fit.
    """
    state = {name: torch.as_tensor(array).float() for name, array in without_wrapper_names(weights).items()}
    state.setdefault("unembed.bias", torch.zeros(model.cfg.d_vocab))
    # A bridge leaves parameters that it does not know out of its state.
    smears = {
        f"blocks.{layer}.attn.k.alpha": block.attn.k.original_component.alpha
        for layer, block in enumerate(model.blocks)
        if hasattr(block, "attn") and isinstance(block.attn.k.original_component, SmearedKeys)
    }
    write_weights(model.state_dict() | smears, state)  # its tensors are the parameters' own memory


@torch.no_grad()
def reinitialised(model: Any, seed: int) -> Any:
    """Copy a model and draw its matrices at random, to show which scores arise by chance.

    Each matrix gets independent normal numbers with its own standard deviation: attention scores and outputs keep
    their scale and lose their structure. Norm scales and biases are kept. The numbers depend on `seed` alone, and
    torch's global random state is not used.
    """
    with PROCESS_STATE:
        detach_what_modules_keep(model)  # a copy's passes leave things in the model that it was copied from
        null = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for parameter in null.parameters():
        if parameter.ndim >= 2:
            spread = parameter.float().std()
            parameter.copy_(torch.randn(parameter.shape, generator=generator).to(spread.device) * spread)
    return null
