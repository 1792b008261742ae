"""The scores of attention heads: which, from which prompts, in how few passes; for one model or along a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from ..display.head_scores import HeadScores
from ..errors import ModelError
from ..history import labelled
from ..lens import DEFAULT_MAX_BYTES, Lens, transformer_lens_version
from ..runs import Run
from ..scores import from_weights, on_gradients, on_losses, on_prompts  # noqa: F401  they register the scores
from ..scores.on_prompts import OnRepeatedTokens, Share, attention_to, earlier_copies, followers
from ..scores.prompts import PromptSettings, repeated_random_tokens, token_pool
from ..scores.score import SCORES, names_from
from ..system.real_numbers import real_number
from .engine import OnError, scan_source
from .gradients import score_gradients
from .held_out import held_out_rows
from .loss_effects import score_loss_effects
from .measurement import Advance, Measurement, fingerprint, silently
from .texts import default_text_rows, text_rows
from .weights import score_weights

DEFAULT_SCORES = (*names_from("repeated tokens"), *names_from("text"))
N_TEXT_SEQUENCES = 8  # of the held-out text, for the scores that are measured on text

Heads = Mapping[int, list[int]]
Found = dict[str, Tensor]


@dataclass(frozen=True)
class HeadScoring(Measurement):
    """`names` of every head in `heads` (by layer), on `prompts` (repeated random tokens) and `text`, None for none.

    `about` are the settings that the prompts were made with, `sample` says where their first repeat stands.
    """

    names: tuple[str, ...]
    heads: Heads
    prompts: Int[np.ndarray, "sequence position"] | None
    sample: slice
    text: Int[np.ndarray, "sequence position"] | None
    effective_embedding: bool
    max_bytes: int
    about: Mapping[str, Any]

    has_nulls = True

    def settings(self) -> dict[str, Any]:
        text = "none" if self.text is None else fingerprint(self.text)
        return {
            **self.about,
            "scores": " ".join(self.names),
            "text_fingerprint": text,
            "effective_embedding": int(self.effective_embedding),
            "transformer_lens": transformer_lens_version(),
        }

    @torch.no_grad()
    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        lens.check_finite()
        # On the model's device until all is known: each score that is fetched by itself would make the device wait.
        unknown = torch.full((lens.n_layers, lens.n_heads), torch.nan, dtype=torch.float32, device=lens.device)
        found: Found = {name: unknown.clone() for name in self.names}
        reasons = {f"layer {layer}": why for layer, why in lens.unscored.items()}
        direct = ", ".join(name for name in self.names if "direct path" in SCORES[name].needs)
        if direct and not lens.has_direct_path:
            reasons[direct] = "what a head writes passes more than one final norm on its way to the logits"
        elif direct:
            indirect = lens.indirect(self.heads)
            for why in dict.fromkeys(indirect.values()):
                layers = ", ".join(str(layer) for layer in indirect if indirect[layer] == why)
                reasons[f"{direct} in layer {layers}"] = why
        if self.prompts is not None:
            self._score_repeated_tokens(lens, found, advance)
            given = self.heads, torch.from_numpy(self.prompts), self.sample, self.max_bytes, found, advance
            if set(self.names) & set(names_from("gradients")):
                reasons |= score_gradients(lens, self.names, *given)
            if "loss_effect" in self.names:
                reasons |= score_loss_effects(lens, *given)
        on_text: Found = {}
        needs_text = [name for name in self.names if name == "qk_trace" or SCORES[name].source == "text"]
        if needs_text and self.text is None:
            reasons[", ".join(needs_text)] = "no text was given"
        elif needs_text:
            on_text = self._score_text(lens, advance)
        for name in found.keys() & on_text.keys():
            for layer, chosen in self.heads.items():
                found[name][layer, chosen] = on_text[name][layer, chosen]
        if set(self.names) & set(names_from("weights")):
            previous_token = on_text.get("previous_token", unknown)
            reasons |= score_weights(
                lens, self.names, self.heads, previous_token, self.effective_embedding, found, advance
            )
        values = {name: score.cpu().numpy() for name, score in found.items()}
        coords = {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads)}
        rows = {name: SCORES[name].variable for name in self.names}
        return labelled(values, rows, coords, {"unscored": json.dumps(reasons)} if reasons else {})

    def _score_repeated_tokens(self, lens: Lens, found: Found, advance: Advance) -> None:
        """One pass serves all scores: by causality the first repeat is the `copying` prompt."""
        assert self.prompts is not None
        circuits = lens.circuits()
        wanted = [SCORES[name] for name in self.names if SCORES[name].source == "repeated tokens"]
        wanted = [score for score in wanted if lens.has_direct_path or "direct path" not in score.needs]
        shares: dict[tuple[str, int], Share] = {}

        def score_batch(tokens: Tensor) -> None:
            wants_lift = any("direct path" in score.needs for score in wanted)
            targets = circuits.unembedding(tokens[:, self.sample]) if wants_lift else None
            to_stripes = attention_to(torch.stack([followers(tokens), earlier_copies(tokens)]))

            def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
                heads = self.heads[layer]

                def lift() -> Tensor:
                    assert values is not None and targets is not None
                    return circuits.ov_lift(layer, values[:, self.sample], targets)[:, heads]

                chosen = pattern[:, heads] if len(heads) < lens.n_heads else pattern
                seen = OnRepeatedTokens(chosen, to_stripes, self.sample, lift)
                for score in wanted:
                    if values is not None or "direct path" not in score.needs:
                        _add(shares, (score.name, layer), score.of(seen))
                advance(1)

            lens.visit_attention(tokens, score_layer, self.heads)

        for tokens in lens.batches(torch.from_numpy(self.prompts).to(lens.device), self.max_bytes):
            score_batch(tokens)
        for (name, layer), share in shares.items():
            found[name][layer, self.heads[layer]] = SCORES[name].finish(share).float()

    def _score_text(self, lens: Lens, advance: Advance) -> Found:
        """Scores on text, of every head up to the last layer: `qk_trace` needs those that were not asked about too."""
        assert self.text is not None
        wanted = [SCORES[name] for name in {*self.names, "previous_token"} if SCORES[name].source == "text"]
        shares: dict[tuple[str, int], Share] = {}

        def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
            for score in wanted:
                _add(shares, (score.name, layer), score.of(pattern))
            advance(1)

        for tokens in lens.batches(torch.from_numpy(self.text), self.max_bytes):
            lens.visit_attention(tokens, score_layer, range(max(self.heads) + 1))
        unknown = torch.full((lens.n_layers, lens.n_heads), torch.nan, dtype=torch.float32, device=lens.device)
        found = {score.name: unknown.clone() for score in wanted}
        for (name, layer), share in shares.items():
            found[name][layer] = SCORES[name].finish(share).float()
        return found


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
    if set(names) & {*names_from("repeated tokens", "gradients", "loss")}:
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
    which stops at the last layer's attention. `previous_token` comes from a pass over `held_out`, tokens of the
    training distribution, of which 8 sequences are read. If the model carries a tokenizer, you can pass `text`, one
    string or several, instead; without either, a short text of this package is read, and without a tokenizer the score
    is NaN. `ov_copying`, `k_composition`, `q_composition` and `v_composition` come from weights, `qk_trace` from both,
    `direct_lift` and `total_lift` from a pass over two repeats and back, `loss_effect` from the latter and ablations;
    ask for these by name or with `scores="all"`. Where `heads` are given, as (layer, head) pairs or labels such as
    "1.3", the others stay NaN. `prompts` are the settings of the random tokens, which are drawn from the tokens of
    `held_out` where that has enough. With `effective_embedding`, `ov_copying` reads tokens through the first MLP.
    Prompts are run in batches whose activations take about `max_bytes`.

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
            ready = replace(ready, text=own[:N_TEXT_SEQUENCES])  # prompts stay as they are
        return [ready]

    found = scan_source(source, scoring, "head scores", n_nulls, store, executor, on_error, progress)
    return HeadScores(found.data_vars, found.coords, found.attrs)


def _add(shares: dict[tuple[str, int], Share], key: tuple[str, int], share: Share) -> None:
    shares[key] = shares[key] + share if key in shares else share


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
