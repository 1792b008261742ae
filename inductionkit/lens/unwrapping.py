"""The model inside wrappers, and its weights as a plain model of its class has them.

Trainers wrap models (torch.compile, DistributedDataParallel, FSDP, DataParallel, activation checkpoints), replace their
`forward` (accelerate), and put adapters into them (peft). The user's model stays as it is: adapters are merged on
copies.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..system.wrapper_names import without_wrapper_names

# Under these names wrappers keep the module that they wrap, as their only child.
_WRAPPED_AS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PATCHES = ("forward", "_original_forward", "_old_forward", "_hf_hook")  # attributes that accelerate sets


def unwrapped(model: Any) -> Any:
    """Return the module inside all wrappers around `model`; anything else is returned as it is."""
    while isinstance(model, nn.Module) and len(model._modules) == 1 and not _WRAPPED_AS.isdisjoint(model._modules):
        [model] = model._modules.values()
    return model


def plain_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules in a model, those within wrappers in their place, by the names that a plain model has."""
    for name, child in model.named_children():
        inner = unwrapped(child)
        yield f"{prefix}{name}", inner
        yield from plain_modules(inner, f"{prefix}{name}.")


def plain_copy(model: nn.Module) -> Any:
    """Copy a model without wrappers around its parts, without accelerate's patches, with its adapters merged.

    Raises ModelError if what remains is not a plain model of its class, which reading its weights would misjudge.
    """
    plain = unwrapped(model)
    _refuse_partitioned(plain)
    _refuse_untied(plain)
    try:
        copied = copy.deepcopy(_base_of_adapters(plain))
    except Exception as error:  # hooks and parametrizations may hold anything
        raise ModelError(
            f"{type(plain).__name__} cannot be copied ({error!r}); remove what was put into it, such as hooks, pruning "
            f"or weight norms, or save it and pass the folder"
        ) from error
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, _merged(unwrapped(child)))
    for name, module in copied.named_modules():
        _restore_forward(module, f"{type(copied).__name__}.{name}".rstrip("."))
    return copied


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a model in training, by the names that a plain model of its class has.

    Weights that are sharded over ranks (FSDP) are gathered, so every rank has to call this; only the first one then
    gets them. Adapters are merged into a copy.
    """
    if is_sharded(model):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        on_cpu = next(model.parameters()).device.type == "cpu"  # offloading what is there crashes in FSDP's first form
        options = StateDictOptions(full_state_dict=True, cpu_offload=not on_cpu)
        weights: Mapping[str, Any] = get_model_state_dict(model, options=options)
    elif has_adapters(model):
        weights = plain_copy(model).state_dict()
    else:
        _refuse_partitioned(model)
        _refuse_untied(unwrapped(model))
        weights = unwrapped(model).state_dict()
    for name, weight in weights.items():
        if not isinstance(weight, Tensor):
            raise ModelError(f"the model's {name} holds a {type(weight).__name__}: load it without quantisation")
    return without_wrapper_names(weights)


def is_sharded(model: nn.Module) -> bool:
    """Return whether FSDP keeps a part of the weights on each rank."""
    sharded = sys.modules.get("torch.distributed.tensor")  # whoever shards weights has imported it
    by_parameter = sharded is not None and any(isinstance(each, sharded.DTensor) for each in model.parameters())
    return by_parameter or any("_fsdp_wrapped_module" in module._modules for module in model.modules())


def has_adapters(model: nn.Module) -> bool:
    """Return whether there are adapters of peft in a model."""
    layers, _, wrappers = _peft_classes()
    return any(isinstance(module, (*layers, *wrappers)) for module in model.modules())


def _peft_classes() -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Return peft's layers with adapters, its models, and its wrappers of layers that are trained as a whole."""
    if "peft" not in sys.modules:  # then the model has none
        return (), (), ()
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return (BaseTunerLayer,), (PeftModel,), (AuxiliaryTrainingWrapper,)


def _base_of_adapters(model: Any) -> Any:
    """Return the model that a `PeftModel` holds, whose adapters are in its layers."""
    _, models, _ = _peft_classes()
    if not isinstance(model, models):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"{type(model).__name__} learns prompts ({model.peft_type}), which are no weights of the model; "
            f"pass its base model, .get_base_model(), to measure that alone"
        )
    return model.get_base_model()


def _merged(module: Any) -> Any:
    """Return what a layer with adapters comes to: the plain layer with their weights added."""
    layers, _, wrappers = _peft_classes()
    if isinstance(module, wrappers):
        if not hasattr(module, "modules_to_save"):
            raise ModelError(f"{type(module).__name__} cannot be merged; pass the model after merge_and_unload()")
        active = [name for name in module.active_adapters if name in module.modules_to_save]
        return module.original_module if module.disable_adapters or not active else module.modules_to_save[active[0]]
    if not isinstance(module, layers):
        return module
    try:
        if module.disable_adapters:
            module.unmerge()
        else:
            module.merge()
    except (NotImplementedError, ValueError, RuntimeError) as error:
        raise ModelError(f"peft cannot merge {type(module).__name__} ({error}); pass a model without it") from error
    return module.get_base_layer()


def _restore_forward(module: nn.Module, name: str) -> None:
    """Give a copied module the `forward` of its class back; accelerate's would run the module that was copied."""
    if "forward" not in vars(module):
        return
    if vars(module).keys().isdisjoint(_PATCHES[1:]):
        if getattr(module.forward, "__self__", None) is module:
            return
        raise ModelError(f"the forward of {name} was replaced by a function; measure the model before it is patched")
    for patch in _PATCHES:
        vars(module).pop(patch, None)


def refuse_what_is_not_plain(model: Any) -> None:
    """Raise ModelError if a Hugging Face model has quantised weights, or parameters that its class does not have."""
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            raise ModelError(f"the model's {name} is {parameter.dtype}: load it without quantisation to measure it")
    with torch.device("meta"):
        try:
            expected = type(model)(copy.deepcopy(model.config))
        except TypeError:  # a class of the user's own, which takes more than a configuration
            return
    if extra := sorted(dict(model.named_parameters()).keys() - dict(expected.named_parameters()).keys()):
        raise ModelError(
            f"{type(model).__name__} holds {len(extra)} weights that a plain one does not have ({extra[0]}); merge "
            f"the adapters into its weights, or pass the model without them"
        )


def _refuse_untied(model: Any) -> None:
    """Raise ModelError if the embedding and the unembedding are one by the configuration, but not in the model."""
    model = _base_of_adapters(model)
    layers, _, wrappers = _peft_classes()
    if not getattr(getattr(model, "config", None), "tie_word_embeddings", False):
        return
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    # Adapters write into the weight that both share when they are merged.
    adapted = any(isinstance(end, layers) for end in ends)
    first, last = (getattr(_merged(end) if isinstance(end, wrappers) else end, "weight", None) for end in ends)
    trained_apart = False
    if first is not None and last is not None and first.data_ptr() != last.data_ptr():
        trained_apart = not torch.equal(first, last)
    if adapted or trained_apart:
        raise ModelError(
            f"{type(model).__name__} has one embedding for both ends by its configuration, but they are trained apart; "
            f"set config.tie_word_embeddings = False and give lm_head a weight of its own before training"
        )


def _refuse_partitioned(model: nn.Module) -> None:
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ModelError(
            "DeepSpeed ZeRO stage 3 keeps a part of each weight on each rank; train with stage 2, or scan the "
            "checkpoints that its zero_to_fp32.py writes"
        )
