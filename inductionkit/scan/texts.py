"""Text as strings, made to rows of tokens with the tokenizer that a model carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import chain
from typing import Any

import numpy as np
import torch

from ..errors import ModelError
from ..lens import Lens
from ..scores.word_prompts import encoded
from .held_out import Rows

LONGEST_ROW = 256  # tokens, with the BOS token
SHORTEST_ROW = 2
N_DEFAULT_ROWS = 2  # of the package's own text: some 500 tokens tell how heads attend to the token before


def text_rows(lens: Lens, text: str | Iterable[str]) -> Rows:
    """Return `text`, a string or several, as token ids (sequence, position), int64, for the model of `lens`.

    The strings are put in a row, with the tokenizer's end-of-text token between them (or the model's BOS token, if the
    tokenizer names none), and cut into the fewest rows of one length that have at most 256 tokens, or fit the model's
    context if that is shorter. Each row starts with the model's BOS token where it has one. At the end of the text,
    fewer tokens are left out than there are rows.

    Raises ModelError if the model carries no tokenizer, `text` is something else, has fewer than two tokens, or its ids
    leave the model's vocabulary.
    """
    tokenizer = getattr(lens.model, "tokenizer", None)
    if tokenizer is None:
        raise ModelError(
            f"{lens.name} carries no tokenizer for a text; pass token ids (sequence, position) as held_out="
        )
    bos, eos = lens.bos, getattr(tokenizer, "eos_token_id", None)
    start = [] if bos is None else [bos]
    between = start if eos is None else [eos]
    documents = [ids for string in _strings(text) if (ids := encoded(tokenizer, string))]
    stream = np.array([*chain.from_iterable([*between, *ids] for ids in documents)][len(between) :], np.int64)
    n_rows = -(-len(stream) // max(1, min(LONGEST_ROW, lens.n_ctx) - len(start)))
    length = len(stream) // max(n_rows, 1)
    if len(start) + length < SHORTEST_ROW or not length:
        raise ModelError(f"text has {len(stream)} tokens; give a string, or several, of more")
    rows = stream[: n_rows * length].reshape(n_rows, length)
    rows = np.hstack([np.full((n_rows, len(start)), start, np.int64), rows])
    lens.check_tokens(torch.from_numpy(rows))
    return rows


def default_text_rows(lens: Lens) -> Rows | None:
    """Return a short text of this package, plain English prose, as `text_rows` returns one of the user's.

    It stands in for text of the training distribution where a model carries a tokenizer and no text was given. None
    without a tokenizer, or where the tokenizer makes nothing of English prose that the model knows.
    """
    try:
        return text_rows(lens, (files(__package__) / "default_text.txt").read_text(encoding="utf-8"))
    except ModelError:
        return None


def _strings(text: Any) -> list[str]:
    strings = [text] if isinstance(text, str) else text
    if isinstance(strings, bytes | Mapping) or not isinstance(strings, Iterable):
        raise ModelError(f"text is a {type(text).__name__}; give a string or a list of strings")
    strings = list(strings)
    for string in strings:
        if not isinstance(string, str):
            raise ModelError(f"text holds a {type(string).__name__}; give strings, and token ids as held_out=")
    return strings
