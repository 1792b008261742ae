"""The public surface: which names there are, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import inductionkit as ik
from inductionkit.errors import InductionKitError


def modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_transformers():
    loaded = modules_after("import inductionkit")
    assert not {"torch", "transformers", "transformer_lens", "numpy", "xarray"} & loaded
    assert "inductionkit" in loaded


def test_from_history_to_explorer_without_torch():
    loaded = modules_after(
        "import inductionkit as ik\nh = ik.example_history()\nik.PhaseExplorer(h, window=ik.find_phase_change(h))"
    )
    assert not {"torch", "transformers", "transformer_lens"} & loaded


def test_exported_names():
    assert ik.__all__ == [
        "AblationView", "AttentionPattern", "AttentionView", "Behaviour", "DoubleDescentView", "FuzzyPrompts",
        "HeadGrid", "HeadScan", "HeadScatter", "HeadScores", "HeadTrajectories", "InContextLearningView",
        "InductionKitError", "LossSlopeMap", "LossView", "PhaseChange", "PhaseComparison", "PhaseDiagramView",
        "PhaseExplorer", "SuperpositionView", "TextLoss", "TrainingWatch", "ablate_heads", "behaviour_losses",
        "compare_with_random_heads", "example_history", "find_phase_change", "fuzzy_prompts", "icl_score",
        "icl_score_at", "icl_sensitivity", "induction_heads", "loss_slope_map", "loss_slope_order",
        "loss_slopes_around", "model_analysis_table", "open_history", "open_run", "repeated_tokens_behaviour",
        "scan_ablations", "scan_behaviours", "scan_fuzzy", "scan_heads", "scan_run", "token_loss_change",
        "token_loss_pca",
    ]  # fmt: skip
    for name in ik.__all__:
        assert getattr(ik, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'scan_everything'"):
        getattr(ik, "scan_everything")  # noqa: B009


def test_every_error_is_of_the_projects_own_class():
    from inductionkit import errors

    assert all(issubclass(e, InductionKitError) for e in vars(errors).values() if isinstance(e, type))
