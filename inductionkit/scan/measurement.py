"""What is measured on a model at one moment of its training, fixed beforehand and the same at every moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HistoryError
from ..history import PATTERN_SCALE, labelled
from ..lens import Lens
from ..scores.icl import icl_score, icl_settings
from ..scores.prompts import repeated_random_tokens
from .head_scan import ScoreSettings, null_scores, score_heads

MEANING = 3  # raised whenever a release measures other things, or the same in another way
N_PREVIOUS_TOKEN_SEQUENCES = 8
N_SAMPLES_PER_EXAMPLE = 8
MAX_BATCH_TOKENS = 2048  # small enough that attention patterns stay in the cache of a CPU


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Head scores, losses on `evaluation`, patterns and losses on `texts`. Can be sent to a worker."""

    asked: ScoreSettings
    evaluation: Int[np.ndarray, "example token"]
    texts: Mapping[str, list[int]]

    @cached_property
    def icl(self) -> dict[str, int]:
        return icl_settings(self.evaluation.shape[1])

    def about(self) -> dict[str, object]:
        """Attributes of the history: whatever must be the same for two results to stand side by side."""
        return {
            "meaning": MEANING,
            **self.asked.about(),
            "scores": " ".join(self.asked.names),
            **self.icl,
            "n_evaluation": len(self.evaluation),
            "texts": json.dumps({name: list(tokens) for name, tokens in self.texts.items()}),
        }

    def measure(self, lens: Lens) -> xr.Dataset:
        """Measure a model as it is now: a history without `step`."""
        values, _ = score_heads(lens, self.asked, self._text)
        evaluation = torch.from_numpy(self.evaluation)
        batch = max(1, MAX_BATCH_TOKENS // evaluation.shape[1])
        losses = torch.cat([lens.token_losses(part) for part in evaluation.split(batch)])
        values |= self._summed_up(losses.cpu().numpy())
        values |= _attention(lens, self.texts)
        values["text_loss"] = _text_losses(lens, self.texts)
        return labelled(values, {}, {})

    def nulls(self, lens: Lens, n_nulls: int) -> xr.Dataset:
        """The null distributions of the scores, from the model's matrices drawn anew."""
        found = null_scores(lens, self.asked, n_nulls, self._text)
        return labelled(found, {"null": np.arange(n_nulls)}, {})

    def template(
        self, n_steps: int, n_logged: int, shape: Mapping[str, int], tokenizer_json: str | None
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Values and coordinates of a history to be, all missing but for what depends on no checkpoint."""
        longest = max(map(len, self.texts.values()))
        n_layers, n_heads = shape["n_layers"], shape["n_heads"]
        n_positions = self.evaluation.shape[1] - 1
        sizes: dict[str, tuple[int, ...]] = dict.fromkeys(self.asked.names, (n_layers, n_heads))
        sizes |= {
            "loss": (),
            "icl_score": (),
            "loss_by_position": (n_positions,),
            "example_loss": (len(self.evaluation),),
            "example_icl_score": (len(self.evaluation),),
            "token_loss": (len(self._samples[0]),),
            "text_loss": (len(self.texts), longest),
            "ov_lift": (n_layers, n_heads, len(self.texts), longest),
        }
        values: dict[str, np.ndarray] = {
            name: np.full((n_steps, *size), np.nan, np.float32) for name, size in sizes.items()
        }
        values["pattern"] = np.zeros((n_steps, n_layers, n_heads, len(self.texts), longest, longest), np.uint8)
        values["token"] = _token_strings(tokenizer_json, self.texts, longest)
        values["training_loss"] = np.full(n_logged, np.nan, np.float32)
        coords = {
            "step": np.zeros(n_steps, np.int64),
            "tokens_seen": ("step", np.zeros(n_steps)),
            "layer": np.arange(n_layers),
            "head": np.arange(n_heads),
            "position": np.arange(1, n_positions + 1),
            "sample_example": ("sample", self._samples[0]),
            "sample_position": ("sample", self._samples[1] + 1),
            "text": np.array(list(self.texts)),
            "log_tokens_seen": ("log", np.zeros(n_logged)),
        }
        return values, coords

    def _summed_up(self, losses: Float[np.ndarray, "example position"]) -> dict[str, np.ndarray]:
        by_position = losses.mean(0)
        return {
            "loss_by_position": by_position,
            "loss": losses.mean(),
            "icl_score": icl_score(by_position, **self.icl),
            "example_loss": losses.mean(1),
            "example_icl_score": icl_score(losses, **self.icl),
            "token_loss": losses[self._samples],
        }

    @cached_property
    def _samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Example and position (from 0) of the single tokens whose losses are kept."""
        n_examples, n_positions = len(self.evaluation), self.evaluation.shape[1] - 1
        rng = np.random.default_rng(0)
        n_samples = min(N_SAMPLES_PER_EXAMPLE, n_positions)
        positions = [np.sort(rng.choice(n_positions, n_samples, replace=False)) for _ in range(n_examples)]
        return np.repeat(np.arange(n_examples), n_samples), np.concatenate(positions)

    @property
    def _text(self) -> Tensor:
        return torch.from_numpy(self.evaluation[:N_PREVIOUS_TOKEN_SEQUENCES])


def measurement(
    lens: Lens,
    asked: ScoreSettings,
    held_out: Int[np.ndarray, "example token"],
    n_evaluation: int,
    texts: Mapping[str, Sequence[int]] | None,
) -> Measurement:
    """`n_evaluation` examples of the held-out text, and by default two texts. Raises HistoryError if one does not fit.

    Examples are taken evenly: neighbours come from the same document, and one document must not dominate.
    """
    evaluation = held_out[:: max(1, len(held_out) // n_evaluation)][:n_evaluation].astype(np.int64)
    if texts is None:
        two_repeats = dataclasses.replace(asked.prompts, n_sequences=1, n_repeats=2)
        texts = {
            "repeated random tokens": repeated_random_tokens(lens.d_vocab, lens.bos, two_repeats)[0].tolist(),
            "held-out text": evaluation[0, : min(64, lens.n_ctx)].tolist(),
        }
    for name, tokens in texts.items():
        if not 0 < len(tokens) <= lens.n_ctx:
            raise HistoryError(f"text {name!r} has {len(tokens)} tokens; the model's context takes 1 to {lens.n_ctx}")
    plain = {name: [int(token) for token in tokens] for name, tokens in texts.items()}
    return Measurement(asked, evaluation, plain)


def _attention(lens: Lens, texts: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Patterns (layer, head, text, query, key), quantised to 1/255, and what attending to each key lifts its logit by.

    Beyond a text's end patterns are zero and lifts NaN; lifts are NaN too where heads have no direct path.
    """
    circuits, longest = lens.circuits(), max(map(len, texts.values()))
    shape = (lens.n_layers, lens.n_heads, len(texts), longest)
    patterns, lifts = np.zeros((*shape, longest), np.uint8), np.full(shape, np.nan, np.float32)
    for i, text in enumerate(texts.values()):
        tokens, end = torch.tensor([list(text)]), len(text)
        targets = circuits.unembedding(tokens) if lens.has_direct_path else None

        def keep(
            layer: int,
            pattern: Tensor,
            values: Tensor | None,
            i: int = i,
            end: int = end,
            targets: Tensor | None = targets,
        ) -> None:
            levels = (pattern[0].float() / PATTERN_SCALE).round().to(torch.uint8)
            patterns[layer, :, i, :end, :end] = levels.cpu().numpy()
            if targets is not None and values is not None:
                own = circuits.ov_lift(layer, values, targets)[0].diagonal(dim1=-2, dim2=-1)
                lifts[layer, :, i, :end] = own.cpu().numpy()

        lens.visit_attention(tokens, keep)
    return {"pattern": patterns, "ov_lift": lifts}


def _text_losses(lens: Lens, texts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Loss of each token (text, query); NaN at the first, which nothing predicts, and beyond a text's end."""
    losses = np.full((len(texts), max(map(len, texts.values()))), np.nan, np.float32)
    for row, tokens in zip(losses, texts.values()):
        row[1 : len(tokens)] = lens.token_losses(torch.tensor([list(tokens)]))[0].cpu().numpy()
    return losses


def _token_strings(tokenizer_json: str | None, texts: Mapping[str, Sequence[int]], longest: int) -> np.ndarray:
    """What each token stands for in text, its number where no tokenizer is known; empty beyond a text's end."""
    from tokenizers import Tokenizer

    tokenizer = None if tokenizer_json is None else Tokenizer.from_str(tokenizer_json)

    def string(token: int) -> str:
        return str(token) if tokenizer is None else tokenizer.decode([token], skip_special_tokens=False)

    return np.array([[*map(string, tokens), *[""] * (longest - len(tokens))] for tokens in texts.values()])
