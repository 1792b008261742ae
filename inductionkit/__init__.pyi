# What `__init__.py` loads when first used, for type checkers, which do not run it.

from .ablation import ablate_heads as ablate_heads
from .ablation import compare_with_random_heads as compare_with_random_heads
from .ablation import scan_ablations as scan_ablations
from .display.head_scores import HeadScores as HeadScores
from .errors import InductionKitError as InductionKitError
from .history import example_history as example_history
from .history import open_history as open_history
from .phase import PhaseChange as PhaseChange
from .phase import find_phase_change as find_phase_change
from .phase import icl_score_at as icl_score_at
from .phase import icl_sensitivity as icl_sensitivity
from .phase import loss_slope_map as loss_slope_map
from .phase import loss_slope_order as loss_slope_order
from .phase import loss_slopes_around as loss_slopes_around
from .phase import model_analysis_table as model_analysis_table
from .phase import token_loss_change as token_loss_change
from .phase import token_loss_pca as token_loss_pca
from .phase.heads import induction_heads as induction_heads
from .runs import open_run as open_run
from .scan.behaviours import Behaviour as Behaviour
from .scan.behaviours import behaviour_losses as behaviour_losses
from .scan.behaviours import repeated_tokens_behaviour as repeated_tokens_behaviour
from .scan.behaviours import scan_behaviours as scan_behaviours
from .scan.fuzzy_scan import scan_fuzzy as scan_fuzzy
from .scan.head_scan import scan_heads as scan_heads
from .scan.scanning import scan_run as scan_run
from .scan.watching import TrainingWatch as TrainingWatch
from .scores.fuzzy import FuzzyPrompts as FuzzyPrompts
from .scores.fuzzy import fuzzy_prompts as fuzzy_prompts
from .scores.icl import icl_score as icl_score
from .widgets import AblationView as AblationView
from .widgets import AttentionPattern as AttentionPattern
from .widgets import AttentionView as AttentionView
from .widgets import DoubleDescentView as DoubleDescentView
from .widgets import HeadGrid as HeadGrid
from .widgets import HeadScan as HeadScan
from .widgets import HeadScatter as HeadScatter
from .widgets import HeadTrajectories as HeadTrajectories
from .widgets import InContextLearningView as InContextLearningView
from .widgets import LossSlopeMap as LossSlopeMap
from .widgets import LossView as LossView
from .widgets import PhaseComparison as PhaseComparison
from .widgets import PhaseDiagramView as PhaseDiagramView
from .widgets import PhaseExplorer as PhaseExplorer
from .widgets import SuperpositionView as SuperpositionView
from .widgets import TextLoss as TextLoss

__all__: list[str]
__version__: str
