"""inductionkit: the transformer phase change, from checkpoints to explorer.

The public names below are loaded when first used, so importing the package is cheap and brings in
neither torch nor transformers.
"""

from .system.lazy import lazy_names

_HOME = {
    "AblationView": "widgets",
    "AttentionPattern": "widgets",
    "AttentionView": "widgets",
    "Behaviour": "scan.behaviours",
    "DoubleDescentView": "widgets",
    "FuzzyPrompts": "scores.fuzzy",
    "HeadGrid": "widgets",
    "HeadScan": "widgets",
    "HeadScatter": "widgets",
    "HeadScores": "display.head_scores",
    "HeadTrajectories": "widgets",
    "InContextLearningView": "widgets",
    "InductionKitError": "errors",
    "LossSlopeMap": "widgets",
    "LossView": "widgets",
    "PhaseChange": "phase",
    "PhaseComparison": "widgets",
    "PhaseDiagramView": "widgets",
    "PhaseExplorer": "widgets",
    "SuperpositionView": "widgets",
    "TextLoss": "widgets",
    "TrainingWatch": "scan.watching",
    "ablate_heads": "ablation",
    "behaviour_losses": "scan.behaviours",
    "compare_with_random_heads": "ablation",
    "example_history": "history",
    "find_phase_change": "phase",
    "fuzzy_prompts": "scores.fuzzy",
    "icl_score": "scores.icl",
    "icl_score_at": "phase",
    "icl_sensitivity": "phase",
    "induction_heads": "phase.heads",
    "loss_slope_map": "phase",
    "loss_slope_order": "phase",
    "loss_slopes_around": "phase",
    "model_analysis_table": "phase",
    "open_history": "history",
    "open_run": "runs",
    "repeated_tokens_behaviour": "scan.behaviours",
    "scan_ablations": "ablation",
    "scan_behaviours": "scan.behaviours",
    "scan_fuzzy": "scan.fuzzy_scan",
    "scan_heads": "scan.head_scan",
    "scan_run": "scan.scanning",
    "token_loss_change": "phase",
    "token_loss_pca": "phase",
}

_public, __dir__, __all__ = lazy_names(__name__, _HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading package metadata takes longer than all else here
        from importlib.metadata import version

        return version(__name__)
    return _public(name)
