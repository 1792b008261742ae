"""The induction circuit: which heads make the induction heads look where they look, and what these do.

`finding` finds that of a model, `verifying` proves its edges by ablation, `along_run` takes one for each checkpoint out
of a history; `result` holds one.
"""

from ..system.lazy import lazy_names

_HOME = {
    "InductionCircuit": "result",
    "circuits_of": "along_run",
    "induction_circuit": "finding",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOME)
