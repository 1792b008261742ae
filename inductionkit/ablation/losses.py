"""Losses with sets of heads zeroed, row by row: what all ablations are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from ..lens import HeadZeroing, Lens, transformer_lens_version
from ..lens.head_zeroing import Found
from ..scan.measurement import Advance
from ..scores.icl import icl_settings

Head = tuple[int, int]
Kind = Literal["full", "pattern_preserving"]

Part = tuple[slice, list[int], Float[np.ndarray, "ablation sequence position-1"]]

KINDS = ("full", "pattern_preserving")
LONG_NAMES = {
    "loss_by_position": "mean loss by index of the predicted token",
    "loss": "mean loss",
    "icl_score": "in-context-learning score: late loss minus early loss",
}


def head_sets(lens: Lens, heads: Sequence[Head | Sequence[Head]] | None) -> list[list[Head]]:
    """Each ablation as the heads it zeroes. Raises ModelError if there are none, or a head is none of the model's."""
    if heads is None:
        layers = [layer for layer in range(lens.n_layers) if layer not in lens.unscored]
        return [[(layer, head)] for layer in layers for head in range(lens.n_heads)]
    what = f"heads={heads!r}: give a list of (layer, head) pairs, or of lists of pairs to zero together"
    try:
        sets: list[list[Any]] = [[entry] if _is_head(entry) else list(entry) for entry in heads]
    except TypeError:
        raise ModelError(what) from None
    if not sets or not all(sets):
        raise ModelError(f"heads={heads!r} has an empty group; name heads, or leave it out for all in turn")
    for entry in (entry for entries in sets for entry in entries):
        if not _is_head(entry):
            raise ModelError(what)
        lens.check_head(entry[0], entry[1], heads)
    return [sorted({(int(layer), int(head)) for layer, head in entries}) for entries in sets]


def label(heads: Sequence[Head]) -> str:
    """Layer and head, as in `1.3 + 1.0`."""
    return " + ".join(f"{layer}.{head}" for layer, head in heads)


def losses_without(
    lens: Lens,
    tokens: Int[Tensor, "sequence position"],
    sets: list[list[Head]],
    kind: Kind,
    max_bytes: int,
    advance: Advance,
) -> Iterator[Part]:
    """Losses a part at a time: which sequences, which ablations, their losses; ablation 0 is none, `sets` follow.

    `advance` is told how many ablations are done. Raises ModelError if the model's weights are not finite.
    """
    lens.check_finite()
    zeroed = torch.zeros(1 + len(sets), lens.n_layers, lens.n_heads, dtype=torch.bool)
    for ablation, heads in enumerate(sets, start=1):
        layers, places = zip(*heads)
        zeroed[ablation, layers, places] = True
    zeroing = HeadZeroing(lens, kind == "pattern_preserving", max_bytes)
    return _parts(zeroing.losses(tokens, zeroed), len(tokens), advance)


def _parts(found: Iterator[Found], n_sequences: int, advance: Advance) -> Iterator[Part]:
    for sequences, which, losses in found:
        yield sequences, which, losses.double().cpu().numpy()
        advance(losses.shape[1] / n_sequences * sum(ablation > 0 for ablation in which))


def mean_losses(
    lens: Lens,
    tokens: Int[Tensor, "sequence position"],
    sets: list[list[Head]],
    kind: Kind,
    max_bytes: int,
    advance: Advance,
) -> Float[np.ndarray, "ablation position-1"]:
    """The mean over the sequences; ablation 0 is none."""
    parts = losses_without(lens, tokens, sets, kind, max_bytes, advance)
    total = np.zeros((1 + len(sets), tokens.shape[1] - 1))
    for _, which, losses in parts:
        total[which] += losses.sum(1)
    return total / len(tokens)


def settings(held_out: Int[np.ndarray, "sequence position"], kind: str) -> dict[str, Any]:
    """Attributes of a result: what its numbers depend on."""
    icl, versions = icl_settings(held_out.shape[1]), {"transformer_lens": transformer_lens_version()}
    return {"kind": kind, **icl, "n_sequences": len(held_out), **versions}


def _is_head(entry: Any) -> bool:
    return (
        isinstance(entry, tuple | list)
        and len(entry) == 2
        and all(isinstance(each, Integral) and not isinstance(each, bool) for each in entry)
    )
