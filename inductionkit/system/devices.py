"""Where torch computes: devices by name, and models moved to them."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import InductionKitError


def usable_device(name: str | torch.device) -> torch.device:
    """The device of a name, as "cuda" or "mps". Raises InductionKitError if torch cannot use it."""
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        raise InductionKitError(f"torch cannot use the device {str(name)!r}: {error}") from None


def moved(model: Any, device: str | torch.device) -> Any:
    """A TransformerLens model, moved to a device without a word on stdout."""
    return model.to(torch.device(device), print_details=False)
