"""The measurement of head scores: everything that passes and weights show of a model's heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from ..history import labelled
from ..lens import Lens, transformer_lens_version
from ..scores import from_weights, on_gradients, on_losses, on_prompts  # noqa: F401  they register the scores
from ..scores.on_prompts import OnRepeatedTokens, OnSample, Share, attention_to, earlier_copies, followers
from ..scores.score import SCORES, names_from
from .gradients import score_gradients
from .loss_effects import score_loss_effects
from .measurement import Advance, Measurement, fingerprint, silently
from .weights import score_weights

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
        if "logit_lift" in self.names and lens.has_direct_path and lens.logit_form is None:
            reasons["logit_lift"] = "the model changes its logits in a way that is not known"
        if self.prompts is not None:
            if set(self.names) & set(names_from("repeated tokens", "sample")):
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
        possible = [SCORES[n] for n in self.names if lens.has_direct_path or "direct path" not in SCORES[n].needs]
        wanted = [score for score in possible if score.source == "repeated tokens"]
        on_sample = [score for score in possible if score.source == "sample" and lens.logit_form is not None]
        is_linear = bool(on_sample) and lens.logit_form is not None and lens.logit_form.cap is None
        shares: dict[tuple[str, int], Share] = {}

        def score_batch(tokens: Tensor) -> None:
            wants_lift = bool(on_sample) or any("direct path" in score.needs for score in wanted)
            targets = circuits.unembedding(tokens[:, self.sample]) if wants_lift else None
            to_stripes = attention_to(torch.stack([followers(tokens), earlier_copies(tokens)]))
            kept: dict[int, tuple[Tensor, Tensor]] = {}  # of the sample, by layer, until its readout is known

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
                if on_sample and values is not None:
                    # What is needed of each source: its lift, or where logits are capped, all that it writes.
                    own = seen.lift.diagonal(dim1=-2, dim2=-1) if is_linear else values[:, self.sample]
                    kept[layer] = seen.sample_pattern.clone(), own.clone()
                advance(1)

            ending = lens.visit_attention(tokens, score_layer, self.heads, to_the_end=bool(on_sample))
            if kept:
                readout = lens.readout(ending.at(self.sample), tokens[:, self.sample], circuits)
            for layer, (pattern, own) in kept.items():
                written = None if is_linear else circuits.written(layer, own)[:, self.heads[layer]]
                lift = readout.divided(own) if written is None else readout.own_lift(written)
                for score in on_sample:
                    _add(shares, (score.name, layer), score.of(OnSample(pattern, lift)))

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


def _add(shares: dict[tuple[str, int], Share], key: tuple[str, int], share: Share) -> None:
    shares[key] = shares[key] + share if key in shares else share
