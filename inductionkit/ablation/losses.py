"""Losses with sets of heads zeroed, row by row: what all ablations are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from ..system.head_names import named_head

Head = tuple[int, int]
Named = Head | str  # or the label of a head, such as "1.3"
Kind = Literal["full", "pattern_preserving"]

Part = tuple[slice, list[int], Float[np.ndarray, "ablation sequence position-1"]]

KINDS = ("full", "pattern_preserving")
LONG_NAMES = {
    "loss_by_position": "mean loss by index of the predicted token",
    "loss": "mean loss",
    "icl_score": "in-context-learning score: late loss minus early loss",
}


def head_sets(lens: Lens, heads: Sequence[Named | Sequence[Named]] | None) -> list[list[Head]]:
    """Each ablation as the heads it zeroes. Raises ModelError if there are none, or a head is none of the model's."""
    if heads is None:
        layers = [layer for layer in range(lens.n_layers) if layer not in lens.unscored]
        return [[(layer, head)] for layer in layers for head in range(lens.n_heads)]
    try:
        sets: list[list[Any]] = [_group(entry) for entry in ([heads] if isinstance(heads, str) else heads)]
    except TypeError:
        raise ModelError(
            f"heads={heads!r}: give a list of (layer, head) pairs or labels such as '1.3', or of lists of them to zero "
            f"together"
        ) from None
    if not sets or not all(sets):
        raise ModelError(f"heads={heads!r} has an empty group; name heads, or leave it out for all in turn")
    return [sorted({lens.check_head(entry, heads) for entry in entries}) for entries in sets]


def _group(entry: Any) -> list[Any]:
    """One head or several, as a list; a label may name several, see `label`."""
    if isinstance(entry, str):
        return entry.split("+")
    return [entry] if named_head(entry) else list(entry)


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
