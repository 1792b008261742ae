"""Seeded batches of prompts, as token tensors: what a head is asked, apart from any model.

Prompts are built from token ids, never from strings, so that no tokenizer can shift a stripe by
adding or dropping a BOS token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.whole_numbers import whole_number

ENOUGH = 8  # times n_distinct: with fewer different tokens in the held-out text, prompts would be much alike


@dataclass(frozen=True)
class PromptSettings:
    """Settings of the random-token prompts (O22, "Data collection").

    `n_sequences` prompts, each a BOS token (where the model has one) and `n_distinct` random tokens repeated
    `n_repeats` times; `seed` sets which tokens are drawn. Tokens are drawn from `pool`, a list of token ids, where it
    is given; else from the tokens that occur in the held-out text, if enough different ones do; else from the whole
    vocabulary. Of the last two, a share `skip_common` of the commonest and a share `skip_rare` of the rarest tokens are
    left out: by their counts in the held-out text, or by their ids, which in a trained BPE vocabulary are in order of
    merging. Rows of the embedding that no text ever used would hide what a head does.

    `bos` is the token that starts each prompt: "model" (default) for the one that the model's configuration names,
    a token id, or None for none.
    """

    n_sequences: int = 10
    n_distinct: int = 25
    n_repeats: int = 4
    skip_common: float = 0.02
    skip_rare: float = 0.02
    seed: int = 0
    pool: Sequence[int] | None = None
    bos: int | Literal["model"] | None = "model"

    def __post_init__(self) -> None:
        for name, least in (("n_sequences", 1), ("n_distinct", 1), ("n_repeats", 2), ("seed", 0)):
            whole_number(getattr(self, name), name, least, ModelError)
        shares = (self.skip_common, self.skip_rare)
        if not all(isinstance(share, Real) and 0 <= share < 1 for share in shares) or sum(shares) >= 1:
            raise ModelError(
                f"skip_common={shares[0]!r}, skip_rare={shares[1]!r}: shares of at least 0, below 1 together"
            )
        if self.bos is not None and self.bos != "model":
            whole_number(self.bos, "bos", 0, ModelError)
        if self.pool is not None:
            try:
                pool = tuple(whole_number(token, "a token of the pool", 0, ModelError) for token in self.pool)
            except TypeError:
                pool = ()
            if not pool:
                raise ModelError(f"pool={self.pool!r} must list token ids")
            object.__setattr__(self, "pool", pool)

    def bos_for(self, bos_of_model: int | None) -> int | None:
        """The token that starts each prompt of a model whose configuration names `bos_of_model`."""
        return bos_of_model if self.bos == "model" else self.bos


@dataclass(frozen=True)
class TokenPool:
    """The tokens that prompts are drawn from, and where they come from: "given", "held-out text" or "vocabulary"."""

    tokens: Int[Tensor, " token"]
    source: str


def token_pool(
    d_vocab: int,
    bos: int | None,
    settings: PromptSettings = PromptSettings(),
    held_out: Int[np.ndarray, "sequence position"] | None = None,
) -> TokenPool:
    """The tokens that prompts are drawn from, see `PromptSettings`; BOS is never among them.

    Raises ModelError if they are fewer than `n_distinct`, or a given pool leaves the vocabulary.
    """
    if settings.pool is not None:
        given = np.unique(settings.pool)
        if given[-1] >= d_vocab:
            raise ModelError(f"the pool holds token {given[-1]}; this vocabulary has 0 to {d_vocab - 1}")
        found = TokenPool(torch.from_numpy(given[given != bos]), "given")
    else:
        by_id = TokenPool(_without_ends(np.arange(d_vocab), bos, settings), "vocabulary")
        found = _from_text(settings, bos, held_out) or by_id
    if len(found.tokens) < settings.n_distinct:
        raise ModelError(
            f"the {found.source} leaves {len(found.tokens)} tokens to draw from (vocabulary of {d_vocab}), fewer than "
            f"n_distinct={settings.n_distinct}; lower n_distinct, skip_common or skip_rare, or give a larger pool"
        )
    return found


def _from_text(
    settings: PromptSettings, bos: int | None, held_out: Int[np.ndarray, "sequence position"] | None
) -> TokenPool | None:
    if held_out is None:
        return None
    tokens, counts = np.unique(held_out, return_counts=True)
    commonest_first = tokens[np.argsort(-counts, kind="stable")]
    found = _without_ends(commonest_first, bos, settings)
    return TokenPool(found, "held-out text") if len(found) >= ENOUGH * settings.n_distinct else None


def _without_ends(commonest_first: np.ndarray, bos: int | None, settings: PromptSettings) -> Int[Tensor, " token"]:
    n = len(commonest_first)
    kept = commonest_first[int(settings.skip_common * n) : n - int(settings.skip_rare * n)]
    return torch.from_numpy(np.sort(kept[kept != bos]))


@undisturbed()
def repeated_random_tokens(
    d_vocab: int,
    bos: int | None,
    settings: PromptSettings = PromptSettings(),
    held_out: Int[np.ndarray, "sequence position"] | None = None,
) -> Int[Tensor, "sequence position"]:
    """Repeated random tokens: (BOS,) r_1 … r_n, r_1 … r_n, … ; each row draws distinct tokens from `token_pool`.

    `bos` is the token that starts each prompt, None for none. The first repeat with the BOS token is the `copying`
    prompt: causal attention makes its activations the same as if it stood alone. Raises ModelError as `token_pool`
    does.
    """
    if bos is not None and bos >= d_vocab:
        raise ModelError(f"bos={bos} is no token of this vocabulary, which has 0 to {d_vocab - 1}")
    candidates = token_pool(d_vocab, bos, settings, held_out).tokens
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
