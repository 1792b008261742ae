"""One standing model, many checkpoints: weights swapped in place instead of a model booted for each.

A `TransformerBridge` wraps the modules of a Hugging Face model and keeps split copies of the weights of joint
projections. Swapping writes into the wrapped parameters and splits the joint ones again. Which tensor of a file becomes
which parameter (old names, prefixes, tied weights) is known to transformers alone: it is asked once per layout of
files, and the answer is kept.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from logging import CRITICAL
from typing import Any

import torch
import transformers
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import private_random_numbers
from ..system.wrapper_names import without_wrapper_names
from .fitting import check_fit, shapes, write_weights
from .loading import load_weights, open_model
from .unwrapping import unwrapped

Layout = tuple[tuple[str, tuple[int, ...]], ...]

# Masks and rotary frequencies that old files hold beside the weights, and today's modules compute themselves.
_STALE = re.compile(r"\b(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$")


@private_random_numbers()
def standing_copy(model: Any) -> Any:
    """Copy a user's model as a TransformerLens model, so that the user's own stays as it is."""
    model = unwrapped(model)
    standing = copy.deepcopy(model) if hasattr(model, "hooks") else open_model(model)
    refuse_unknown_copies(standing)
    return standing


@private_random_numbers()
def swap_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Copy a checkpoint's weights, by their names in its files, into a standing model, in its own dtype.

    Raises ModelError, with the model unchanged, if a name or shape does not fit.
    """
    weights = {name: torch.as_tensor(weight) for name, weight in without_wrapper_names(weights).items()}
    wrapped = getattr(model, "original_model", None)
    if isinstance(wrapped, transformers.PreTrainedModel):
        _swap_wrapped(model, wrapped, weights)
    elif wrapped is not None:
        load_weights(model, weights)
    else:
        buffers = dict(model.named_buffers())
        parameters = {name: weight for name, weight in weights.items() if name not in buffers}
        write_weights(dict(model.named_parameters()), parameters)


@private_random_numbers()
def refuse_unknown_copies(model: Any) -> None:
    """Raise ModelError if a bridge keeps copies of weights that swapping would leave as they were."""
    wrapped = getattr(model, "original_model", None)
    if not isinstance(wrapped, transformers.PreTrainedModel):
        return
    with torch.device("meta"):
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


def _swap_wrapped(model: Any, wrapped: transformers.PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    if getattr(model, "compatibility_mode", False):
        raise ModelError(
            "the standing model's weights were folded (compatibility mode); pass a bridge with raw weights"
        )
    targets = _parameters_by_file_name(wrapped)
    config = wrapped.config.to_json_string(use_diff=False)
    # mypy takes the class's own __hash__, a function, for that of the class as an object.
    file_names = _file_names(type(wrapped), config, tuple(sorted(shapes(weights).items())))  # type: ignore[arg-type]
    loaded: Mapping[str, Tensor]
    if file_names is None:
        loaded = dict(_through_transformers(type(wrapped), config, weights).named_parameters())
    else:
        loaded = {parameter: weights[name] for parameter, name in file_names.items()}
    for name, weight in loaded.items():
        if not weight.is_floating_point():
            raise ModelError(f"the checkpoint's {name} is {weight.dtype}: quantised weights are not swapped")
    write_weights({name: targets[name] for name in loaded}, loaded)
    # The copies that the bridge keeps of joint query-key-value weights.
    for module in _joint_projections(model):
        parts = module.split_qkv_matrix(module.original_component)
        for bridge, part in zip((module.q, module.k, module.v), parts):
            write_weights(dict(bridge.original_component.named_parameters()), dict(part.named_parameters()))


def _parameters_by_file_name(wrapped: torch.nn.Module) -> dict[str, Tensor]:
    """The wrapped model's parameters under the names they had before they were wrapped."""
    found: dict[str, Tensor] = {}
    for name, parameter in wrapped.named_parameters(remove_duplicate=False):
        found.setdefault(name.replace("._original_component", ""), parameter)
    return found


@lru_cache(maxsize=16)
def _file_names(kind: type[transformers.PreTrainedModel], config: str, layout: Layout) -> dict[str, str] | None:
    """Which tensor of the files becomes which parameter, or None if some are rearranged on the way.

    transformers loads empty tensors of the files' shapes, which cost no memory as long as nobody writes to them; a
    parameter that comes out with a tensor's own address, shape and strides is that tensor.
    """
    empty = {name: torch.empty(shape) for name, shape in layout}
    by_place = {_place(tensor): name for name, tensor in empty.items()}
    model = _through_transformers(kind, config, empty)
    places = {name: _place(parameter) for name, parameter in model.named_parameters()}
    rearranged = not set(places.values()) <= by_place.keys()
    return None if rearranged else {name: by_place[place] for name, place in places.items()}


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _through_transformers(kind: Any, config: str, weights: Mapping[str, Tensor]) -> transformers.PreTrainedModel:
    """The Hugging Face model with weights as transformers loads them, all of them and no others.

    `kind` is its class, as Any because with `output_loading_info` its `from_pretrained` returns a pair.
    """
    model: transformers.PreTrainedModel
    with _without_progress_bars():
        model, about = kind.from_pretrained(
            None,
            config=kind.config_class.from_dict(json.loads(config, object_hook=_special_floats_read)),
            state_dict=dict(weights),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # reported below, in our words
            output_loading_info=True,
        )
    given: dict[str, Any] = {name: tuple(seen) for name, seen, _ in about["mismatched_keys"]}
    expected: dict[str, Any] = {name: tuple(shape) for name, _, shape in about["mismatched_keys"]}
    expected |= {name: tuple(model.get_parameter_or_buffer(name).shape) for name in about["missing_keys"]}
    given |= {name: tuple(weights[name].shape) for name in about["unexpected_keys"] if not _STALE.search(name)}
    check_fit(given, expected)
    return model


def _special_floats_read(entry: dict[str, Any]) -> Any:
    """Return the number that transformers writes as `{"__float__": "Infinity"}`, or any other entry as it is."""
    return float(entry["__float__"]) if entry.keys() == {"__float__"} else entry


def _joint_projections(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "split_qkv_matrix")]


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Turn off transformers' messages and progress bars, and so huggingface_hub's, then restore them."""
    logging = transformers.utils.logging
    shown, level, hub_hidden = logging.is_progress_bar_enabled(), logging.get_verbosity(), are_progress_bars_disabled()
    if shown:
        logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
            if hub_hidden:
                disable_progress_bars()
