"""Which token prompts start with."""

from __future__ import annotations

from typing import Any


def bos_of(model: Any) -> int | None:
    """The begin-of-sequence token of a TransformerLens model, the same however the model was opened.

    A model that wraps a Hugging Face configuration has the `bos_token_id` in it (of several, the first). Any other
    has that of the tokenizer it carries, or 0 without a tokenizer, as the models of this project. None where there is
    no such token, or where it is not in the model's vocabulary.
    """
    from transformers import PretrainedConfig

    config = getattr(getattr(model, "original_model", None), "config", None)
    tokenizer = getattr(model, "tokenizer", None)
    if isinstance(config, PretrainedConfig):
        bos = getattr(config, "bos_token_id", None)
    else:
        bos = 0 if tokenizer is None else getattr(tokenizer, "bos_token_id", None)
    if isinstance(bos, list | tuple):
        bos = bos[0] if bos else None
    return bos if bos is not None and 0 <= bos < model.cfg.d_vocab else None
