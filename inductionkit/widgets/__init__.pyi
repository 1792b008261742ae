# What `__init__.py` loads when first used, for type checkers, which do not run it.

from .ablation_view import AblationView as AblationView
from .attention_view import AttentionView as AttentionView
from .circuit_view import CircuitView as CircuitView
from .double_descent_view import DoubleDescentView as DoubleDescentView
from .head_scan_view import HeadScan as HeadScan
from .phase_comparison import PhaseComparison as PhaseComparison
from .phase_diagram_view import PhaseDiagramView as PhaseDiagramView
from .phase_explorer import PhaseExplorer as PhaseExplorer
from .superposition_view import SuperpositionView as SuperpositionView
from .views import AttentionPattern as AttentionPattern
from .views import HeadGrid as HeadGrid
from .views import HeadScatter as HeadScatter
from .views import HeadTrajectories as HeadTrajectories
from .views import InContextLearningView as InContextLearningView
from .views import LossSlopeMap as LossSlopeMap
from .views import LossView as LossView
from .views import TextLoss as TextLoss

__all__: list[str]
