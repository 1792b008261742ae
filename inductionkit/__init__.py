"""inductionkit: the transformer phase change, from checkpoints to explorer.

The public names below are loaded when first used, so importing the package is cheap and brings in
neither torch nor transformers.
"""

from importlib import import_module as _import_module

_HOME = {
    "Behaviour": "behaviours",
    "FuzzyPrompts": "fuzzy",
    "HeadScores": "head_scores",
    "InductionKitError": "errors",
    "PhaseChange": "phase",
    "PhaseExplorer": "widgets",
    "TrainingWatch": "watching",
    "behaviour_losses": "behaviours",
    "example_history": "history",
    "find_phase_change": "phase",
    "fuzzy_prompts": "fuzzy",
    "icl_score": "icl",
    "induction_heads": "heads",
    "open_history": "history",
    "open_run": "runs",
    "repeated_tokens_behaviour": "behaviours",
    "scan_behaviours": "behaviours",
    "scan_fuzzy": "fuzzy_scan",
    "scan_heads": "head_scan",
    "scan_run": "scan",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading package metadata takes longer than all else here
        return _import_module("importlib.metadata").version(__name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
