"""The one door to TransformerLens: nobody else imports it.

`Lens` runs token tensors through a model, `HeadZeroing` does with heads zeroed, `Circuits` reads its
weights in one canonical form, and `loading` builds models and opens what TransformerLens can open.
`TransformerBridge` (4.x) and `HookedTransformer` (2.x, 3.x) are served through what both share: hook
names (`blocks.{l}.attn.hook_pattern`, `hook_v`, `hook_z`) and weights (`W_Q`, `W_K`, `W_V`, `W_O`,
`W_U`). A model leaves as it came: hooks gone, mode and gradients as they were, weights untouched, also
after an error.
"""

from .circuits import Circuits
from .head_zeroing import ABLATION_MAX_BYTES, HeadZeroing
from .lens import DEFAULT_MAX_BYTES, Lens
from .loading import build_model, load_weights, open_model, reinitialised, transformer_lens_version

__all__ = [
    "ABLATION_MAX_BYTES",
    "DEFAULT_MAX_BYTES",
    "Circuits",
    "HeadZeroing",
    "Lens",
    "build_model",
    "load_weights",
    "open_model",
    "reinitialised",
    "transformer_lens_version",
]
