"""Scanning a run: scores, losses and patterns, checkpoint by checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from .errors import HistoryError
from .head_scan import DEFAULT_SCORES, ScoreSettings, null_scores, score_heads
from .history import PATTERN_SCALE, labelled
from .lens import Lens, build_model, load_weights
from .progress import progress_bar
from .prompts import PromptSettings, repeated_random_tokens
from .runs import Run
from .store import GrowingStore

N_PREVIOUS_TOKEN_SEQUENCES = 8
MAX_BATCH_TOKENS = 2048  # small enough that attention patterns stay in the cache of a CPU


def scan_run(
    run: Run,
    store: str | Path | None = None,
    texts: Mapping[str, Sequence[int]] | None = None,
    prompts: PromptSettings = PromptSettings(),
    n_evaluation: int = 128,
    scores: Sequence[str] = DEFAULT_SCORES,
    n_nulls: int = 1,
    progress: bool = True,
) -> xr.Dataset:
    """Scan the checkpoints of a run: a history (step, layer, head, …), see `inductionkit.history`.

    Per checkpoint: the head scores, the loss by position on the same `n_evaluation` held-out examples
    (taken evenly from the held-out text), the in-context-learning score, and the attention patterns on
    `texts` (token ids by name; default: repeated random tokens and the beginning of a held-out example).

    `scores` are named as in `scan_heads`. Their null distributions are those of `n_nulls` models with the
    matrices of the last checkpoint drawn anew.

    With a `store` (a Zarr folder), results are kept as they come and a scan that was interrupted goes
    on where it was. Raises HistoryError if the store holds a scan with other settings, RunError or
    ModelError if a checkpoint cannot be read or does not fit.
    """
    standing = build_model(run.model)
    lens = Lens(standing)
    evaluation = torch.from_numpy(_spread(run.held_out(), n_evaluation).astype(np.int64))
    texts = _texts(run, lens, prompts, texts, evaluation)
    icl = icl_settings(lens.n_ctx)
    asked = ScoreSettings(scores, prompts=prompts)
    settings = {
        **asked.about(),
        "scores": " ".join(asked.names),
        "n_nulls": n_nulls,
        **icl,
        "model": run.name,
        "fingerprints": json.dumps(dict(run.fingerprints), sort_keys=True),
        "n_evaluation": len(evaluation),
        "texts": json.dumps({name: list(tokens) for name, tokens in texts.items()}),
    }
    template = _template(run, lens, texts, asked.names)
    if store is None or not Path(store).exists():
        load_weights(standing, run.checkpoints[-1].read())
        template = template.merge(_nulls(lens, asked, n_nulls, evaluation))
    growing = None if store is None else GrowingStore(store, template, settings)
    missing = run.steps if growing is None else growing.missing_steps()
    results = {}
    with progress_bar(progress) as bar:
        task = bar.add_task(
            f"scanning {run.name}", total=len(run.steps), completed=len(run.steps) - len(missing), at=""
        )
        for step in missing:
            checkpoint = run.checkpoint(step)
            bar.update(task, at=f"step {step:,}")
            load_weights(standing, checkpoint.read())
            result = _scan_checkpoint(lens, asked, evaluation, texts, icl)
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


def _scan_checkpoint(
    lens: Lens, asked: ScoreSettings, evaluation: Tensor, texts: Mapping[str, Sequence[int]], icl: dict[str, int]
) -> xr.Dataset:
    values, _ = score_heads(lens, asked, evaluation[:N_PREVIOUS_TOKEN_SEQUENCES])
    batch = max(1, MAX_BATCH_TOKENS // evaluation.shape[1])
    losses = torch.cat([lens.token_losses(part) for part in evaluation.split(batch)])
    values["loss_by_position"] = losses.mean(0).cpu().numpy()
    values["loss"] = losses.mean().cpu().numpy()
    values["icl_score"] = icl_score(values["loss_by_position"], **icl)
    values["pattern"] = _patterns(lens, texts)
    return labelled(values, {}, {})


def _nulls(lens: Lens, asked: ScoreSettings, n_nulls: int, evaluation: Tensor) -> xr.Dataset:
    found = null_scores(lens, asked, n_nulls, evaluation[:N_PREVIOUS_TOKEN_SEQUENCES])
    return labelled(found, {"null": np.arange(n_nulls)} if n_nulls else {}, {})


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


def _template(run: Run, lens: Lens, texts: Mapping[str, Sequence[int]], names: Sequence[str]) -> xr.Dataset:
    """The history to be, all of it missing but for what does not depend on a checkpoint."""
    n_steps, longest = len(run.steps), max(map(len, texts.values()))
    per_head = (n_steps, lens.n_layers, lens.n_heads)
    values: dict[str, np.ndarray] = {name: np.full(per_head, np.nan, np.float32) for name in names}
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
