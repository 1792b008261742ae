"""Seeded batches of prompts, as token tensors: what a head is asked, apart from any model.

Prompts are built from token ids, never from strings, so that no tokenizer can shift a stripe by
adding or dropping a BOS token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import ModelError


@dataclass(frozen=True)
class PromptSettings:
    """Settings of the random-token prompts (O22, "Data collection").

    `n_sequences` prompts, each a BOS token (where the model has one) and `n_distinct` random tokens
    repeated `n_repeats` times. `skip_common` and `skip_rare` are shares of the vocabulary left out at
    its two ends: ids of a trained BPE vocabulary are in order of merging, so low ids are the commonest
    tokens and high ids the rarest. `seed` sets which tokens are drawn.
    """

    n_sequences: int = 10
    n_distinct: int = 25
    n_repeats: int = 4
    skip_common: float = 0.02
    skip_rare: float = 0.02
    seed: int = 0


def repeated_random_tokens(
    d_vocab: int, bos: int | None, settings: PromptSettings = PromptSettings()
) -> Int[Tensor, "sequence position"]:
    """Repeated random tokens: (BOS,) r_1 … r_n, r_1 … r_n, … ; each row draws distinct tokens.

    The first repeat with the BOS token is the `copying` prompt: causal attention makes its
    activations the same as if it stood alone.
    """
    low, high = int(settings.skip_common * d_vocab), d_vocab - int(settings.skip_rare * d_vocab)
    candidates = torch.arange(low, high)
    candidates = candidates if bos is None else candidates[candidates != bos]
    if len(candidates) < settings.n_distinct:
        raise ModelError(
            f"the vocabulary of {d_vocab} tokens leaves {len(candidates)} to draw from, "
            f"fewer than n_distinct={settings.n_distinct}; lower n_distinct, skip_common or skip_rare"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    samples = torch.stack(
        [
            candidates[torch.randperm(len(candidates), generator=generator)[: settings.n_distinct]]
            for _ in range(settings.n_sequences)
        ]
    )
    repeated = samples.repeat(1, settings.n_repeats)
    if bos is None:
        return repeated
    return torch.cat([torch.full((settings.n_sequences, 1), bos), repeated], dim=1)
