"""Scanning the heads of one model: which scores, from which prompts, in how few passes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..display.head_scores import HeadScores
from ..errors import ModelError
from ..history import HEAD_SCORES, labelled
from ..lens import DEFAULT_MAX_BYTES, Lens, reinitialised, transformer_lens_version
from ..scores import on_prompts as head_scores
from ..scores.on_prompts import Share
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..system.progress import progress_bar
from .weight_scan import COMPOSITION, score_weights

ON_REPEATED_TOKENS = ("prefix_matching", "copying", "logit_lift", "duplicate_token")
ON_TEXT = ("previous_token",)
FROM_WEIGHTS = ("ov_copying", "qk_trace", *COMPOSITION)
DIRECT_PATH = ("copying", "logit_lift", "ov_copying")
DEFAULT_SCORES = (*ON_REPEATED_TOKENS, *ON_TEXT)
MANY_PARAMETERS = 300_000_000  # from here on a scan takes long enough to be watched

Heads = Mapping[int, list[int]]
Found = dict[str, Tensor]
Advance = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class ScoreSettings:
    """What is scored, apart from any model.

    `scores` names scores, or is "all"; `heads` lists (layer, head) pairs, or is None for all. Prompts
    are run in batches whose activations take about `max_bytes`. With `effective_embedding`,
    `ov_copying` reads tokens through the first MLP.
    """

    scores: Sequence[str] = DEFAULT_SCORES
    heads: Sequence[tuple[int, int]] | None = None
    prompts: PromptSettings = dataclasses.field(default_factory=PromptSettings)
    effective_embedding: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES

    @property
    def names(self) -> tuple[str, ...]:
        names = HEAD_SCORES if self.scores == "all" else tuple(self.scores)
        unknown = [name for name in names if name not in HEAD_SCORES]
        if unknown or (isinstance(self.scores, str) and self.scores != "all"):
            raise ModelError(f"scores={self.scores!r}: there are {', '.join(HEAD_SCORES)}, or 'all' of them")
        return names

    def about(self) -> dict[str, object]:
        """Attributes of a result: all that changes its numbers."""
        return {
            **{f"prompts_{key}": value for key, value in dataclasses.asdict(self.prompts).items()},
            "effective_embedding": int(self.effective_embedding),
            "transformer_lens": transformer_lens_version(),
        }


def scan_heads(
    model: Any,
    text: Int[Tensor, "sequence position"] | None = None,
    scores: Sequence[str] = DEFAULT_SCORES,
    heads: Sequence[tuple[int, int]] | None = None,
    n_nulls: int = 0,
    prompts: PromptSettings = PromptSettings(),
    effective_embedding: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: bool = True,
) -> HeadScores:
    """Score the attention heads of a model: a Dataset (layer, head), a variable per score.

    `model` is a `TransformerBridge`, a `HookedTransformer`, a Hugging Face model or a folder with one, with raw or
    folded weights: the scores are the same. `prefix_matching`, `copying`, `logit_lift` and `duplicate_token` come
    from one pass over repeated random tokens, which stops at the last layer's attention; `previous_token` from one
    over `text`, tokens of the training distribution (NaN without). `ov_copying`, `k_composition`, `q_composition` and
    `v_composition` come from weights, `qk_trace` from both; ask for them by name or with `scores="all"`. Where
    `heads` are given, as (layer, head) pairs, the others stay NaN. `prompts` are the settings of the random tokens.
    With `effective_embedding`, `ov_copying` reads tokens through the first MLP. Prompts are run in batches whose
    activations take about `max_bytes`; `progress` shows a bar for models of 300M parameters and more.

    With `n_nulls`, each score has its null distribution beside it, `<score>_null` (null, layer, head):
    the same scan of as many copies of the model with matrices drawn anew. It costs the time of as
    many scans and the memory of one more model.

    A score that cannot be known is NaN, with the reason in the attribute `unscored`. A high
    prefix-matching score on random tokens does not show what a head does on text.

    Raises ModelError if the model cannot be scored, its weights are not finite, or scores, heads or
    prompts do not fit it.

    >>> from inductionkit.testing import perfect_induction_model
    >>> found = scan_heads(perfect_induction_model())
    >>> round(float(found.prefix_matching.sel(layer=1, head=0)), 4)
    1.0
    """
    settings = ScoreSettings(scores, heads, prompts, effective_embedding, max_bytes)
    lens = Lens(model)
    text = None if text is None else lens.as_tokens(text)
    with progress_bar(progress and lens.n_parameters >= MANY_PARAMETERS) as bar:
        task = bar.add_task(f"scanning {lens.name}", total=None, at="")
        found, reasons = score_heads(lens, settings, text, lambda: bar.advance(task))
        nulls = null_scores(lens, settings, n_nulls, text, lambda: bar.advance(task))
    coords = {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads), "null": np.arange(n_nulls)}
    about = {"model": lens.name, **settings.about(), **({"unscored": json.dumps(reasons)} if reasons else {})}
    if not n_nulls:
        del coords["null"]
    plain = labelled(found | nulls, coords, about)
    return HeadScores(plain.data_vars, plain.coords, plain.attrs)


def score_heads(
    lens: Lens, settings: ScoreSettings, text: Tensor | None = None, advance: Advance = lambda: None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Scores by name, (layer, head), NaN where unknown, and the reasons for what is."""
    wanted = set(settings.names)
    lens.check_finite()
    heads, reasons = _heads(lens, settings.heads), {f"layer {layer}": why for layer, why in lens.unscored.items()}
    # On the model's device until all is known: each score that is fetched by itself would make the device wait.
    unknown = torch.full((lens.n_layers, lens.n_heads), float("nan"), device=lens.device)
    found: Found = {name: unknown.clone() for name in settings.names}
    if wanted & set(ON_REPEATED_TOKENS):
        _score_repeated_tokens(lens, settings, heads, found, advance)
    if not lens.has_direct_path and wanted & set(DIRECT_PATH):
        reasons[", ".join(DIRECT_PATH)] = "without a final norm, what a head writes passes more than the unembedding"
    previous_token = unknown.clone()
    if wanted & {"previous_token", "qk_trace"}:
        if text is None:
            reasons["previous_token, qk_trace"] = "no text was given"
        else:
            _measure_previous_token(lens, settings, max(heads), text, previous_token, advance)
    if "previous_token" in wanted:
        for layer, chosen in heads.items():
            found["previous_token"][layer, chosen] = previous_token[layer, chosen]
    if wanted & set(FROM_WEIGHTS):
        reasons |= score_weights(
            lens, settings.names, heads, previous_token, settings.effective_embedding, found, advance
        )
    return {name: score.cpu().numpy() for name, score in found.items()}, reasons


def null_scores(
    lens: Lens, settings: ScoreSettings, n_nulls: int, text: Tensor | None, advance: Advance = lambda: None
) -> dict[str, np.ndarray]:
    """The same scores on `n_nulls` re-initialised copies of the model: `<score>_null`, (null, layer, head)."""
    drawn = []
    for seed in range(n_nulls):
        null = Lens(reinitialised(lens.model, seed))
        drawn.append(score_heads(null, settings, text, advance)[0])
    return {f"{name}_null": np.stack([scores[name] for scores in drawn]) for name in settings.names if drawn}


@torch.no_grad()
def _score_repeated_tokens(lens: Lens, settings: ScoreSettings, heads: Heads, found: Found, advance: Advance) -> None:
    """One pass serves four scores: by causality the first repeat is the `copying` prompt."""
    wanted, circuits, bos = set(settings.names), lens.circuits(), lens.bos
    wants_ov = bool(wanted & {"copying", "logit_lift"}) and lens.has_direct_path
    first = slice(bos is not None, (bos is not None) + settings.prompts.n_distinct)
    shares: dict[tuple[str, int], Share] = {}

    def score_batch(tokens: Tensor) -> None:
        targets = circuits.unembedding(tokens[:, first]) if wants_ov else None
        stripes = torch.stack([head_scores.followers(tokens), head_scores.earlier_copies(tokens)])
        attention_to = head_scores.attention_to(stripes)

        def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
            chosen = pattern[:, heads[layer]] if len(heads[layer]) < lens.n_heads else pattern
            new = dict(zip(("prefix_matching", "duplicate_token"), attention_to(chosen)))
            if targets is not None and values is not None:
                sample = chosen[:, :, first, first]
                lift = circuits.ov_lift(layer, values[:, first], targets)[:, heads[layer]]
                new["copying"] = head_scores.raised_on_attended(sample, lift)
                new["logit_lift"] = head_scores.summed_lift(sample, lift)
            for name, share in new.items():
                shares[name, layer] = shares[name, layer] + share if (name, layer) in shares else share
            advance()

        lens.visit_attention(tokens, score_layer, heads)

    all_tokens = repeated_random_tokens(lens.d_vocab, bos, settings.prompts).to(lens.device)
    setting = f"prompts=inductionkit.scores.prompts.PromptSettings(n_distinct={lens.n_ctx // 5})"
    lens.check_length(all_tokens.shape[1], f", as with {setting}")
    for tokens in lens.batches(all_tokens, settings.max_bytes):
        score_batch(tokens)
    for (name, layer), share in shares.items():
        if name in wanted:
            value = head_scores.copying_of(share) if name == "copying" else share.value
            found[name][layer, heads[layer]] = value.float()


def _measure_previous_token(
    lens: Lens, settings: ScoreSettings, last_layer: int, text: Tensor, found: Tensor, advance: Advance
) -> None:
    """`previous_token` of every head up to `last_layer`: `qk_trace` needs those that were not asked about too."""
    shares: dict[int, Share] = {}

    def score_layer(layer: int, pattern: Tensor, values: Tensor | None) -> None:
        share = head_scores.attention_to_previous(pattern)
        shares[layer] = shares[layer] + share if layer in shares else share
        advance()

    for tokens in lens.batches(text, settings.max_bytes):
        lens.visit_attention(tokens, score_layer, range(last_layer + 1))
    for layer, share in shares.items():
        found[layer] = share.value.float()


def _heads(lens: Lens, heads: Sequence[tuple[int, int]] | None) -> dict[int, list[int]]:
    """Head indices by layer, of the layers that can be scored; all of them by default."""
    if heads is None:
        return {layer: list(range(lens.n_heads)) for layer in range(lens.n_layers) if layer not in lens.unscored}
    chosen: dict[int, set[int]] = {}
    for layer, head in heads:
        if not 0 <= layer < lens.n_layers:
            raise ModelError(f"heads={heads} names layer {layer}; this model has layers 0..{lens.n_layers - 1}")
        if not 0 <= head < lens.n_heads:
            raise ModelError(f"heads={heads} names head {layer}.{head}; this model has heads 0..{lens.n_heads - 1}")
        if layer in lens.unscored:
            raise ModelError(f"heads={heads} names layer {layer}: {lens.unscored[layer]}")
        chosen.setdefault(layer, set()).add(head)
    if not chosen:
        raise ModelError("heads=[] names no head; leave it out to score all of them")
    return {layer: sorted(chosen[layer]) for layer in sorted(chosen)}
