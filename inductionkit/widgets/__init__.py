"""Interactive views of histories, scans and experiments: they run in the browser, in Jupyter or from one saved file."""

from ..system.lazy import lazy_names

_HOME = {
    "AblationView": "ablation_view",
    "AttentionPattern": "views",
    "AttentionView": "attention_view",
    "CircuitView": "circuit_view",
    "DoubleDescentView": "double_descent_view",
    "HeadGrid": "views",
    "HeadScan": "head_scan_view",
    "HeadScatter": "views",
    "HeadTrajectories": "views",
    "InContextLearningView": "views",
    "LossSlopeMap": "views",
    "LossView": "views",
    "PhaseComparison": "phase_comparison",
    "PhaseDiagramView": "phase_diagram_view",
    "PhaseExplorer": "phase_explorer",
    "SuperpositionView": "superposition_view",
    "TextLoss": "views",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOME)
