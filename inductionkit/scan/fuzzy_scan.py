"""Fuzzy induction, per head: attention to the right places and lift on the right tokens (O22, "Argument 4")."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ModelError
from ..lens import Lens, transformer_lens_version
from ..scores.fuzzy import FuzzyPrompts
from ..scores.on_prompts import Pattern, PerHead


def fuzzy_matching(pattern: Pattern, prompts: FuzzyPrompts) -> PerHead:
    """Attention to the right places, 0 to 1: summed over a query's targets, averaged over queries that have one.

    A high value does not show that the match is fuzzy: where tokens also repeat literally, a literal
    induction head scores too. Compare `prompts.even_attention` and the head's `prefix_matching`.
    """
    return _summed_attention(pattern, prompts.targets.to(pattern.device)) / prompts.queries.sum()


def fuzzy_logit_lift(
    pattern: Pattern, lift: Float[Tensor, "sequence head source query"], prompts: FuzzyPrompts
) -> PerHead:
    """OV logit lift on the right next token, in nats; 0 is no lift.

    `lift[j, i]` is what source `j` alone would add to the logit of query `i`'s answer along the direct
    path, less the mean over the vocabulary: `Circuits.ov_lift` with the answers as targets. The score is
    the mean of `sum_j A[i,j] lift[j,i]` over queries that have a target, attention not renormalised. A high
    value does not show that the lift comes from the right place (see `fuzzy_matching`), nor that the
    answer is raised more than its rivals: a head that raises every word of the prompt scores too.
    """
    return _summed_lift(pattern, lift, prompts.queries.to(pattern.device)) / prompts.queries.sum()


def scan_fuzzy(model: Any, prompts: FuzzyPrompts) -> xr.Dataset:
    """`fuzzy_matching` (0 to 1) and `fuzzy_logit_lift` (nats) of every head: a Dataset (layer, head).

    The attribute `even_attention` of `fuzzy_matching` is what a head scores that attends evenly. Scores
    that cannot be known are NaN: both where a layer has no attention, the lift where there is no final
    norm to fold. Raises ModelError if the model cannot be scored or the prompts do not fit it.

    >>> from inductionkit.scores.fuzzy import token_class_prompts
    >>> from inductionkit.testing import perfect_induction_model
    >>> literal = token_class_prompts(40, 0, classes=[[token] for token in range(1, 40)], n_distinct=20)
    >>> round(float(scan_fuzzy(perfect_induction_model(), literal).fuzzy_matching.sel(layer=1, head=0)), 4)
    1.0
    """
    lens = Lens(model)
    lens.check_finite()
    if prompts.answers.max() >= lens.d_vocab:
        raise ModelError(f"answer {prompts.answers.max().item()} leaves the vocabulary 0 to {lens.d_vocab - 1}")
    circuits = lens.circuits()
    matching, lifts = torch.zeros(2, lens.n_layers, lens.n_heads, device=lens.device)
    matching[list(lens.unscored)] = lifts[list(lens.unscored)] = torch.nan

    def score_batch(tokens: Tensor, targets: Tensor, answers: Tensor) -> None:
        queries = targets.any(-1)
        unembedded = circuits.unembedding(answers) if lens.has_direct_path else None

        def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
            matching[layer] += _summed_attention(pattern, targets)
            if values is None or unembedded is None:
                lifts[layer] = torch.nan
            else:
                lifts[layer] += _summed_lift(pattern, circuits.ov_lift(layer, values, unembedded), queries)

        lens.visit_attention(tokens, score_layer)

    whole = [part.to(lens.device) for part in (prompts.tokens, prompts.targets, prompts.answers)]
    sizes = [len(part) for part in lens.batches(whole[0])]
    with torch.no_grad():
        for batch in zip(*(part.split(sizes) for part in whole)):
            score_batch(*batch)
    n_queries = int(prompts.queries.sum())
    matched, lifted = (torch.stack([matching, lifts]) / n_queries).cpu().numpy()
    about = {"model": lens.name, "prompts": prompts.name, "n_sequences": len(prompts.tokens), "n_queries": n_queries}
    about |= {f"prompts_{name}": value for name, value in prompts.settings.items()}
    dims, coords = ("layer", "head"), {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads)}
    scores = xr.Dataset(coords=coords, attrs=about | {"transformer_lens": transformer_lens_version()})
    match = {"units": "1", "long_name": "attention to the right places on fuzzy induction prompts", "reference": "O22"}
    lift = {"units": "nats", "long_name": "OV logit lift on the right next token", "reference": "O22"}
    scores["fuzzy_matching"] = dims, matched, match | {"even_attention": prompts.even_attention}
    scores["fuzzy_logit_lift"] = dims, lifted, lift
    return scores


def _summed_attention(pattern: Pattern, targets: Bool[Tensor, "sequence query key"]) -> PerHead:
    return torch.einsum("shqk,sqk->h", pattern.float(), targets.float())


def _summed_lift(pattern: Pattern, lift: Tensor, queries: Bool[Tensor, "sequence query"]) -> PerHead:
    return torch.einsum("shqk,shkq,sq->h", pattern.float(), lift.float(), queries.float())
