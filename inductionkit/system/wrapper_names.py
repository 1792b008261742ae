"""Names of weights without what wraps the model: trainers and modules put prefixes in front of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from ..errors import ModelError

Weight = TypeVar("Weight")

# Under these names torch.compile, FSDP and activation checkpoints keep the module that they wrap, anywhere in a model.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PARALLEL = "module."  # DistributedDataParallel and DataParallel keep the whole model under this name


def without_wrapper_names(weights: Mapping[str, Weight]) -> dict[str, Weight]:
    """Return `weights` by the names that they have in the plain model.

    The names of wrappers are removed wherever they occur. A first `module.` is removed only if all names have it, for
    a model may have a part of that name. Weights whose names would become the same keep theirs.

    >>> without_wrapper_names({"module._orig_mod.embed.weight": 1, "module._orig_mod.ln.weight": 2})
    {'embed.weight': 1, 'ln.weight': 2}
    """
    names = {name: ".".join(part for part in str(name).split(".") if part not in _WRAPPERS) for name in weights}
    while names and all(plain.startswith(_PARALLEL) for plain in names.values()):
        names = {name: plain.removeprefix(_PARALLEL) for name, plain in names.items()}
    if len(set(names.values())) < len(names):
        return dict(weights)
    return {names[name]: weight for name, weight in weights.items()}


def without_prefix(weights: Mapping[str, Weight], expected: Collection[str]) -> dict[str, Weight]:
    """Return the weights of the part of a model that has all the `expected` names, without its prefix.

    A LightningModule, for example, keeps the model under one of its attributes. Weights outside of that part are left
    out; if no part has all the names, all weights are returned as they are. Raises ModelError if several parts do.

    >>> without_prefix({"model.embed.weight": 1, "model.ln.bias": 2, "metric.total": 3}, ["embed.weight", "ln.bias"])
    {'embed.weight': 1, 'ln.bias': 2}
    """
    first = min(expected)
    prefixes = [name.removesuffix(first) for name in weights if name == first or name.endswith(f".{first}")]
    fitting = [prefix for prefix in prefixes if all(prefix + name in weights for name in expected)]
    if len(fitting) > 1:
        raise ModelError(
            f"the weights of the model occur several times, as {', '.join(f'{prefix}{first}' for prefix in fitting)}; "
            f"save those of one model in a file of their own"
        )
    if not fitting:
        return dict(weights)
    [prefix] = fitting
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
