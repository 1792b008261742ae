"""The runs that come with the package: a phase change and its one-layer control."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..errors import RunError

BUNDLED_RUNS = ("two-layer", "one-layer")


def bundled_folder(source: str) -> Path:
    """Return the folder of `bundled` (the two-layer run) or `bundled:NAME`."""
    name = source.partition(":")[2] or BUNDLED_RUNS[0]
    if name not in BUNDLED_RUNS:
        raise RunError(f"there is no bundled run {name!r}; there are {', '.join(f'bundled:{n}' for n in BUNDLED_RUNS)}")
    return Path(str(files("inductionkit") / "bundled" / name))
