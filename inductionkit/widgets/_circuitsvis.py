"""CircuitsVis' front end, out of its installed wheel. CircuitsVis itself is never imported: it asks the network."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import ipywidgets
import traitlets

from ..errors import ModelError


class CircuitsVisBundle(ipywidgets.Widget):
    """The bundle as a widget model without a view: all views of a notebook refer to it, so that it travels once."""

    _data = traitlets.Bytes(help="the bundle as an ES module, compressed with gzip").tag(sync=True)

    _current: CircuitsVisBundle | None = None

    @classmethod
    def shared(cls) -> CircuitsVisBundle:
        """The one of this process; a new one where the last was closed."""
        if cls._current is None or cls._current.comm is None:
            cls._current = cls(_data=gzip.compress(circuitsvis_module().encode(), mtime=0))
        return cls._current


@cache
def circuitsvis_code() -> str:
    """CircuitsVis' own bundle: a script that defines `CircuitsVis`. Raises ModelError if it is not installed."""
    spec = find_spec("circuitsvis")
    path = Path(spec.origin).parent / "dist/cdn/iife.js" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError("AttentionView draws with CircuitsVis, which is not installed: pip install circuitsvis")
    lines = path.read_text(encoding="utf-8").splitlines()
    # A browser's developer tools would ask for the source map.
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL="))


def circuitsvis_module() -> str:
    """The bundle as an ES module, which is how a live notebook loads it."""
    return f"{circuitsvis_code()}\nexport default CircuitsVis;\n"


def circuitsvis_script() -> str:
    """The bundle as the first part of a page's module, for the front end to find."""
    return f"{circuitsvis_code()}\nglobalThis.inductionkitCircuitsVis = CircuitsVis;\n"
