"""Fuzzy induction of every head, for one model or along a run."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..errors import ModelError
from ..history import labelled
from ..lens import Lens, transformer_lens_version
from ..runs import Run
from ..scores.fuzzy import FuzzyPrompts
from ..scores.matching_prompts import N_SHUFFLES, MatchingPrompts, against_shuffles, shuffled_targets
from ..scores.matching_prompts import ROWS as SHUFFLED_ROWS
from ..scores.on_fuzzy_prompts import ROWS, summed_attention, summed_lift
from .engine import OnError, scan_source
from .measurement import Advance, Measurement, fingerprint, silently


@dataclass(frozen=True)
class FuzzyScoring(Measurement):
    """The fuzzy scores on `prompts`."""

    prompts: FuzzyPrompts

    has_nulls = True

    def settings(self) -> dict[str, Any]:
        asked = (self.prompts.tokens, self.prompts.targets, self.prompts.answers)
        return {
            **{f"prompts_{name}": value for name, value in self.prompts.settings.items()},
            "prompts": self.prompts.name,
            "n_sequences": len(self.prompts.tokens),
            "n_queries": int(self.prompts.queries.sum()),
            "prompts_fingerprint": " ".join(fingerprint(tensor.numpy()) for tensor in asked),
            **({"n_shuffles": N_SHUFFLES} if isinstance(self.prompts, MatchingPrompts) else {}),
            "transformer_lens": transformer_lens_version(),
        }

    @torch.no_grad()
    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        lens.check_finite()
        circuits, is_read = lens.circuits(), lens.has_direct_path and lens.logit_form is not None
        matching, lifts = torch.zeros(2, lens.n_layers, lens.n_heads, dtype=torch.float32, device=lens.device)
        matching[list(lens.unscored)] = lifts[list(lens.unscored)] = torch.nan
        shuffled = shuffled_targets(self.prompts) if isinstance(self.prompts, MatchingPrompts) else []
        drawn = np.zeros((lens.n_layers, lens.n_heads, 1 + N_SHUFFLES))
        drawn[list(lens.unscored)] = np.nan

        def score_batch(tokens: Tensor, targets: Tensor, answers: Tensor, start: int) -> None:
            queries = targets.any(-1)
            moved: dict[int, Tensor] = {}  # by layer, until it is known how logits are read

            def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
                matching[layer] += summed_attention(pattern, targets)
                for sequence, each in zip(pattern, shuffled[start:]):
                    drawn[layer] += each.attention(sequence)
                if values is None or not is_read:
                    lifts[layer] = torch.nan
                else:
                    unbiased = values.float() - circuits.value_bias(layer)
                    moved[layer] = torch.einsum("shqk,skhd->sqhd", pattern.float(), unbiased)
                advance(1)

            ending = lens.visit_attention(tokens, score_layer, to_the_end=is_read)
            if moved:
                rows = lens.readout(ending, answers, circuits).gradient()
            for layer, each in moved.items():
                gradient = torch.einsum("sqm,hdm->sqhd", rows, circuits.output(layer))
                lifts[layer] += summed_lift(each, gradient, queries)

        asked = (self.prompts.tokens, self.prompts.targets, self.prompts.answers)
        whole = [part.to(lens.device) for part in asked]
        sizes = [len(part) for part in lens.batches(whole[0])]
        starts = np.cumsum([0, *sizes])
        for tokens, targets, answers, start in zip(*(part.split(sizes) for part in whole), starts):
            score_batch(tokens, targets, answers, start)
        matched, lifted = (torch.stack([matching, lifts]) / int(self.prompts.queries.sum())).cpu().numpy()
        coords = {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads)}
        values = {"fuzzy_matching": matched, "fuzzy_logit_lift": lifted}
        if shuffled:
            values |= against_shuffles(
                drawn / torch.stack([each.n_queries for each in shuffled]).sum(0).clamp_min(1).numpy()
            )
        found = labelled(values, ROWS | SHUFFLED_ROWS, coords)
        found["fuzzy_matching"].attrs["even_attention"] = self.prompts.even_attention
        return found


def scan_fuzzy(
    source: Any,
    prompts: FuzzyPrompts,
    n_nulls: int = 0,
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """`fuzzy_matching` (0 to 1) and `fuzzy_logit_lift` (nats) of every head: a Dataset (layer, head), or (step, …).

    `source` is a model, as in `scan_heads`, or a run, whose every checkpoint is measured on the same `prompts`.
    `n_nulls` is as in `scan_heads`; `store`, `executor`, `on_error` and `progress` are as in `scan_run`, the first
    three for runs alone.

    The attribute `even_attention` of `fuzzy_matching` is what a head scores that attends evenly. Scores
    that cannot be known are NaN: both where a layer has no attention, the lift where there is no final
    norm to fold.

    For `MatchingPrompts`, whose right places can be shuffled, there are also `fuzzy_matching_shuffled`, what the head
    scores with the right places shuffled among the prompt's, and how surprising its score is: `fuzzy_matching_p` for
    the head by itself, `fuzzy_matching_p_any` as one among all heads (999 shuffles).

    Raises ModelError if the model cannot be scored or the prompts do not fit it.

    >>> from inductionkit.scores.fuzzy import token_class_prompts
    >>> from inductionkit.testing import perfect_induction_model
    >>> literal = token_class_prompts(40, 0, classes=[[token] for token in range(1, 40)], n_distinct=20)
    >>> round(float(scan_fuzzy(perfect_induction_model(), literal).fuzzy_matching.sel(layer=1, head=0)), 4)
    1.0
    """

    def scoring(lens: Lens, run: Run | None) -> list[FuzzyScoring]:
        lens.check_tokens(prompts.tokens)
        if prompts.answers.max() >= lens.d_vocab:
            raise ModelError(f"answer {prompts.answers.max().item()} leaves the vocabulary 0 to {lens.d_vocab - 1}")
        return [FuzzyScoring(prompts)]

    return scan_source(source, scoring, "fuzzy scores", n_nulls, store, executor, on_error, progress)
