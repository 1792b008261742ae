"""AttentionView: a model's attention patterns on a text, all heads small and one of them large, by CircuitsVis."""

from __future__ import annotations

import gzip
from collections.abc import Collection
from typing import Any

import ipywidgets
import numpy as np
import torch
import traitlets
from jaxtyping import Int, UInt8
from torch import Tensor

from ..errors import ModelError
from ..history import PATTERN_SCALE
from ..lens import Lens
from ..system.process_state import undisturbed
from ..system.whole_numbers import whole_numbers
from ._choices import Head, HeadChoice
from ._circuitsvis import CircuitsVisBundle, circuitsvis_script
from ._payload import pack_lower
from ._text import text_tokens

# Attention compresses well, and each head is decompressed when it is looked at; level 6 is zlib's own choice.
GZIP_LEVEL = 6


class AttentionView(HeadChoice):
    """Attention of each head on a text, query by key: all heads small, layer by head, and one as CircuitsVis draws it.

    The view opens on the head that attends most to what followed earlier copies of a token, if the text repeats any.
    Point at a small pattern to preview it, click to choose it, or use the arrow keys. The first token can be hidden,
    on which heads rest; the small patterns are coloured by attention or by its square root.

    CircuitsVis' own bundle is taken from its installed wheel, once for all views of a notebook, and
    patterns travel quantised to 1/255; nothing is fetched from anywhere. Attention shows where a head
    looks, not what it moves or whether that matters: see `copying` and `ablate_heads`.

    Parameters
    ----------
    model
        What `scan_heads` takes: a `TransformerBridge`, a `HookedTransformer`, a Hugging Face model or a
        folder with one.
    text
        A string, or token ids: a list, array or tensor of one sequence, or a batch with one sequence, as
        `model.to_tokens` returns it. A string is given a begin-of-sequence token where the model has one.
    tokenizer
        A tokenizer in Hugging Face's JSON, such as `run.tokenizer_json()` gives; by default the model's own.
        Without any, ids stand for tokens.
    layers
        The layers to show; by default all that have attention.

    Raises
    ------
    ModelError
        If the text does not fit the model, CircuitsVis is not installed, or `head` is set to one not shown.
    """

    bundle = "attention_view"
    choices = ("head",)
    _what = "this view has"

    _circuitsvis = traitlets.Instance(CircuitsVisBundle).tag(sync=True, **ipywidgets.widget_serialization)

    @undisturbed()
    def __init__(
        self,
        model: Any,
        text: Any,
        *,
        tokenizer: str | None = None,
        layers: Collection[int] | None = None,
    ) -> None:
        bundle = CircuitsVisBundle.shared()
        lens = Lens(model)
        ids, tokens = text_tokens(lens, text, tokenizer)
        patterns = _patterns(lens, ids, layers)
        self._known = list(patterns)
        places, data = [], bytearray()
        for pattern in patterns.values():
            packed = gzip.compress(pack_lower(pattern).tobytes(), GZIP_LEVEL, mtime=0)
            places.append([len(data), len(packed)])
            data += packed
        header = {
            "model": lens.label,
            "tokens": tokens,
            "names": [list(head) for head in patterns],
            "places": places,
            "patternScale": PATTERN_SCALE,
        }
        super().__init__(header, bytes(data), head=_first_shown(patterns, ids[0].numpy()), _circuitsvis=bundle)

    @property
    def _title(self) -> str:
        return f"{self._header['model']} · attention"

    @property
    def _script_to_save(self) -> str:
        return circuitsvis_script() + self._esm

    def __repr__(self) -> str:
        n_tokens = len(self._header["tokens"])
        return f"AttentionView({self._header['model']}: {len(self._known)} heads on {n_tokens} tokens)"


def _first_shown(patterns: dict[Head, UInt8[np.ndarray, "query key"]], ids: Int[np.ndarray, " position"]) -> Head:
    """The head that attends most to what followed earlier copies of a token; the last one where nothing repeats."""
    follows = np.zeros((len(ids), len(ids)), bool)
    follows[:, 1:] = np.tril(ids[:, None] == ids[None, :], -1)[:, :-1]
    matching = {head: int(pattern[follows].sum()) for head, pattern in patterns.items()}
    return max(matching, key=lambda head: matching[head]) if follows.any() else next(reversed(patterns))


def _patterns(
    lens: Lens, tokens: Int[Tensor, "1 position"], layers: Collection[int] | None
) -> dict[Head, UInt8[np.ndarray, "query key"]]:
    """The pattern of each head of `layers`, quantised."""
    with_attention = [layer for layer in range(lens.n_layers) if layer not in lens.unscored]
    wanted = with_attention if layers is None else sorted({*whole_numbers(layers, "layers", 0, ModelError).tolist()})
    if not set(wanted) <= set(with_attention):
        raise ModelError(f"layers={layers!r}: {lens.name} has attention in layers {with_attention}")
    found: dict[Head, np.ndarray] = {}

    def keep(layer: int, pattern: Tensor, values: Tensor | None) -> None:
        levels = (pattern[0].float() / PATTERN_SCALE).round().to(torch.uint8).cpu().numpy()
        found.update({(layer, head): level for head, level in enumerate(levels)})

    lens.visit_attention(tokens, keep, wanted)
    return found
