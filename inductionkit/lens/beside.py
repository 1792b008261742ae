"""A TransformerLens model that stands beside a model in training, and takes its weights when asked."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import transformers
from torch import Tensor, nn

from ..errors import ModelError
from ..system.devices import moved
from ..system.process_state import private_random_numbers
from ..train.model import ModelConfig
from .from_config import bridge_around
from .lens import Lens
from .loading import build_model, load_weights
from .swapping import swap_weights
from .unwrapping import has_adapters, plain_modules, unwrapped


class ModelBeside:
    """A model of the shape of `model`, in float32 and on its device: a Hugging Face model or one of this project.

    It is built from the configuration alone, as for a saved checkpoint: wrappers, hooks and adapters of the model in
    training are not in it. Raises ModelError if `model` is neither of them.
    """

    def __init__(self, model: nn.Module):
        plain = unwrapped(model)
        config = getattr(plain, "config", None)
        self._load: Callable[[Any, Mapping[str, Tensor]], None]
        if isinstance(config, ModelConfig):
            self._load, built = load_weights, build_model(dataclasses.asdict(config))
        else:
            self._load, built = swap_weights, _bridge_for(plain)
        self.lens = Lens(moved(built, next(plain.parameters()).device))

    def take(self, weights: Mapping[str, Tensor]) -> Lens:
        """Load `weights`, as `weights_of` returns them, and return the lens of the model that now has them."""
        self._load(self.lens.model, weights)
        return self.lens


@private_random_numbers()
def _bridge_for(plain: Any) -> Any:
    """Build a bridge for the weights of a Hugging Face model, whose adapters, if any, are merged into them."""
    if hasattr(plain, "get_base_model"):
        plain = plain.get_base_model()
    if not isinstance(plain, transformers.PreTrainedModel):
        raise ModelError(
            f"{type(plain).__name__} is not a model that can be measured; pass a TransformerLens model, a Hugging Face "
            f"model or one of inductionkit.train"
        )
    config = copy.deepcopy(plain.config)
    config.quantization_config = None
    built = _class_of(plain)._from_config(config, attn_implementation="eager", dtype="float32")
    if not has_adapters(plain):
        _warn_of_changed_modules(plain, built)
    return bridge_around(built)


def _class_of(module: nn.Module) -> Any:
    """Return the class of a module; FSDP puts itself into the class of what it shards."""
    kind = type(module)
    if "FSDPModule" in (base.__name__ for base in kind.__bases__):
        kind = next(base for base in kind.__bases__ if base.__name__ != "FSDPModule")
    return kind


def _warn_of_changed_modules(plain: nn.Module, built: nn.Module) -> None:
    """Warn if parts of a model are of other classes than its configuration says: weights do not tell what they do."""
    changed, expected = ({name: _class_of(module) for name, module in plain_modules(model)} for model in (plain, built))
    for name in sorted(changed.keys() & expected.keys()):
        if changed[name] is not expected[name]:
            warnings.warn(
                f"{name} of the model in training is a {changed[name].__name__}, by its configuration a "
                f"{expected[name].__name__}: the weights are measured in a model as the configuration says",
                RuntimeWarning,
                stacklevel=2,
            )
            return
