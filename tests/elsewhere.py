"""The device "elsewhere": it computes on the CPU, and refuses what CUDA refuses.

A tensor there is no NumPy array, and does not mix with tensors here: code that forgets to bring what it computes
with to the model's device, or its results back, fails on it as it would on a GPU, on machines that have none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_BETWEEN_DEVICES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class _Backend(_DummyBackendModule):
    """What torch asks of any device; random numbers are drawn on the CPU alone."""

    def get_rng_state(self, device: Any) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: Any) -> None:
        pass


_setup_privateuseone_for_python_backend(NAME, _Backend())


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
        """Saved, it comes back as a tensor on the CPU, as those of any device do that is asked for nowhere else."""
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        here = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and not _is_there(leaf)]
        if function not in _BETWEEN_DEVICES and any(tensor.ndim for tensor in here):  # numbers may come from anywhere
            raise RuntimeError(f"{function} found tensors on two devices, {NAME} and {here[0].device}")
        target = args[0].device if function is torch.ops.aten.copy_.default else kwargs.get("device")
        if kwargs.get("device") is not None:
            kwargs = kwargs | {"device": "cpu"}
        found = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if target is not None and torch.device(target).type != NAME:
            return args[0] if function is torch.ops.aten.copy_.default else found
        there = tree_map(lambda leaf: Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)
        return return_and_correct_aliasing(function, args, kwargs, there)


def _is_there(leaf: Any) -> bool:
    return isinstance(leaf, Elsewhere)


def _held(leaf: Any) -> Any:
    return leaf.held if _is_there(leaf) else leaf


# What makes a tensor there when no tensor there takes part.
_kernels = torch.library.Library("aten", "IMPL")


def _kernel(name: str) -> Any:
    return lambda function: _kernels.impl(name, function, "PrivateUse1") or function


@_kernel("empty.memory_format")
def _empty(size: Any, dtype: Any = None, *_: Any, **__: Any) -> Elsewhere:
    return Elsewhere(torch.empty(size, dtype=dtype))


@_kernel("empty_strided")
def _empty_strided(size: Any, stride: Any, dtype: Any = None, *_: Any, **__: Any) -> Elsewhere:
    return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))


@_kernel("_copy_from")
def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    _held(target).copy_(_held(source))
    return target
