"""The training loop: deterministic by seed, resumable after a kill at any moment."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import math
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from ..errors import RecipeError, RunError
from ..system.atomic import write_atomically
from ..system.devices import usable_device
from ..system.json_values import json_values
from ..system.process_state import undisturbed
from ..system.spread import evenly
from ..system.whole_numbers import whole_number
from . import corpora
from .model import Transformer, next_token_loss
from .muon import Muon
from .recipe import CorpusSpec, OptimiserSpec, Recipe
from .run_folder import RunFolder

RESUME_FILE = "resume.pt"
N_EVALUATION_ROWS = 128
N_STEPS_PER_LOG = 10
N_STEPS_PER_RESUME = 500


OnStep = Callable[[Transformer, int, int, float], object]


@undisturbed()
def train(
    recipe: Recipe,
    out: str | Path,
    progress: bool = True,
    n_threads: int = 1,
    on_step: OnStep | None = None,
    device: str = "cpu",
) -> RunFolder:
    """Train the model of `recipe` into the folder `out`; go on where an earlier call was stopped.

    On the CPU a run continues bit for bit as if it had never stopped, given the same machine, versions
    and `n_threads`. `on_step(model, step, tokens_seen, loss)` is called after each step: a `TrainingWatch`
    fits. `progress` shows a bar, `device` is where torch computes, as "cuda". Raises RunError if `out` holds a run of
    another recipe or another corpus, InductionKitError if torch cannot use the device.
    """
    n_threads = whole_number(n_threads, "n_threads", 1, RecipeError)
    n_threads_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return _train(recipe, Path(out), progress, on_step, usable_device(device))
    finally:
        torch.set_num_threads(n_threads_before)


def begin(recipe: Recipe, out: str | Path) -> RunFolder:
    """The run of `recipe` in the folder `out` that `train` goes on with, begun if there is none.

    A run that has begun has its tokenizer, its held-out text and the checkpoint of step 0.
    """
    folder, stream = _open_or_create(recipe, Path(out))
    if not folder.manifest["checkpoints"]:
        evaluation = _evaluation_rows(stream.held_out, recipe.model.n_ctx + 1)
        _checkpoint(folder, recipe, Transformer(recipe.model, recipe.seed), evaluation, 0)
    return folder


def _train(recipe: Recipe, out: Path, progress: bool, on_step: OnStep | None, device: torch.device) -> RunFolder:
    folder, stream = _open_or_create(recipe, out)
    model = Transformer(recipe.model, recipe.seed).to(device)
    optimisers = _optimisers(model, recipe.optimiser)
    step, losses = _resume(folder, model, optimisers)
    evaluation = _evaluation_rows(stream.held_out, recipe.model.n_ctx + 1).to(device)
    to_save = set(recipe.checkpoints.steps(recipe.n_steps, recipe.tokens_per_step))

    if step == 0 and not folder.manifest["checkpoints"]:
        _checkpoint(folder, recipe, model, evaluation, 0)
        _save_resume(folder, model, optimisers, 0, [])
    with _progress_bar(progress) as bar:
        task = bar.add_task(recipe.name, total=recipe.n_steps, completed=step, loss=float("nan"), rate=0.0)
        since, began = step, time.perf_counter()
        for rows in _batches(stream.train, recipe, step):
            step += 1
            losses.append(_train_step(model, optimisers, rows.to(device), _lr_factor(recipe, step)))
            if on_step is not None:
                on_step(model, step, step * recipe.tokens_per_step, losses[-1])
            if step % N_STEPS_PER_LOG == 0 or step == recipe.n_steps:
                rate = (step - since) * recipe.tokens_per_step / (time.perf_counter() - began)
                loss = float(np.mean(losses))
                folder.append_log({"step": step, "tokens_seen": step * recipe.tokens_per_step, "loss": loss})
                bar.update(task, completed=step, loss=loss, rate=rate)
                losses, since, began = [], step, time.perf_counter()
            if step in to_save:
                _checkpoint(folder, recipe, model, evaluation, step)
            if step in to_save or step % N_STEPS_PER_RESUME == 0:
                _save_resume(folder, model, optimisers, step, losses)
    folder.manifest["complete"] = True
    folder.write_manifest()
    (folder.path / RESUME_FILE).unlink(missing_ok=True)
    return folder


def load_documents(spec: CorpusSpec) -> list[str]:
    """The documents that a recipe's corpus names."""
    if spec.source == "python":
        return corpora.python_source(spec.packages)
    if spec.source == "packages":
        return corpora.installed_files(spec.packages, spec.patterns)
    if spec.source == "folder":
        return corpora.text_folder(spec.path)
    if spec.source == "hugging_face":
        return corpora.hugging_face(spec.path)
    raise RecipeError(f"corpus.source={spec.source!r} must be python, packages, folder or hugging_face")


def _open_or_create(recipe: Recipe, out: Path) -> tuple[RunFolder, corpora.TokenStream]:
    """The run's folder and its text. The corpus is tokenised anew and must match what the run began with."""
    documents = load_documents(recipe.corpus)
    begun = (out / "manifest.json").exists()
    if begun:
        folder = RunFolder.open(out)
        if folder.manifest["recipe"] != json_values(recipe.as_dict()):
            raise RunError(f"{out} holds a run of another recipe; choose another folder or remove it")
        tokenizer = Tokenizer.from_str(folder.tokenizer_json())
    else:
        tokenizer = corpora.train_tokenizer(documents, recipe.model.d_vocab)
    stream = corpora.tokenize(documents, tokenizer, recipe.corpus.n_held_out, recipe.corpus.seed)
    fingerprints = {
        "corpus": stream.fingerprint,
        "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    }
    if not begun:
        manifest = {
            "recipe": json_values(recipe.as_dict()),
            "model": dataclasses.asdict(recipe.model),
            "n_training_tokens": len(stream.train),
            "fingerprints": fingerprints,
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in ("torch", "tokenizers", "numpy")},
            },
        }
        held_out = corpora.rows(stream.held_out, recipe.model.n_ctx)
        return RunFolder.create(out, manifest, tokenizer.to_str(), held_out), stream
    if folder.manifest["fingerprints"] != fingerprints:
        raise RunError(
            f"the corpus is not the one that the run in {out} began with (its fingerprint differs, for instance "
            f"because Python was upgraded); train into a new folder"
        )
    return folder, stream


def _optimisers(model: Transformer, spec: OptimiserSpec) -> list[torch.optim.Optimizer]:
    matrices = {
        name: parameter
        for name, parameter in model.named_parameters()
        if spec.muon_lr and ".attn." in name and parameter.ndim == 2
    }
    others = [parameter for name, parameter in model.named_parameters() if name not in matrices]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, spec.adamw_lr, spec.adamw_betas, weight_decay=spec.weight_decay, fused=True)
    ]
    if matrices:
        optimisers.append(Muon(matrices.values(), spec.muon_lr, spec.muon_momentum, spec.weight_decay))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
            group["max_gradient_norm"] = spec.max_gradient_norm
    return optimisers


def _lr_factor(recipe: Recipe, step: int) -> float:
    """Learning rate of the `step`-th step as a share of its peak."""
    spec = recipe.optimiser
    left = min(1.0, (recipe.n_steps + 1 - step) / max(1.0, spec.decay_fraction * recipe.n_steps))
    decay = left if spec.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
    return min(step / max(1, spec.warmup_steps), decay)


def _train_step(
    model: Transformer, optimisers: list[torch.optim.Optimizer], rows: torch.Tensor, lr_factor: float
) -> float:
    loss = next_token_loss(model, rows).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), optimisers[0].param_groups[0]["max_gradient_norm"])
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * lr_factor
        optimiser.step()
        optimiser.zero_grad()
    return loss.item()


def _batches(stream: np.ndarray, recipe: Recipe, first_step: int) -> Iterator[torch.Tensor]:
    """Batches (example, token) of the steps after `first_step`; each epoch cuts and shuffles the stream anew."""
    n_tokens = recipe.model.n_ctx + 1
    step = epoch = 0
    while True:
        rng = np.random.default_rng((recipe.seed, epoch))
        rows = corpora.rows(stream, n_tokens, offset=int(rng.integers(recipe.model.n_ctx)))
        if len(rows) < recipe.batch_size:
            raise RecipeError(f"the corpus gives {len(rows)} rows of {n_tokens} tokens, fewer than one batch")
        order = rng.permutation(len(rows))
        for start in range(0, len(rows) - recipe.batch_size + 1, recipe.batch_size):
            if step == recipe.n_steps:
                return
            if step >= first_step:
                yield _as_tokens(rows[order[start : start + recipe.batch_size]])
            step += 1
        epoch += 1


@torch.no_grad()
def _evaluate(model: Transformer, rows: torch.Tensor) -> dict[str, float]:
    """Held-out loss, and the mean loss over the last and an early tenth of the context (nats)."""
    by_position = torch.cat([next_token_loss(model, part) for part in rows.split(16)]).mean(0)
    n_ctx = len(by_position)
    return {
        "held_out_loss": by_position.mean().item(),
        "held_out_late": by_position[-n_ctx // 10 :].mean().item(),
        "held_out_early": by_position[n_ctx // 10 : n_ctx // 5].mean().item(),
    }


def _checkpoint(folder: RunFolder, recipe: Recipe, model: Transformer, rows: torch.Tensor, step: int) -> None:
    """Log an evaluation, save the weights. What resumes is saved after: a kill between repeats this."""
    tokens_seen = step * recipe.tokens_per_step
    folder.append_log({"step": step, "tokens_seen": tokens_seen, **_evaluate(model, rows)})
    folder.add_checkpoint(
        step, tokens_seen, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    )


def _save_resume(
    folder: RunFolder, model: Transformer, optimisers: list[torch.optim.Optimizer], step: int, losses: list[float]
) -> None:
    """Save all that training goes on from; `losses` are those not logged yet."""
    state = {
        "step": step,
        "losses": losses,
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder.path / RESUME_FILE, buffer.getvalue())


def _resume(folder: RunFolder, model: Transformer, optimisers: list[torch.optim.Optimizer]) -> tuple[int, list[float]]:
    """Bring back the state that was saved last, if there is one: its step and the losses not logged yet."""
    path = folder.path / RESUME_FILE
    checkpoints = folder.manifest["checkpoints"]
    state: dict[str, Any] = {"step": -1, "losses": []}
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    elif folder.manifest.get("complete"):
        return checkpoints[-1]["step"], []
    folder.manifest["checkpoints"] = [entry for entry in checkpoints if entry["step"] <= state["step"]]
    folder.rewind_log(state["step"])
    return max(0, state["step"]), state["losses"]


def _evaluation_rows(held_out: np.ndarray, n_tokens: int) -> torch.Tensor:
    """Rows spread evenly over the held-out text, so that no single document dominates."""
    rows = corpora.rows(held_out, n_tokens)
    return _as_tokens(rows[evenly(len(rows), N_EVALUATION_ROWS)])


def _as_tokens(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.int64))


def _progress_bar(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "step {task.completed}/{task.total}  loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} tokens/s"
        ),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )
