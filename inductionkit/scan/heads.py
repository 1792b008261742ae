"""The scores of attention heads: which, from which prompts, in how few passes; for one model or along a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..display.head_scores import HeadScores
from ..errors import ModelError
from ..lens import DEFAULT_MAX_BYTES, Lens
from ..runs import Run
from ..scores.prompts import PromptSettings, repeated_random_tokens, token_pool
from ..scores.score import SCORES
from ..system.real_numbers import real_number
from .engine import OnError, scan_source
from .head_measurement import HeadScoring
from .held_out import held_out_rows
from .measurement import fingerprint
from .texts import N_DEFAULT_ROWS, default_text_rows, text_rows

DEFAULT_SCORES = tuple(name for name, score in SCORES.items() if score.source not in ("weights", "loss"))
N_TEXT_SEQUENCES = 8  # of the held-out text, for the scores that are measured on text


def head_scoring(
    lens: Lens,
    scores: Sequence[str] = DEFAULT_SCORES,
    heads: Sequence[tuple[int, int] | str] | None = None,
    prompts: PromptSettings = PromptSettings(),
    held_out: Int[np.ndarray, "sequence position"] | None = None,
    effective_embedding: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> HeadScoring:
    """What `scan_heads` measures, made ready for a model. Raises ModelError if it does not fit the model."""
    names = [*SCORES] if isinstance(scores, str) and scores == "all" else scores
    if isinstance(names, str) or not isinstance(names, Collection) or not all(name in [*SCORES] for name in names):
        raise ModelError(f"scores={scores!r}: there are {', '.join(SCORES)}, or 'all' of them")
    if not isinstance(prompts, PromptSettings):
        raise ModelError(f"prompts={prompts!r} must be a PromptSettings")
    if not names:
        raise ModelError("scores=[] names no score; leave it out for the default scores")
    names = tuple(dict.fromkeys(names))
    by_layer, bos, tokens = _by_layer(lens, heads), prompts.bos_for(lens.bos), None
    about: dict[str, Any] = {"heads": "all" if heads is None else json.dumps(by_layer), "max_bytes": max_bytes}
    if any(SCORES[name].source not in ("text", "weights") for name in names):
        drawn = repeated_random_tokens(lens.d_vocab, bos, prompts, held_out)
        lens.check_length(
            drawn.shape[1], f", as with prompts=inductionkit.PromptSettings(n_distinct={lens.n_ctx // 5})"
        )
        tokens = lens.check_tokens(drawn).numpy()
        about |= prompt_settings(lens, prompts, held_out) | {"prompts_fingerprint": fingerprint(tokens)}
    first = int(bos is not None)
    return HeadScoring(
        names=names,
        heads=by_layer,
        prompts=tokens,
        sample=slice(first, first + prompts.n_distinct),
        text=None if held_out is None else held_out[:N_TEXT_SEQUENCES],
        effective_embedding=effective_embedding,
        max_bytes=max_bytes,
        about=about,
    )


def prompt_settings(
    lens: Lens, prompts: PromptSettings, held_out: Int[np.ndarray, "sequence position"] | None
) -> dict[str, Any]:
    """The settings of random-token prompts as attributes, with the BOS token and the pool that they came to."""
    bos = prompts.bos_for(lens.bos)
    pool = token_pool(lens.d_vocab, bos, prompts, held_out)
    plain = {name: value for name, value in vars(prompts).items() if name not in ("pool", "bos")}
    plain |= {"bos": "none" if bos is None else bos, "pool": f"{pool.source}, {len(pool.tokens)} tokens"}
    return {f"prompts_{name}": value for name, value in plain.items()}


def scan_heads(
    source: Any,
    held_out: Any = None,
    scores: Sequence[str] = DEFAULT_SCORES,
    heads: Sequence[tuple[int, int] | str] | None = None,
    prompts: PromptSettings = PromptSettings(),
    n_nulls: int = 0,
    effective_embedding: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
    text: str | Iterable[str] | None = None,
) -> HeadScores:
    """Score the attention heads of a model, or of every checkpoint of a run: a Dataset, a variable per score.

    The dims are (layer, head), for a run (step, layer, head). `source` is a `TransformerBridge`, a `HookedTransformer`,
    a Hugging Face model, a folder with one or a `.gguf` file, with raw or folded weights (the scores are the same), or
    a run.

    `prefix_matching`, `copying`, `logit_lift` and `duplicate_token` come from one pass over repeated random tokens,
    `direct_lift` and `total_lift` from a pass over two repeats of them and back. `previous_token` comes from a pass
    over `held_out`, tokens of the training distribution, of which 8 sequences are read. If the model carries a
    tokenizer, you can pass `text`, one string or several, instead; without either, a short text of this package is
    read, and without a tokenizer the score is NaN. `ov_copying`, `k_composition`, `q_composition` and `v_composition`
    come from weights, `qk_trace` from both, `loss_effect` from a pass and back and from ablations; ask for these by
    name or with `scores="all"`. Where `heads` are given, as (layer, head) pairs or labels such as "1.3", the others
    stay NaN. `prompts` are the settings of the random tokens, which are drawn from the tokens of `held_out` where that
    has enough. With `effective_embedding`, `ov_copying` reads tokens through the first MLP. Prompts are run in batches
    whose activations take about `max_bytes`.

    With `n_nulls`, each score has its null distribution beside it, `<score>_null` (null, layer, head): the same scan of
    as many copies of the model (of a run: of its last measured checkpoint) with matrices drawn at random. It costs the
    time of as many scans and the memory of one more model.

    `store`, `executor`, `on_error` and `progress` are as in `scan_run`; the first three are for runs alone.

    A score that cannot be known is NaN, with the reason in the attribute `unscored`. A high
    prefix-matching score on random tokens does not show what a head does on text.

    Raises ModelError if the model cannot be scored, its weights are not finite, or scores, heads, prompts or held-out
    text do not fit it.

    >>> from inductionkit.testing import perfect_induction_model
    >>> found = scan_heads(perfect_induction_model())
    >>> round(float(found.prefix_matching.sel(layer=1, head=0)), 4)
    1.0
    """

    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))
    if text is not None and held_out is not None:
        raise ModelError("held_out and text are both given; pass one, token ids or strings")

    def scoring(lens: Lens, run: Run | None) -> list[HeadScoring]:
        if text is not None:
            return [head_scoring(lens, scores, heads, prompts, text_rows(lens, text), effective_embedding, max_bytes)]
        given = run.held_out() if held_out is None and run is not None else held_out
        rows = None if given is None else held_out_rows(given, lens, min_length=2)
        ready = head_scoring(lens, scores, heads, prompts, rows, effective_embedding, max_bytes)
        if rows is None and run is None and (own := default_text_rows(lens)) is not None:
            ready = replace(ready, text=own[:N_DEFAULT_ROWS])  # prompts stay as they are
        return [ready]

    found = scan_source(source, scoring, "head scores", n_nulls, store, executor, on_error, progress)
    return HeadScores(found.data_vars, found.coords, found.attrs)


def _by_layer(lens: Lens, heads: Sequence[tuple[int, int] | str] | None) -> dict[int, list[int]]:
    """Head indices by layer, of the layers that can be scored; all of them by default."""
    if heads is None:
        return {layer: list(range(lens.n_heads)) for layer in range(lens.n_layers) if layer not in lens.unscored}
    chosen: dict[int, set[int]] = {}
    for named in [heads] if isinstance(heads, str) or not isinstance(heads, Iterable) else heads:
        layer, head = lens.check_head(named, heads)
        chosen.setdefault(layer, set()).add(head)
    if not chosen:
        raise ModelError("heads=[] names no head; leave it out to score all of them")
    return {layer: sorted(chosen[layer]) for layer in sorted(chosen)}
