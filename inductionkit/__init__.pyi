# What `__init__.py` loads when first used, for type checkers, which do not run it.

from . import ablation as ablation
from . import phase as phase
from . import superposition as superposition
from . import widgets as widgets
from .ablation import scan_ablations as scan_ablations
from .circuit import induction_circuit as induction_circuit
from .display.head_scores import HeadScores as HeadScores
from .errors import InductionKitError as InductionKitError
from .history import example_history as example_history
from .history import open_history as open_history
from .history import save_history as save_history
from .lens.comparing import check_conversion as check_conversion
from .phase import PhaseChange as PhaseChange
from .phase import PhaseCriteria as PhaseCriteria
from .phase import find_phase_change as find_phase_change
from .phase import induction_heads as induction_heads
from .runs import open_run as open_run
from .scan.behaviours import Behaviour as Behaviour
from .scan.behaviours import scan_behaviours as scan_behaviours
from .scan.fuzzy import scan_fuzzy as scan_fuzzy
from .scan.heads import scan_heads as scan_heads
from .scan.run_scan import scan_run as scan_run
from .scan.watching import TrainingWatch as TrainingWatch
from .scores.fuzzy import FuzzyPrompts as FuzzyPrompts
from .scores.icl import icl_score as icl_score
from .scores.prompts import PromptSettings as PromptSettings
from .widgets import AblationView as AblationView
from .widgets import AttentionView as AttentionView
from .widgets import CircuitView as CircuitView
from .widgets import HeadScan as HeadScan
from .widgets import PhaseComparison as PhaseComparison
from .widgets import PhaseExplorer as PhaseExplorer
from .widgets import SuperpositionView as SuperpositionView

__all__: list[str]
__version__: str
