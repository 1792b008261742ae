"""The scores that need gradients, of a whole model: one pass over two repeats of random tokens, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Int
from torch import Tensor

from ..errors import ModelError
from ..lens import Lens
from ..lens.tape import Tape, taped_batches
from ..scores.on_gradients import OnSecondRepeat
from ..scores.on_prompts import Share, followers
from ..scores.score import SCORES, names_from
from .measurement import Advance


def score_gradients(
    lens: Lens,
    names: Sequence[str],
    heads: Mapping[int, list[int]],
    prompts: Int[Tensor, "sequence position"],
    sample: slice,
    max_bytes: int,
    found: Mapping[str, Tensor],
    advance: Advance,
) -> dict[str, str]:
    """Put the scores in `names` into `found` (layer, head), and return the reasons for those that stay NaN.

    `sample` says where the first repeat of the prompts stands; the second follows it, and later ones are left out.
    """
    wanted = [SCORES[name] for name in names if name in names_from("gradients")]
    reasons: dict[str, str] = {}
    indirect = lens.indirect(heads)
    through_all = [score.name for score in wanted if "direct path" not in score.needs]  # of the others it is told
    if indirect and through_all:
        layers = ", ".join(map(str, indirect))
        reasons[f"{', '.join(through_all)} in layer {layers}"] = next(iter(indirect.values()))
    direct = [score for score in wanted if "direct path" in score.needs]
    if direct and (not lens.has_direct_path or lens.logit_form is None):
        wanted = [score for score in wanted if score not in direct]
        if lens.has_direct_path:
            reasons[", ".join(score.name for score in direct)] = "the model changes its logits in a way that is unknown"
    traced = sorted(heads.keys() - indirect.keys())
    second = slice(sample.stop, 2 * sample.stop - sample.start)
    tokens = prompts[:, : second.stop]
    shares: dict[tuple[str, int], Share] = {}
    for batch in taped_batches(lens, tokens, max_bytes) if wanted else ():
        try:
            tape = Tape(lens, batch)
            sought = followers(batch)[:, second]
            targets = batch.gather(1, sought.int().argmax(2))
            total = tape.gradients(tape.lift(second, targets))
            along = tape.direct_gradients(traced, second, targets) if set(direct) & set(wanted) else {}
        except ModelError as error:
            return reasons | {", ".join(score.name for score in wanted): str(error)}
        if cut := [layer for layer in traced if layer not in total]:
            layers = ", ".join(map(str, cut))
            reasons[f"total_lift in layer {layers}"] = "what heads write here is not on the way to the logits"
        for layer in traced:
            if layer in cut:
                continue
            chosen = heads[layer]
            seen = OnSecondRepeat(
                pattern=tape.patterns[layer].detach()[:, chosen, second],
                followers=sought,
                values=tape.unbiased_values(layer)[:, :, chosen],
                direct=along[layer][:, :, chosen] if along else None,
                total=total[layer][:, second][:, :, chosen],
            )
            for score in wanted:
                key, share = (score.name, layer), score.of(seen)
                shares[key] = shares[key] + share if key in shares else share
            advance(1)
    for (name, layer), share in shares.items():
        found[name][layer, heads[layer]] = SCORES[name].finish(share).float()
    return reasons
