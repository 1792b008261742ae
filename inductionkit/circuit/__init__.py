"""The induction circuit: which heads make the induction heads look where they look, and what these do.

`result` holds one, `along_run` takes one for each checkpoint out of a history, `roles` says what a head is in it.
"""

from ..system.lazy import lazy_names

_HOME = {
    "InductionCircuit": "result",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOME)
