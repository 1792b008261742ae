"""Results as plain values that JSON can hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def json_values(value: object) -> Any:
    """`value` in dictionaries, lists, text, numbers and None: what was not measured (NaN) is None.

    Dataclasses become dictionaries of their fields; a (layer, head) that is a key becomes `"layer.head"`.

    >>> json_values({(1, 0): (np.float32(0.5), float("nan"))})
    {'1.0': [0.5, None]}
    """
    if is_dataclass(value):
        return {field.name: json_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [json_values(item) for item in value]
    if isinstance(value, np.generic):
        return json_values(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _key(key: object) -> str:
    return ".".join(map(str, key)) if isinstance(key, tuple) else str(key)
