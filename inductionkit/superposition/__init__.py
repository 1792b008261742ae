"""Toy models of superposition: training them, their geometry, and its phase changes in closed form.

The public names below are loaded when first used; what reads histories brings in no torch.
"""

from ..system.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "EnergyLevelJumps": "jumps",
        "JumpCriteria": "jumps",
        "ToyModels": "model",
        "candidate_solutions": "diagram",
        "dimensions_per_feature": "dimensionality",
        "double_descent": "descent",
        "draw_points": "model",
        "example_superposition": "experiments",
        "expected_loss": "closed_form",
        "feature_dimensionality": "dimensionality",
        "feature_states": "diagram",
        "find_jumps": "jumps",
        "find_polytopes": "geometry",
        "find_test_loss_peak": "descent",
        "interference_graph": "geometry",
        "log_spaced_steps": "train",
        "losses_cross": "polygons",
        "measure_dimensionality": "dimensionality",
        "measure_geometry": "geometry",
        "open_experiment": "experiments",
        "phase_diagram": "diagram",
        "polygon_losses": "polygons",
        "polytope_goodness": "geometry",
        "save_experiment": "experiments",
        "state_agreement": "agreement",
        "train_polygons": "polygons",
        "train_toy_models": "train",
        "typical_dimensionality": "descent",
    },
)
