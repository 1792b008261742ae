"""One standing model, many checkpoints: weights swapped in place instead of a model booted for each.

A `TransformerBridge` wraps the modules of a Hugging Face model and keeps, for joint projections, split
copies of their weights. Swapping writes into the wrapped parameters and splits the joint ones anew.
Which tensor of a file becomes which parameter is transformers' own knowledge (old names, prefixes,
tied weights): it is asked once per layout of files, and remembered.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from ..errors import ModelError
from .loading import load_weights, open_model, transformer_lens_version

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

# Masks and rotary frequencies that old files hold beside the weights, and today's modules compute themselves.
_STALE = re.compile(r"(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$")


def standing_bridge(folder: str | Path) -> Any:
    """A `TransformerBridge` of the model that a folder's `config.json` tells, with weights yet to be swapped in.

    Its tokenizer is the folder's, where there is one. Code that came with the model is never run. Raises
    ModelError if transformers or TransformerLens does not know the model.
    """
    try:
        from transformer_lens.model_bridge.sources import build_bridge_from_module
    except ImportError:
        raise ModelError(
            f"checkpoints are swapped into a TransformerBridge, which TransformerLens {transformer_lens_version()} "
            f"does not have; update it to 4"
        ) from None
    with _building(folder):
        wrapped = _hugging_face_model(folder).float().eval()
        model = build_bridge_from_module(
            wrapped, type(wrapped).__name__, hf_config=wrapped.config, tokenizer=_tokenizer(folder)
        )
    _refuse_unknown_copies(model)
    return model.eval()


def standing_copy(model: Any) -> Any:
    """A copy of a user's model as a TransformerLens model, so that the user's own stays as it is."""
    standing = copy.deepcopy(model) if hasattr(model, "hooks") else open_model(model)
    _refuse_unknown_copies(standing)
    return standing


def shape_of(folder: str | Path) -> dict[str, Any]:
    """Layers, heads, widths and context of the model in a folder, by its `config.json` alone; nothing is allocated."""
    from transformer_lens.model_bridge.sources import build_bridge_config_from_hf

    with _building(folder):
        with torch.device("meta"):
            model = _hugging_face_model(folder)
        config = build_bridge_config_from_hf(model.config, type(model).__name__, str(folder), torch.float32)
    return _shape(config, model)


def shape_of_model(model: Any) -> dict[str, Any]:
    """The same of a TransformerLens model."""
    return _shape(model.cfg, model)


def _shape(config: Any, model: torch.nn.Module) -> dict[str, Any]:
    tensors = {id(tensor): tensor.numel() for tensor in (*model.parameters(), *model.buffers())}
    names = ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")
    return {**{name: getattr(config, name) for name in names}, "float32_bytes": 4 * sum(tensors.values())}


@torch.no_grad()
def swap_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights, by their names in its files, into a standing model, in its own dtype.

    Raises ModelError, with the model unchanged, if a name or shape does not fit.
    """
    weights = {name: torch.as_tensor(weight) for name, weight in weights.items()}
    wrapped = getattr(model, "original_model", None)
    if isinstance(wrapped, transformers.PreTrainedModel):
        _swap_wrapped(model, wrapped, weights)
    elif wrapped is not None:
        load_weights(model, weights)
    else:
        buffers = dict(model.named_buffers())
        parameters = {name: weight for name, weight in weights.items() if name not in buffers}
        _write(_fitting(dict(model.named_parameters()), parameters))


def _swap_wrapped(model: Any, wrapped: transformers.PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    if getattr(model, "compatibility_mode", False):
        raise ModelError(
            "the standing model's weights were folded (compatibility mode); pass a bridge with raw weights"
        )
    targets = _parameters_by_file_name(wrapped)
    shapes = tuple(sorted((name, tuple(weight.shape)) for name, weight in weights.items()))
    config = wrapped.config.to_json_string(use_diff=False)
    # mypy takes the class's own __hash__, a function, for that of the class as an object.
    file_names = _file_names(type(wrapped), config, shapes)  # type: ignore[arg-type]
    loaded: Mapping[str, Tensor]
    if file_names is None:
        loaded = dict(_through_transformers(type(wrapped), config, weights).named_parameters())
    else:
        loaded = {parameter: weights[name] for parameter, name in file_names.items()}
    for name, weight in loaded.items():
        if not weight.is_floating_point():
            raise ModelError(f"the checkpoint's {name} is {weight.dtype}: quantised weights are not swapped")
    _write(_fitting({name: targets[name] for name in loaded}, loaded))
    _split_anew(model)


def _fitting(targets: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Targets beside the weights to be written into them. Raises ModelError if names or shapes differ."""
    expected = {name: tuple(tensor.shape) for name, tensor in targets.items()}
    seen = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name)):
        first = wrong[0]
        raise _does_not_fit(len(wrong), first, seen.get(first, "none"), expected.get(first, "none"))
    return [(targets[name], weights[name]) for name in targets]


def _write(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for target, weight in pairs:
        target.copy_(weight)


def _does_not_fit(n_wrong: int, name: str, seen: object, expected: object) -> ModelError:
    return ModelError(
        f"the weights do not fit the model in {n_wrong} places, first {name}: seen {seen}, expected {expected}; "
        f"check that the checkpoint and the config.json are of one model"
    )


def _parameters_by_file_name(wrapped: torch.nn.Module) -> dict[str, Tensor]:
    """The wrapped model's parameters under the names they had before they were wrapped."""
    found: dict[str, Tensor] = {}
    for name, parameter in wrapped.named_parameters(remove_duplicate=False):
        found.setdefault(name.replace("._original_component", ""), parameter)
    return found


@lru_cache(maxsize=16)
def _file_names(kind: type[transformers.PreTrainedModel], config: str, shapes: Shapes) -> dict[str, str] | None:
    """Which tensor of the files becomes which parameter, or None if some are rearranged on the way.

    transformers loads empty tensors of the files' shapes, which cost no memory as long as nobody writes
    to them; a parameter that comes out at a tensor's very address, shape and strides is that tensor.
    """
    empty = {name: torch.empty(shape) for name, shape in shapes}
    by_place = {_place(tensor): name for name, tensor in empty.items()}
    model = _through_transformers(kind, config, empty)
    places = {name: _place(parameter) for name, parameter in model.named_parameters()}
    rearranged = not set(places.values()) <= by_place.keys()
    return None if rearranged else {name: by_place[place] for name, place in places.items()}


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _through_transformers(kind: Any, config: str, weights: Mapping[str, Tensor]) -> transformers.PreTrainedModel:
    """The Hugging Face model with weights as transformers loads them, all of them and no others.

    `kind` is its class; what that has no type for is that `output_loading_info` makes `from_pretrained` give a pair.
    """
    model: transformers.PreTrainedModel
    with _without_progress_bars(), _private_random_numbers():
        model, about = kind.from_pretrained(
            None,
            config=kind.config_class.from_dict(json.loads(config)),
            state_dict=dict(weights),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are told below, in our words
            output_loading_info=True,
        )
    wrong: dict[str, tuple[object, object]] = {
        name: (tuple(seen), tuple(expected)) for name, seen, expected in about["mismatched_keys"]
    }
    wrong |= {name: ("none", tuple(model.get_parameter_or_buffer(name).shape)) for name in about["missing_keys"]}
    wrong |= {
        name: (tuple(weights[name].shape), "none") for name in about["unexpected_keys"] if not _STALE.search(name)
    }
    if wrong:
        first = min(wrong)
        raise _does_not_fit(len(wrong), first, *wrong[first])
    return model


def _split_anew(model: Any) -> None:
    """Refresh the split copies that bridges keep of joint query-key-value weights."""
    for module in _joint_projections(model):
        with _private_random_numbers():
            parts = module.split_qkv_matrix(module.original_component)
        for bridge, part in zip((module.q, module.k, module.v), parts):
            _write(_fitting(dict(bridge.original_component.named_parameters()), dict(part.named_parameters())))


def _refuse_unknown_copies(model: Any) -> None:
    """Raise ModelError if the bridge keeps copies of weights that swapping would leave as they were."""
    wrapped = getattr(model, "original_model", None)
    if not isinstance(wrapped, transformers.PreTrainedModel):
        return
    with torch.device("meta"), _private_random_numbers():
        as_built = type(wrapped)(copy.deepcopy(wrapped.config))
    parameters = _parameters_by_file_name(wrapped)
    if lost := sorted(dict(as_built.named_parameters()).keys() - parameters.keys()):
        raise ModelError(
            f"TransformerLens replaces the weights {lost[0]} of {type(wrapped).__name__}: none are swapped"
        )
    reached = {parameters[name].untyped_storage().data_ptr() for name, _ in as_built.named_parameters()}
    for module in _joint_projections(model):
        reached |= {
            parameter.untyped_storage().data_ptr()
            for part in (module.q, module.k, module.v)
            for parameter in part.parameters()
        }
    for name, parameter in torch.nn.Module.named_parameters(model):
        if parameter.untyped_storage().data_ptr() not in reached:
            raise ModelError(
                f"TransformerLens keeps a copy of weights in {name} that swapping would not reach; "
                f"open each checkpoint as a model of its own instead"
            )


def _joint_projections(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "split_qkv_matrix")]


def _private_random_numbers() -> contextlib.AbstractContextManager[None]:
    """New layers draw weights that nobody will see; the user's random numbers go on as if they had not."""
    return torch.random.fork_rng(devices=[])


@contextlib.contextmanager
def _building(folder: str | Path) -> Iterator[None]:
    try:
        with _private_random_numbers():
            yield
    except Exception as error:  # a foreign configuration may make the libraries stumble anywhere
        raise ModelError(f"the config.json in {folder} is of no model that can be built: {error}") from error


def _hugging_face_model(folder: str | Path) -> transformers.PreTrainedModel:
    """A model of the folder's shape; code that came with it is refused, not run."""
    config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", trust_remote_code=False
    )
    return model


def _tokenizer(folder: str | Path) -> Any:
    if not any((Path(folder) / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
        return None
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # as above
        raise ModelError(f"the tokenizer in {folder} cannot be opened: {error}") from error


def legacy_repository(name: str) -> str:
    """The repository of one of TransformerLens' own models, `attn-only-2l` or `NeelNanda/Attn_Only_2L512W_C4_Code`."""
    from transformer_lens.tools.model_registry.registry_io import resolve_model_alias

    return resolve_model_alias(name) or name


def standing_legacy_bridge(repository: str, tokenizer_folder: Path | None) -> Any:
    """A bridge of the shape that a TransformerLens repository's `config.json` tells, with a tokenizer from a folder.

    Raises ModelError for the oldest layouts, which turn their matrices about, and for positional
    embeddings that a bridge does not have.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources.tl_legacy import derive_tl_legacy_config

    try:
        config = derive_tl_legacy_config(repository)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"the config.json of {repository} is of no model that can be built: {error!r}") from error
    if config.original_architecture in ("neel-solu-old", "mingpt"):
        raise ModelError(f"{repository} has the layout {config.original_architecture}, which is not read here")
    tokenizer = None if tokenizer_folder is None else _tokenizer(tokenizer_folder)
    with _private_random_numbers():
        # TransformerLens puts the method on the class from another module.
        bridge = TransformerBridge.boot_native(config, tokenizer=tokenizer, device="cpu")  # type: ignore[attr-defined]
        return bridge.eval()


def swap_legacy_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """As `swap_weights`, for weights under the names of a `HookedTransformer`."""
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    try:
        converted = convert_tl_checkpoint(dict(weights), model.cfg)
    except ValueError as error:
        raise ModelError(f"the weights do not fit the model: {error}") from None
    load_weights(model, converted)


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
