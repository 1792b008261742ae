"""Ablations: what becomes of the loss, and of in-context learning, when heads write nothing (O22).

*Full*: everything downstream of the zeroed heads changes. *Pattern-preserving*: all attention patterns
stay those of the model without ablation, so that only what is moved along them changes. The difference
is what the heads do for the patterns of heads above them.
"""

from .against_random import compare_with_random_heads
from .loss_effects import verify_loss_effects
from .on_prompts import compare_on_prompts
from .scan import scan_ablations

__all__ = ["compare_on_prompts", "compare_with_random_heads", "scan_ablations", "verify_loss_effects"]
