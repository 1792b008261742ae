"""inductionkit: the transformer phase change, from checkpoints to explorer.

The public names below are loaded when first used, so importing the package is cheap and brings in
neither torch nor transformers. What few users call is in `phase`, `ablation`, `superposition` and `widgets`.
"""

from .system.lazy import lazy_names

_HOME = {
    "AblationView": "widgets",
    "AttentionView": "widgets",
    "Behaviour": "scan.behaviours",
    "CircuitView": "widgets",
    "FuzzyPrompts": "scores.fuzzy",
    "HeadScan": "widgets",
    "HeadScores": "display.head_scores",
    "InductionKitError": "errors",
    "PhaseChange": "phase",
    "PhaseComparison": "widgets",
    "PhaseCriteria": "phase",
    "PhaseExplorer": "widgets",
    "PromptSettings": "scores.prompts",
    "SuperpositionView": "widgets",
    "TrainingWatch": "scan.watching",
    "check_conversion": "lens.comparing",
    "example_history": "history",
    "find_phase_change": "phase",
    "icl_score": "scores.icl",
    "induction_circuit": "circuit",
    "induction_heads": "phase",
    "open_history": "history",
    "open_run": "runs",
    "save_history": "history",
    "scan_ablations": "ablation",
    "scan_behaviours": "scan.behaviours",
    "scan_fuzzy": "scan.fuzzy",
    "scan_heads": "scan.heads",
    "scan_run": "scan.run_scan",
}

_public, __dir__, __all__ = lazy_names(__name__, _HOME, modules=("ablation", "phase", "superposition", "widgets"))


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading package metadata takes longer than all else here
        from importlib.metadata import version

        return version(__name__)
    return _public(name)
