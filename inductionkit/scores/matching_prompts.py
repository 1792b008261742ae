"""Fuzzy prompts whose right keys can be shuffled, so that every head is compared with itself by chance.

At some positions something is sought, at others something is offered, both as whole numbers. A query's targets are the
keys up to it that offer what it seeks. Deal the same offers to the same keys in another order, and the targets are
elsewhere: what a head scores then is its score by chance, with its habits (such as attention to recent lines) kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ModelError
from ..history import PER_HEAD, Variable
from .fuzzy import FuzzyPrompts, as_seen
from .nulls import surprise

NOTHING = -1
N_SHUFFLES = 999  # p goes down to 1/1000

ROWS = {
    "fuzzy_matching_shuffled": Variable(
        PER_HEAD, "float32", "1", "mean attention to the right places with the right places shuffled"
    ),
    "fuzzy_matching_p": Variable(
        PER_HEAD, "float32", "1", "share of shuffles, the prompts among them, where the head scores as high"
    ),
    "fuzzy_matching_p_any": Variable(
        PER_HEAD, "float32", "1", "share of shuffles, the prompts among them, where any head deviates as much"
    ),
}


@dataclass(frozen=True, eq=False)
class MatchingPrompts(FuzzyPrompts):
    """Fuzzy prompts given by what each query seeks and each key offers; -1 is nothing.

    `name`, `tokens` and `settings` are as in `FuzzyPrompts`; `sought` and `offered` are int64 tensors like `tokens`.
    `targets` and `answers` follow from them: the keys up to a query that offer what it seeks, and the tokens that come
    next. `counted` names sets of tokens whose loss shows how well a model does, each a bool tensor like `tokens`.

    Raises ModelError as `FuzzyPrompts` does, or if the last position of a sequence seeks something, since nothing
    follows it, or a set counts no token or a first one.
    """

    targets: Bool[Tensor, "sequence query key"] = field(init=False)
    answers: Int[Tensor, "sequence query"] = field(init=False)
    sought: Int[Tensor, "sequence query"] = field(kw_only=True)
    offered: Int[Tensor, "sequence key"] = field(kw_only=True)
    counted: Mapping[str, Bool[Tensor, "sequence position"]] = field(kw_only=True, default_factory=dict)

    def __post_init__(self) -> None:
        shape = getattr(self.tokens, "shape", None)
        wanted = {"tokens": (self.tokens, torch.int64), "sought": (self.sought, torch.int64)}
        wanted |= {"offered": (self.offered, torch.int64)}
        wanted |= {f"counted[{name!r}]": (marks, torch.bool) for name, marks in self.counted.items()}
        for role, (given, dtype) in wanted.items():
            if getattr(given, "dtype", None) != dtype or given.ndim != 2 or given.shape != shape:
                raise ModelError(f"{role} must be a {dtype} tensor (sequence, position) like tokens; {as_seen(given)}")
        if (self.sought[:, -1:] != NOTHING).any():
            raise ModelError("sought names something at the last position, after which nothing comes; put -1 there")
        for name, marks in self.counted.items():
            if not marks.any() or marks[:, 0].any():
                raise ModelError(f"counted[{name!r}] must mark at least one token, and no first one")
        targets = _agree(self.sought, self.offered).tril()
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "answers", self.tokens.roll(-1, dims=1))
        super().__post_init__()


class ShuffledTargets(NamedTuple):
    """Of one sequence: the positions that seek, those that offer, and the targets; draw 0 is the prompts' own."""

    queries: Int[Tensor, " query"]
    keys: Int[Tensor, " key"]
    targets: Bool[Tensor, "draw query key"]

    def attention(self, pattern: Float[Tensor, "head position position"]) -> Float[np.ndarray, "head draw"]:
        """The attention of a layer's heads on this sequence, summed over the targets of each draw."""
        seen = pattern[:, self.queries[:, None], self.keys].float().cpu().flatten(1).double()
        return (seen @ self.targets.flatten(1).T.double()).numpy()

    @property
    def n_queries(self) -> Int[Tensor, " draw"]:
        """How many queries have a target."""
        return self.targets.any(-1).sum(-1)


def shuffled_targets(prompts: MatchingPrompts, n_shuffles: int = N_SHUFFLES) -> list[ShuffledTargets]:
    """The targets of each sequence, as they are and with its offers dealt to its keys in `n_shuffles` other orders."""
    rng = np.random.default_rng(0)  # the same shuffles for every model and checkpoint
    found = []
    for sought, offered in zip(prompts.sought, prompts.offered):
        queries, keys = ((ids != NOTHING).nonzero().flatten() for ids in (sought, offered))
        orders = np.tile(np.arange(len(keys)), (1 + n_shuffles, 1))
        rng.permuted(orders[1:], axis=1, out=orders[1:])
        dealt = offered[keys][torch.from_numpy(orders)]
        agree = _agree(sought[queries].expand(len(dealt), -1), dealt)
        found.append(ShuffledTargets(queries, keys, agree & (keys <= queries[:, None])))
    return found


def against_shuffles(scores: Float[np.ndarray, "layer head draw"]) -> dict[str, Float[np.ndarray, "layer head"]]:
    """How each head's score, draw 0, compares with the shuffles: the variables of `ROWS`.

    `fuzzy_matching_p` is the head's alone: of 270 heads that do nothing, three are below 0.01. `fuzzy_matching_p_any`
    allows for that: it counts the shuffles in which any of the heads deviates as far from its own mean, in standard
    deviations of its shuffles.
    """
    own, null = scores[..., 0], scores[..., 1:]
    spread = null.std(-1)
    spread = np.where(spread > 0, spread, np.inf)
    deviation = (scores - null.mean(-1, keepdims=True)) / spread[..., None]
    highest = np.nanmax(deviation[..., 1:], axis=(0, 1))
    known = np.isfinite(own)
    p = (1 + (null >= own[..., None]).sum(-1)) / (1 + null.shape[-1])
    return {
        "fuzzy_matching_shuffled": null.mean(-1),
        "fuzzy_matching_p": np.where(known, p, np.nan),
        "fuzzy_matching_p_any": np.where(known, surprise(deviation[..., 0], highest), np.nan),
    }


def _agree(sought: Tensor, offered: Tensor) -> Bool[Tensor, "sequence query key"]:
    return (sought[:, :, None] == offered[:, None, :]) & (sought[:, :, None] != NOTHING)
