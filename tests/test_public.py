"""The public surface: which names there are, and what importing them costs."""

from __future__ import annotations

import inspect
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
        "import inductionkit as ik\nh = ik.example_history()\nik.PhaseExplorer(h, phase=ik.find_phase_change(h))"
    )
    assert not {"torch", "transformers", "transformer_lens"} & loaded


def test_exported_names():
    assert ik.__all__ == [
        "AblationView", "AttentionView", "Behaviour", "CircuitView", "FuzzyPrompts", "HeadScan", "HeadScores",
        "InductionKitError", "PhaseChange", "PhaseComparison", "PhaseCriteria", "PhaseExplorer", "PromptSettings",
        "SuperpositionView", "TrainingWatch", "ablation", "check_conversion", "example_history", "find_phase_change",
        "icl_score", "induction_circuit", "induction_heads", "open_history", "open_run", "phase", "save_history",
        "scan_ablations", "scan_behaviours", "scan_fuzzy", "scan_heads", "scan_run", "superposition", "widgets",
    ]  # fmt: skip
    assert len(ik.__all__) <= 33
    for name in ik.__all__:
        assert getattr(ik, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'scan_everything'"):
        getattr(ik, "scan_everything")  # noqa: B009


def test_every_error_is_of_the_projects_own_class():
    from inductionkit import errors

    assert all(issubclass(e, InductionKitError) for e in vars(errors).values() if isinstance(e, type))


def test_the_same_thing_has_the_same_name_and_the_same_default():
    from inductionkit.ablation import compare_with_random_heads

    scans = [ik.scan_run, ik.scan_heads, ik.scan_ablations, ik.scan_behaviours, ik.scan_fuzzy]
    parameters = {
        function.__name__: inspect.signature(function).parameters
        for function in [*scans, ik.TrainingWatch, compare_with_random_heads]
    }
    for scan in scans:
        taken = parameters[scan.__name__]
        assert [name for name in ("store", "executor", "on_error", "progress") if name in taken] == [
            "store", "executor", "on_error", "progress",
        ]  # fmt: skip
    defaults = {}  # but of `max_bytes`, which is for passes of another kind where heads are ablated
    for name, taken in parameters.items():
        strings = {"text"} if name == "scan_heads" else set()  # strings there; token ids are `held_out` everywhere
        assert not {"text", "tokens", "evaluation", "window"} & taken.keys() - strings, name
        for parameter in taken.values():
            if parameter.name not in ("held_out", "max_bytes") and parameter.default is not parameter.empty:
                defaults.setdefault(parameter.name, set()).add(str(parameter.default))
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}
