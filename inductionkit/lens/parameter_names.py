"""Names under which the weights of a TransformerLens model are saved."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers

from ..system.process_state import private_random_numbers


@private_random_numbers()
def parameter_names(model: Any) -> set[str]:
    """Return the names that a state dict for `model` has at least: of the model it wraps, or its own."""
    wrapped = getattr(model, "original_model", None)
    if isinstance(wrapped, transformers.PreTrainedModel):
        with torch.device("meta"):
            plain: Any = type(wrapped)(copy.deepcopy(wrapped.config))
        return {name for name, _ in plain.named_parameters()}
    if wrapped is None:
        return {name for name, _ in model.named_parameters()}
    return set(model.state_dict()) - {"unembed.bias"}  # which loading fills in
