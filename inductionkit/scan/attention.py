"""What can be looked at: attention patterns on a few texts, and what attending to each of their tokens writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from ..errors import ModelError
from ..history import PATTERN_SCALE, VARIABLES, labelled
from ..lens import Lens
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..system.one_sequence import one_sequence
from .measurement import Advance, Measurement, silently

N_TEXT_TOKENS = 64  # of the held-out text that is shown by default


@dataclass(frozen=True)
class Attention(Measurement):
    """Patterns, OV lifts and losses on `texts`, token ids by name."""

    texts: Mapping[str, list[int]]

    def settings(self) -> dict[str, Any]:
        return {"texts": json.dumps(dict(self.texts))}

    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        values = self._patterns_and_lifts(lens) | {"text_loss": self._losses(lens)}
        coords = {"layer": np.arange(lens.n_layers), "head": np.arange(lens.n_heads), "text": list(self.texts)}
        return labelled(values, VARIABLES, coords)

    def constants(self, tokenizer_json: str | None) -> xr.Dataset:
        """What each token stands for in text, its number where no tokenizer is known; empty beyond a text's end."""
        from tokenizers import Tokenizer

        tokenizer = None if tokenizer_json is None else Tokenizer.from_str(tokenizer_json)

        def string(token: int) -> str:
            return str(token) if tokenizer is None else tokenizer.decode([token], skip_special_tokens=False)

        rows = [[*map(string, tokens), *[""] * (self._longest - len(tokens))] for tokens in self.texts.values()]
        return labelled({"token": np.array(rows)}, VARIABLES, {"text": list(self.texts)})

    @property
    def _longest(self) -> int:
        return max(map(len, self.texts.values()))

    @torch.no_grad()
    def _patterns_and_lifts(self, lens: Lens) -> dict[str, np.ndarray]:
        """Patterns quantised to 1/255. Beyond a text's end they are zero and lifts NaN; without a direct path too."""
        circuits, longest = lens.circuits(), self._longest
        shape = (lens.n_layers, lens.n_heads, len(self.texts), longest)
        patterns, lifts = np.zeros((*shape, longest), np.uint8), np.full(shape, np.nan, np.float32)
        for i, text in enumerate(self.texts.values()):
            tokens, end = torch.tensor([text]), len(text)
            all_values: dict[int, Tensor] = {}

            def keep(
                layer: int,
                pattern: Tensor,
                values: Tensor | None,
                i: int = i,
                end: int = end,
                all_values: dict[int, Tensor] = all_values,
            ) -> None:
                levels = (pattern[0].float() / PATTERN_SCALE).round().to(torch.uint8)
                patterns[layer, :, i, :end, :end] = levels.cpu().numpy()
                if values is not None:
                    all_values[layer] = values.clone()

            is_read = lens.has_direct_path and lens.logit_form is not None
            ending = lens.visit_attention(tokens, keep, to_the_end=is_read)
            if is_read and all_values:
                readout = lens.readout(ending, tokens.to(lens.device), circuits)
                seen = torch.ones(end, end, device=lens.device).tril()  # query, key: those that come after see it
                for layer, values in all_values.items():
                    lift = readout.own_lift(circuits.written(layer, values))[0]
                    lifts[layer, :, i, :end] = ((lift * seen).sum(1) / seen.sum(0)).cpu().numpy()
        return {"pattern": patterns, "ov_lift": lifts}

    def _losses(self, lens: Lens) -> np.ndarray:
        """Loss of each token (text, query); NaN at the first, which nothing predicts, and beyond a text's end."""
        losses = np.full((len(self.texts), self._longest), np.nan, np.float32)
        for row, tokens in zip(losses, self.texts.values()):
            row[1 : len(tokens)] = lens.token_losses(torch.tensor([tokens]))[0].cpu().numpy()
        return losses


def attention(
    lens: Lens,
    texts: Mapping[str, Sequence[int]] | None,
    prompts: PromptSettings,
    held_out: Int[np.ndarray, "sequence position"],
) -> Attention:
    """Patterns on `texts`; by default repeated random tokens and the beginning of the held-out text.

    Raises ModelError if there is no text, or one does not fit the model.
    """
    if texts is None:
        bos, two_repeats = prompts.bos_for(lens.bos), replace(prompts, n_sequences=1, n_repeats=2)
        texts = {
            "repeated random tokens": repeated_random_tokens(lens.d_vocab, bos, two_repeats, held_out)[0].tolist(),
            "held-out text": held_out[0, : min(N_TEXT_TOKENS, lens.n_ctx)].tolist(),
        }
    if not isinstance(texts, Mapping) or not all(isinstance(name, str) for name in texts):
        raise ModelError(f"texts={texts!r} must map names to token ids")
    if not texts:
        raise ModelError("texts={} names no text; leave it out for the default texts")
    return Attention({name: _token_ids(name, tokens, lens) for name, tokens in texts.items()})


def _token_ids(name: str, tokens: Any, lens: Lens) -> list[int]:
    ids = one_sequence(tokens, f"text {name!r}")
    if not 0 < len(ids) <= lens.n_ctx:
        raise ModelError(f"text {name!r} has {len(ids)} tokens; the model's context takes 1 to {lens.n_ctx}")
    if min(ids) < 0 or max(ids) >= lens.d_vocab:
        raise ModelError(
            f"text {name!r} has token ids {min(ids)} to {max(ids)}; the vocabulary has 0 to {lens.d_vocab - 1}"
        )
    return ids
