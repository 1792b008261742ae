# What `__init__.py` loads when first used, for type checkers, which do not run it.

from .agreement import state_agreement as state_agreement
from .closed_form import expected_loss as expected_loss
from .descent import double_descent as double_descent
from .descent import find_test_loss_peak as find_test_loss_peak
from .descent import typical_dimensionality as typical_dimensionality
from .diagram import candidate_solutions as candidate_solutions
from .diagram import feature_states as feature_states
from .diagram import phase_diagram as phase_diagram
from .dimensionality import dimensions_per_feature as dimensions_per_feature
from .dimensionality import feature_dimensionality as feature_dimensionality
from .dimensionality import measure_dimensionality as measure_dimensionality
from .experiments import example_superposition as example_superposition
from .experiments import open_experiment as open_experiment
from .experiments import save_experiment as save_experiment
from .geometry import find_polytopes as find_polytopes
from .geometry import interference_graph as interference_graph
from .geometry import measure_geometry as measure_geometry
from .geometry import polytope_goodness as polytope_goodness
from .jumps import EnergyLevelJumps as EnergyLevelJumps
from .jumps import JumpCriteria as JumpCriteria
from .jumps import find_jumps as find_jumps
from .model import ToyModels as ToyModels
from .model import draw_points as draw_points
from .polygons import losses_cross as losses_cross
from .polygons import polygon_losses as polygon_losses
from .polygons import train_polygons as train_polygons
from .train import log_spaced_steps as log_spaced_steps
from .train import train_toy_models as train_toy_models

__all__: list[str]
