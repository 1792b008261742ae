"""The device "elsewhere": it computes on the CPU, and refuses what CUDA refuses.

A tensor there is no NumPy array, and does not mix with tensors here: code that forgets to bring what it computes
with to the model's device, or its results back, fails on it as it would on a GPU, on machines that have none.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "elsewhere"
waits = 0  # how often anyone waited for what a tensor there holds: a number, or a tensor that comes here

_aten = torch.ops.aten


class Elsewhere(torch.Tensor):
    """A tensor elsewhere, whose values lie in the CPU's tensor `held`."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved, it comes back as a tensor on the CPU, as those of any device do where that is asked for."""
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        global waits
        kwargs = dict(kwargs or {})
        copies = function is _aten.copy_.default
        # Those of no dimensions are numbers, which may come from anywhere.
        here = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        here = [tensor for tensor in here if not isinstance(tensor, Elsewhere)]
        if here and not copies and function is not _aten._to_copy.default:
            raise RuntimeError(f"{function} found tensors on two devices, {NAME} and {here[0].device}")
        target = args[0].device if copies else kwargs.get("device")
        comes_here = target is not None and torch.device(target).type != NAME
        waits += comes_here or function is _aten._local_scalar_dense.default
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        found = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if comes_here:
            return args[0] if copies else found
        there = tree_map(lambda leaf: Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)
        return return_and_correct_aliasing(function, args, kwargs, there)


@cache
def register() -> None:
    """Tell torch of the device, for as long as the process lives."""
    # A parameter that moves stays the same object, as it does on a GPU: TransformerLens keeps references.
    torch.__future__.set_swap_module_params_on_conversion(True)
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    for name, kernel in _KERNELS.items():
        _library.impl(name, kernel, "PrivateUse1")


class _Backend(_DummyBackendModule):
    """What torch asks of any device; random numbers are drawn on the CPU alone."""

    def get_rng_state(self, device: Any) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: Any) -> None:
        pass


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, Elsewhere) else leaf


def _empty(size: Any, dtype: Any = None, *_: Any, **__: Any) -> Elsewhere:
    return Elsewhere(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, dtype: Any = None, *_: Any, **__: Any) -> Elsewhere:
    return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    _held(target).copy_(_held(source))
    return target


# What brings tensors there when none that takes part is there yet.
_KERNELS = {"empty.memory_format": _empty, "empty_strided": _empty_strided, "_copy_from": _copy_from}
_library = torch.library.Library("aten", "IMPL")
