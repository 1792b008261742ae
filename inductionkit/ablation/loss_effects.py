"""The heads that `loss_effect` puts first, against ablation."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr

from ..errors import InductionKitError, ModelError
from ..lens import ABLATION_MAX_BYTES, Lens
from ..scan.held_out import held_out_rows
from ..scan.loss_effects import ablated, on_second_repeat
from ..scan.measurement import fingerprint
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number

_AS_SCANNED = ("n_sequences", "n_distinct", "n_repeats", "skip_common", "skip_rare", "seed")


@undisturbed()
def verify_loss_effects(
    model: Any,
    scores: xr.Dataset,
    n_heads: int = 12,
    prompts: PromptSettings | None = None,
    held_out: Any = None,
    max_bytes: int = ABLATION_MAX_BYTES,
    progress: bool = True,
) -> pd.DataFrame:
    """Ablate the heads whose `loss_effect` is largest in size, and put what is measured beside the estimate.

    `scores` are those that `scan_heads` found on `model`, with `loss_effect` among them; of a run, take one checkpoint
    with `.sel(step=…)`. `n_heads` of them are zeroed, each on its own. By default this is done on the prompts of the
    scan, which are made again from its attributes. If the scan took their tokens from `held_out`, pass the same here.
    With `prompts`, other settings, you see whether the effects hold on other prompts, such as
    `PromptSettings(seed=1)`. `max_bytes` and `progress` are as in `scan_ablations`.

    Returns a table indexed by `layer` and `head`, the largest estimate first: `estimated` and `measured`, in nats per
    token of the second repeat, and `ratio`, the former over the latter. The scan has itself ablated the heads of
    models of up to 16 on all of its prompts, on which the ratio is 1; of larger ones, the strongest on three prompts.

    Raises ModelError if the scores have no `loss_effect` (layer, head), or their prompts cannot be made again, or as
    `scan_ablations` does.

    >>> import inductionkit as ik
    >>> from inductionkit.testing import perfect_induction_model
    >>> model = perfect_induction_model()
    >>> scores = ik.scan_heads(model, scores=["loss_effect"], progress=False)
    >>> found = verify_loss_effects(model, scores, n_heads=2, progress=False)
    >>> sorted(found.index.tolist()), bool((found.measured > 0.1).all())  # the previous-token and the induction head
    ([(0, 0), (1, 0)], True)
    """
    n_heads = whole_number(n_heads, "n_heads", 1, ModelError)
    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))
    estimates = scores.get("loss_effect") if isinstance(scores, xr.Dataset) else None
    if estimates is None or estimates.dims != ("layer", "head"):
        seen = type(scores).__name__ if estimates is None else f"dims {estimates.dims}"
        raise ModelError(
            f"scores must have loss_effect (layer, head), seen {seen}: scan with scores=['loss_effect'], and of a run "
            f"select one step"
        )
    if prompts is not None and not isinstance(prompts, PromptSettings):
        raise ModelError(f"prompts={prompts!r} must be a PromptSettings")
    lens = Lens(model)
    lens.check_finite()
    if estimates.shape != (lens.n_layers, lens.n_heads):
        raise ModelError(f"the scores are of {estimates.shape} layers and heads; {lens.name} has others")
    settings = _as_scanned(scores) if prompts is None else prompts
    bos = settings.bos_for(lens.bos)
    rows = None if held_out is None else held_out_rows(held_out, lens, min_length=2)
    drawn = lens.check_tokens(repeated_random_tokens(lens.d_vocab, bos, settings, rows))
    if not estimates.notnull().any():
        raise ModelError(f"loss_effect is NaN everywhere: {scores.attrs.get('unscored', 'no reason is given')}")
    if prompts is None and fingerprint(drawn.numpy()) != scores.attrs.get("prompts_fingerprint"):
        raise ModelError(
            f"the prompts of these scores cannot be made again: their tokens are of "
            f"{scores.attrs.get('prompts_pool', 'an unknown pool')}; pass the scan's held_out, or prompts"
        )
    if settings.n_distinct < 2:
        raise ModelError("a repeat of one token has no next token in it; take prompts with n_distinct of 2 or more")
    first = int(bos is not None)
    tokens, queries = on_second_repeat(drawn, slice(first, first + settings.n_distinct))
    estimated = estimates.to_series().dropna()
    estimated = estimated[estimated.abs().sort_values(ascending=False, kind="stable").index][:n_heads]
    estimated = estimated.astype(float).sort_values(ascending=False, kind="stable")
    heads = [(int(layer), int(head)) for layer, head in estimated.index]
    with progress_bar(progress) as bar:
        task = bar.add_task(f"ablating heads of {lens.name}", total=None, at="")
        measured = ablated(lens, heads, tokens, queries, max_bytes, lambda n: bar.advance(task, n))
    found = pd.DataFrame({"estimated": estimated, "measured": measured.double().numpy()})
    return found.assign(ratio=found.estimated / found.measured)


def _as_scanned(scores: xr.Dataset) -> PromptSettings:
    about = scores.attrs
    try:
        bos = None if about["prompts_bos"] == "none" else int(about["prompts_bos"])
        return PromptSettings(**{name: about[f"prompts_{name}"] for name in _AS_SCANNED}, bos=bos)
    except (KeyError, ValueError, InductionKitError) as error:
        raise ModelError(f"the scores' attributes do not tell their prompts ({error}); pass prompts") from None
