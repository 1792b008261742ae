"""A text as a model takes it and as a reader knows it: token ids, and what each stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from ..errors import ModelError
from ..lens import Lens
from ..system.one_sequence import one_sequence

Encode = Callable[[str], list[int]]
Decode = Callable[[int], str]


def text_tokens(lens: Lens, text: Any, tokenizer: str | None) -> tuple[Int[Tensor, "1 position"], list[str]]:
    """Ids of a text, behind a BOS token where it is a string and the model has one, and their strings.

    `text` is a string, or the token ids of one sequence.

    `tokenizer` is one in Hugging Face's JSON; without it the model's own, and without that numbers stand for tokens.
    """
    coder = _coder(lens, tokenizer)
    if isinstance(text, str):
        if coder is None:
            raise ModelError(
                f"{lens.name} has no tokenizer for a text; pass token ids, or tokenizer=run.tokenizer_json()"
            )
        ids = [*([] if lens.bos is None else [lens.bos]), *coder[0](text)]
    else:
        ids = one_sequence(text, "text")
    if not ids:
        raise ModelError("text has no tokens; give a string or token ids, at least one")
    tokens = torch.tensor([ids])
    lens.check_tokens(tokens)
    return tokens, [str(each) if coder is None else coder[1](each) for each in ids]


def _coder(lens: Lens, tokenizer: str | None) -> tuple[Encode, Decode] | None:
    """What turns text to ids, without special tokens, and an id to text."""
    if tokenizer is not None:
        try:
            known = Tokenizer.from_str(tokenizer)
        except Exception as error:  # tokenizers raises no narrower one
            raise ModelError(f"tokenizer is not a tokenizer in Hugging Face's JSON: {error}") from None
        return (
            lambda text: known.encode(text, add_special_tokens=False).ids,
            lambda token: known.decode([token], skip_special_tokens=False),
        )
    own = getattr(lens.model, "tokenizer", None)
    if own is None:
        return None
    return lambda text: own.encode(text, add_special_tokens=False), lambda token: own.decode([token])
