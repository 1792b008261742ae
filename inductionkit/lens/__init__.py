"""The one door to TransformerLens: nobody else imports it.

`Lens` runs token tensors through a model, `HeadZeroing` does so with heads zeroed, and `Circuits` reads its weights in
one canonical form. `loading` builds models and opens what TransformerLens can open; `from_config` and `legacy` build
models for checkpoints, and `swapping` puts the checkpoints' weights into them. `TransformerBridge` (4.x) and
`HookedTransformer` (2.x, 3.x) are used through what they share: hook names (`blocks.{l}.attn.hook_pattern`, `hook_v`,
`hook_z`) and weights (`W_Q`, `W_K`, `W_V`, `W_O`, `W_U`). After a measurement or an error, a model has its old hooks,
mode, gradients and weights.

Several threads can measure at once, each with a model of its own. Building, copying and loading models takes turns,
see `system.process_state`.
"""

from .circuits import Circuits, exact
from .describing import weights_digest
from .head_zeroing import ABLATION_MAX_BYTES, HeadZeroing
from .lens import DEFAULT_MAX_BYTES, Lens
from .loading import build_model, load_weights, open_model, reinitialised
from .running import transformer_lens_version

__all__ = [
    "ABLATION_MAX_BYTES",
    "DEFAULT_MAX_BYTES",
    "Circuits",
    "HeadZeroing",
    "Lens",
    "build_model",
    "exact",
    "load_weights",
    "open_model",
    "reinitialised",
    "transformer_lens_version",
    "weights_digest",
]
