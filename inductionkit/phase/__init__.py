"""Where the phase change is, and what moved with it, read from histories. NumPy and xarray alone.

`clock` says whether a history counts training in tokens or steps. `rule` holds the rule, on top of what each marker
makes of its series (`rise`, `bump`, `pivot`), and `drawing` what widgets and figures take from its result. Beside it is
what O22 measures in one run (`loss_slopes`, `icl_indices`, `token_losses`) and in several (`slope_order`, `table`).
"""

from .bump import convex_envelope
from .change import PhaseChange
from .criteria import PhaseCriteria
from .heads import head_roles, induction_heads
from .icl_indices import icl_score_at, icl_sensitivity
from .loss_slopes import loss_slope_map, loss_slopes_around
from .rise import rise_window
from .rule import find_phase_change
from .slope_order import loss_slope_order
from .table import model_analysis_table
from .token_losses import token_loss_change, token_loss_pca

__all__ = [
    "PhaseChange",
    "PhaseCriteria",
    "convex_envelope",
    "find_phase_change",
    "head_roles",
    "icl_score_at",
    "icl_sensitivity",
    "induction_heads",
    "loss_slope_map",
    "loss_slope_order",
    "loss_slopes_around",
    "model_analysis_table",
    "rise_window",
    "token_loss_change",
    "token_loss_pca",
]
