"""Scanning: the scores of every head of a model, and of a run checkpoint by checkpoint."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from . import scores as head_scores
from .errors import HistoryError
from .history import HEAD_SCORES, PATTERN_SCALE, labelled
from .lens import Lens, build_model, load_weights
from .prompts import PromptSettings, repeated_random_tokens
from .runs import Run
from .store import GrowingStore

N_PREVIOUS_TOKEN_SEQUENCES = 8
MAX_BATCH_TOKENS = 2048  # small enough that attention patterns stay in the cache of a CPU


def scan_heads(
    model: Any, text: Int[Tensor, "sequence position"] | None = None, prompts: PromptSettings = PromptSettings()
) -> xr.Dataset:
    """Score every attention head of a model: a Dataset (layer, head), a variable per score.

    `prefix_matching`, `copying`, `logit_lift` and `duplicate_token` come from one pass over repeated
    random tokens, `previous_token` from a pass over `text`, tokens of the training distribution; it is
    NaN without. A high prefix-matching score on random tokens does not show what a head does on text.

    Raises ModelError if the model cannot be scored, its weights are not finite or the prompts do not fit.

    >>> from inductionkit.testing import perfect_induction_model
    >>> scores = scan_heads(perfect_induction_model())
    >>> round(float(scores.prefix_matching.sel(layer=1, head=0)), 4)
    1.0
    """
    lens = Lens(model)
    lens.check_finite()
    coords = {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads)}
    return labelled(_head_scores(lens, text, prompts), coords, _about(prompts))


def scan_run(
    run: Run,
    store: str | Path | None = None,
    texts: Mapping[str, Sequence[int]] | None = None,
    prompts: PromptSettings = PromptSettings(),
    n_evaluation: int = 128,
    progress: bool = True,
) -> xr.Dataset:
    """Scan the checkpoints of a run: a history (step, layer, head, …), see `inductionkit.history`.

    Per checkpoint: the head scores, the loss by position on the same `n_evaluation` held-out examples
    (taken evenly from the held-out text), the in-context-learning score, and the attention patterns on
    `texts` (token ids by name; default: repeated random tokens and the beginning of a held-out example).

    With a `store` (a Zarr folder), results are kept as they come and a scan that was interrupted goes
    on where it was. Raises HistoryError if the store holds a scan with other settings, RunError or
    ModelError if a checkpoint cannot be read or does not fit.
    """
    standing = build_model(run.model)
    lens = Lens(standing)
    evaluation = torch.from_numpy(_spread(run.held_out(), n_evaluation).astype(np.int64))
    texts = _texts(run, lens, prompts, texts, evaluation)
    icl = icl_settings(lens.n_ctx)
    settings = {
        **_about(prompts),
        **icl,
        "model": run.name,
        "fingerprints": json.dumps(dict(run.fingerprints), sort_keys=True),
        "n_evaluation": len(evaluation),
        "texts": json.dumps({name: list(tokens) for name, tokens in texts.items()}),
    }
    template = _template(run, lens, texts)
    growing = None if store is None else GrowingStore(store, template, settings)
    missing = run.steps if growing is None else growing.missing_steps()
    results = {}
    with _progress_bar(progress) as bar:
        task = bar.add_task(
            f"scanning {run.name}", total=len(run.steps), completed=len(run.steps) - len(missing), at=""
        )
        for step in missing:
            checkpoint = run.checkpoint(step)
            bar.update(task, at=f"step {step:,}")
            load_weights(standing, checkpoint.read())
            lens.check_finite()
            result = _scan_checkpoint(lens, evaluation, texts, prompts, icl)
            if growing is None:
                results[step] = result
            else:
                growing.write(step, result)
            bar.advance(task)
    if growing is not None:
        return growing.open()
    whole = xr.concat([results[step] for step in run.steps], dim="step", combine_attrs="override")
    return template.drop_vars([name for name in whole.data_vars]).merge(whole).assign_attrs(settings)


def icl_settings(n_ctx: int) -> dict[str, int]:
    """Token indices of the in-context-learning score: O22's 50 and 500 of a context of 512, scaled to `n_ctx`.

    A single index of a few hundred examples is noisy, so the loss is averaged over the indices within
    `icl_half_width` of each.
    """
    late, early = round(500 / 512 * n_ctx), max(1, round(50 / 512 * n_ctx))
    return {"icl_early": early, "icl_late": late, "icl_half_width": min(n_ctx // 50, early - 1, n_ctx - 1 - late)}


def icl_score(loss_by_position: np.ndarray, icl_early: int, icl_late: int, icl_half_width: int) -> np.ndarray:
    """Loss late in the context minus loss early in it, in nats; negative is better (O22).

    `loss_by_position` has the index of the predicted token, from 1 on, as its last axis.
    """

    def around(index: int) -> np.ndarray:
        return loss_by_position[..., index - 1 - icl_half_width : index + icl_half_width].mean(-1)

    return around(icl_late) - around(icl_early)


def _head_scores(lens: Lens, text: Tensor | None, prompts: PromptSettings) -> dict[str, np.ndarray]:
    """All scores (layer, head) from one pass over repeated random tokens and one over text."""
    bos = lens.bos
    tokens = repeated_random_tokens(lens.d_vocab, bos, prompts).to(lens.device)
    first = slice(0 if bos is None else 1, (bos is not None) + prompts.n_distinct)
    found = {name: torch.full((lens.n_layers, lens.n_heads), float("nan")) for name in HEAD_SCORES}

    def score_layer(layer: int, pattern: Tensor, values: Tensor) -> None:
        lift = lens.ov_lift(layer, values[:, first], tokens[:, first])
        sample = pattern[:, :, first, first]
        found["prefix_matching"][layer] = head_scores.prefix_matching(pattern, tokens).cpu()
        found["duplicate_token"][layer] = head_scores.duplicate_token(pattern, tokens).cpu()
        found["copying"][layer] = head_scores.copying(sample, lift).cpu()
        found["logit_lift"][layer] = head_scores.logit_lift(sample, lift).cpu()

    lens.visit_attention(tokens, score_layer)
    if text is not None:

        def score_layer_on_text(layer: int, pattern: Tensor, values: Tensor) -> None:
            found["previous_token"][layer] = head_scores.previous_token(pattern).cpu()

        lens.visit_attention(text, score_layer_on_text)
    return {name: score.numpy() for name, score in found.items()}


def _scan_checkpoint(
    lens: Lens, evaluation: Tensor, texts: Mapping[str, Sequence[int]], prompts: PromptSettings, icl: dict[str, int]
) -> xr.Dataset:
    values = _head_scores(lens, evaluation[:N_PREVIOUS_TOKEN_SEQUENCES], prompts)
    batch = max(1, MAX_BATCH_TOKENS // evaluation.shape[1])
    losses = torch.cat([lens.token_losses(part) for part in evaluation.split(batch)])
    values["loss_by_position"] = losses.mean(0).cpu().numpy()
    values["loss"] = losses.mean().cpu().numpy()
    values["icl_score"] = icl_score(values["loss_by_position"], **icl)
    values["pattern"] = _patterns(lens, texts)
    return labelled(values, {}, {})


def _patterns(lens: Lens, texts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Attention patterns (layer, head, text, query, key), quantised to 1/255; zero beyond a text's end."""
    longest = max(map(len, texts.values()))
    quantised = np.zeros((lens.n_layers, lens.n_heads, len(texts), longest, longest), dtype=np.uint8)
    for i, tokens in enumerate(texts.values()):
        seen: list[Tensor] = []
        lens.visit_attention(
            torch.tensor([list(tokens)]), lambda layer, pattern, values, seen=seen: seen.append(pattern[0])
        )
        levels = (torch.stack(seen).float() / PATTERN_SCALE).round().to(torch.uint8)
        quantised[:, :, i, : len(tokens), : len(tokens)] = levels.cpu().numpy()
    return quantised


def _spread(examples: np.ndarray, n: int) -> np.ndarray:
    """`n` examples taken evenly: neighbours come from the same document, and one document must not dominate."""
    return examples[:: max(1, len(examples) // n)][:n]


def _texts(
    run: Run, lens: Lens, prompts: PromptSettings, texts: Mapping[str, Sequence[int]] | None, evaluation: Tensor
) -> dict[str, list[int]]:
    if texts is None:
        two_repeats = dataclasses.replace(prompts, n_sequences=1, n_repeats=2)
        texts = {
            "repeated random tokens": repeated_random_tokens(lens.d_vocab, lens.bos, two_repeats)[0].tolist(),
            "held-out text": evaluation[0, : min(64, lens.n_ctx)].tolist(),
        }
    for name, tokens in texts.items():
        if not 0 < len(tokens) <= lens.n_ctx:
            raise HistoryError(f"text {name!r} has {len(tokens)} tokens; the model's context takes 1 to {lens.n_ctx}")
    return {name: [int(token) for token in tokens] for name, tokens in texts.items()}


def _template(run: Run, lens: Lens, texts: Mapping[str, Sequence[int]]) -> xr.Dataset:
    """The history to be, all of it missing but for what does not depend on a checkpoint."""
    n_steps, longest = len(run.steps), max(map(len, texts.values()))
    per_head = (n_steps, lens.n_layers, lens.n_heads)
    values: dict[str, np.ndarray] = {name: np.full(per_head, np.nan, np.float32) for name in HEAD_SCORES}
    values["loss"] = values["icl_score"] = np.full(n_steps, np.nan, np.float32)
    values["loss_by_position"] = np.full((n_steps, lens.n_ctx - 1), np.nan, np.float32)
    values["pattern"] = np.zeros((*per_head, len(texts), longest, longest), np.uint8)
    values["token"] = _token_strings(run, texts, longest)
    logged = [record for record in run.log() if "loss" in record]
    values["training_loss"] = np.array([record["loss"] for record in logged], np.float32)
    coords = {
        "step": np.array(run.steps),
        "tokens_seen": ("step", np.array([checkpoint.tokens_seen for checkpoint in run.checkpoints])),
        "layer": np.arange(lens.n_layers),
        "head": np.arange(lens.n_heads),
        "position": np.arange(1, lens.n_ctx),
        "text": np.array(list(texts)),
        "log_tokens_seen": ("log", np.array([record["tokens_seen"] for record in logged], dtype=np.int64)),
    }
    return labelled(values, coords, {})


def _token_strings(run: Run, texts: Mapping[str, Sequence[int]], longest: int) -> np.ndarray:
    """What each token stands for in text, (text, query); empty beyond a text's end."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(run.tokenizer_json())
    strings = [
        [tokenizer.decode([token], skip_special_tokens=False) for token in tokens] + [""] * (longest - len(tokens))
        for tokens in texts.values()
    ]
    return np.array(strings)


def _about(prompts: PromptSettings) -> dict[str, object]:
    settings = {f"prompts_{key}": value for key, value in dataclasses.asdict(prompts).items()}
    return {**settings, "transformer_lens": importlib.metadata.version("transformer-lens")}


def _progress_bar(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not show,
    )
