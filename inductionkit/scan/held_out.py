"""Held-out text as people have it: checked, cut to rows, taken evenly."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from jaxtyping import Int

from ..errors import ModelError
from ..lens import Lens
from ..runs import Run
from ..system.spread import evenly
from ..system.whole_numbers import whole_number

ROW = 512  # tokens of a row that a stream is cut to: the context that O22 measures in
MIN_LENGTH = 22  # tokens of the shortest row that has both indices of the in-context-learning score

Rows = Int[np.ndarray, "sequence position"]


def held_out_rows(held_out: Any, lens: Lens, n_rows: int | None = None, min_length: int = MIN_LENGTH) -> Rows:
    """Held-out text as token ids (sequence, position), int64; `n_rows` of its rows, taken evenly.

    Takes a 2-D array or tensor of token ids, rows of equal length (such as a column of a tokenised data set), or a
    stream, one long list of ids, which is cut to rows of 512 tokens, or of the model's context if that is shorter.
    Rows are taken evenly over the whole, since neighbours often come from one document.

    Raises ModelError if it is something else, ids leave the vocabulary, or rows have fewer than `min_length` tokens or
    do not fit the model's context.
    """
    tokens = _as_array(held_out)
    if tokens.dtype.kind not in "iu":
        raise _refused(f"holds {tokens.dtype} values; token ids are whole numbers")
    if tokens.ndim == 1:
        length = min(lens.n_ctx, ROW)
        if len(tokens) < length:
            raise _refused(f"is a stream of {len(tokens)} tokens; it takes at least one row of {length}")
        tokens = tokens[: len(tokens) // length * length].reshape(-1, length)
    if tokens.ndim != 2 or not tokens.size:
        raise _refused(f"has the shape {tokens.shape}; give (sequence, position), with at least one sequence")
    n_tokens = tokens.shape[1]
    if n_tokens < min_length:
        raise _refused(f"has rows of {n_tokens} tokens; rows of at least {min_length} are needed")
    if n_tokens > lens.n_ctx:
        raise _refused(f"has rows of {n_tokens} tokens; the model's context takes {lens.n_ctx}: cut the rows")
    if tokens.min() < 0 or tokens.max() >= lens.d_vocab:
        raise _refused(
            f"holds token ids {tokens.min()} to {tokens.max()}; the vocabulary has 0 to {lens.d_vocab - 1}. "
            f"Leave out padding and masks such as -100"
        )
    if n_rows is not None:
        n_rows = whole_number(n_rows, "n_evaluation", 1, ModelError)
    chosen = tokens if n_rows is None else tokens[evenly(len(tokens), n_rows)]
    return chosen.astype(np.int64)


def run_held_out(run: Run, held_out: Any, lens: Lens, n_rows: int | None) -> Rows:
    """The same, by default of the run's own held-out text. Raises ModelError if the run comes without."""
    given = run.held_out() if held_out is None else held_out
    if given is None:
        raise ModelError(
            f"the run {run.name} comes without held-out text; pass held_out=, token ids (sequence, position) of its "
            f"training distribution, up to {lens.n_ctx} a row"
        )
    return held_out_rows(given, lens, n_rows)


def _as_array(held_out: Any) -> np.ndarray:
    if isinstance(held_out, str | bytes | Mapping | Set | np.ma.MaskedArray) or held_out is None:
        raise _refused(f"is a {type(held_out).__name__}; tokenise the text and pass token ids")
    columns = getattr(held_out, "column_names", getattr(held_out, "columns", None))
    if columns is not None:
        raise _refused(
            f"is a data set with the columns {list(columns)[:10]}; pass the column of token ids, such as "
            f"data['input_ids'], or its array"
        )
    if hasattr(held_out, "detach"):  # a tensor, wherever it is
        if held_out.is_meta:
            raise _refused("is a tensor without values (meta device)")
        try:
            return np.asarray(held_out.detach().cpu())
        except (TypeError, RuntimeError):  # of a type that NumPy does not know, sparse or nested
            raise _refused(f"is a tensor of {held_out.dtype}, {held_out.layout}; give whole numbers") from None
    if isinstance(held_out, np.ndarray) and held_out.dtype != object:
        return held_out
    try:
        rows = [np.asarray(getattr(row, "tolist", lambda row=row: row)()) for row in held_out]
        whole = np.array(rows) if len({row.shape for row in rows}) == 1 else None
    except Exception:  # a stranger's sequence may stumble anywhere
        raise _refused(f"is a {type(held_out).__name__}; give token ids (sequence, position)") from None
    lengths = sorted({row.size for row in rows})
    if len(lengths) > 1 or len({row.ndim for row in rows}) > 1:
        raise _refused(
            f"has rows of {lengths[0]} to {lengths[-1]} tokens; cut them to one length, or join them into one stream"
        )
    return np.empty((0, 0), np.int64) if whole is None else whole


def _refused(what: str) -> ModelError:
    return ModelError(f"held_out {what}")
