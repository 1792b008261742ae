"""The token ids of one text, in the forms in which models and tokenizers return them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ModelError


def one_sequence(tokens: Any, what: str) -> list[int]:
    """Return the ids of one text: a flat list, array or tensor, or a batch that holds one sequence.

    Raises ModelError, whose message begins with `what`, if it is something else.

    >>> one_sequence([[5, 6, 7]], "text"), one_sequence(np.array([5, 6]), "text")
    ([5, 6, 7], [5, 6])
    """
    try:
        plain = tokens.detach().cpu() if hasattr(tokens, "detach") else tokens
        ids = np.asarray(plain if hasattr(plain, "__len__") else list(plain))
    except (TypeError, ValueError, RuntimeError):  # sequences of several lengths, or tensors that NumPy cannot hold
        ids = np.array(None)
    if ids.ndim == 2 and len(ids) > 1:
        raise ModelError(f"{what} holds {len(ids)} sequences of tokens; give one of them, such as tokens[0]")
    if ids.ndim == 2:
        ids = ids.reshape(-1)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ModelError(f"{what} is {tokens!r:.80}; give one list of token ids")
    return [int(token) for token in ids]
