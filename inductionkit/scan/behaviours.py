"""Behaviours: the loss on named sets of prompts, for one model or along a run.

Most capabilities are too small to show on the loss curve. A behaviour shows one of them: prompts that
ask for it, and which of their tokens a model can get right only if it has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int

from ..errors import ModelError
from ..lens import Lens, transformer_lens_version
from ..runs import Run
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..system.process_state import undisturbed
from .engine import OnError, scan_source
from .measurement import Advance, Measurement, silently

Rows = Sequence[Sequence[int] | np.ndarray | torch.Tensor] | np.ndarray | torch.Tensor
MAX_BATCH_TOKENS = 2048  # the logits over a large vocabulary, not the activations, fill the memory
LOSS = {"units": "nats/token", "long_name": "mean loss on the counted tokens of a behaviour"}


@dataclass(frozen=True, init=False)
class Behaviour:
    """A named set of prompts, and which of their tokens count.

    `name` stands for it in results. `tokens` are sequences of token ids, of any lengths; `counted` says for each
    token whether its loss counts (default: every token but the first of each sequence, which has nothing before it).
    Any sequences will do, arrays and tensors among them; they are kept as tuples. Raises ModelError if a sequence has
    fewer than two tokens, ids are not whole numbers from 0 on, `counted` does not fit `tokens`, counts a first token
    or counts none at all.

    >>> Behaviour("count", [[5, 6, 7], [8, 9]]).counted
    ((False, True, True), (False, True))
    """

    name: str
    tokens: tuple[tuple[int, ...], ...]
    counted: tuple[tuple[bool, ...], ...]

    def __init__(self, name: str, tokens: Rows, counted: Rows | None = None):
        prompts = _rows(tokens, name, "tokens")
        if not prompts:
            raise ModelError(f"behaviour {name!r} has no prompts; give at least one sequence of tokens")
        for i, row in enumerate(prompts):
            if len(row) < 2:
                raise ModelError(f"prompt {i} of behaviour {name!r} has {len(row)} tokens; a loss needs two")
            for token in row:
                if type(token) is not int or token < 0:
                    raise ModelError(f"prompt {i} of behaviour {name!r} holds {token!r}; token ids are 0, 1, 2, …")
        every = tuple((False, *[True] * (len(row) - 1)) for row in prompts)
        marks = every if counted is None else _rows(counted, name, "counted")
        if list(map(len, marks)) != list(map(len, prompts)):
            raise ModelError(
                f"`counted` of behaviour {name!r} has {sum(map(len, marks))} values for {len(marks)} prompts, its "
                f"tokens are {sum(map(len, prompts))} in {len(prompts)}; give one value for each token of each prompt"
            )
        if any(mark not in (0, 1) for row in marks for mark in row):
            raise ModelError(f"`counted` of behaviour {name!r} takes True or False for each token, nothing else")
        if any(row[0] for row in marks):
            raise ModelError(f"behaviour {name!r} counts a first token; nothing predicts it, so leave it False")
        if not any(map(any, marks)):
            raise ModelError(f"behaviour {name!r} counts no token; mark at least one")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "tokens", prompts)
        object.__setattr__(self, "counted", tuple(tuple(map(bool, row)) for row in marks))

    @property
    def n_counted(self) -> int:
        """How many tokens count, over all prompts."""
        return sum(sum(row) for row in self.counted)


@undisturbed()
def repeated_tokens_behaviour(
    d_vocab: int,
    bos: int | None,
    prompts: PromptSettings = PromptSettings(),
    held_out: Int[np.ndarray, "sequence position"] | None = None,
) -> Behaviour:
    """Random tokens repeated: the loss on what only the earlier repeats predict.

    Counts the tokens of the second and later repeats but for the very first of them: the token before
    it, the last of the first repeat, has not been followed by it yet. A model that knows neither which
    tokens came nor their order gets down to about `log(d_vocab)`, one that knows which ones came to about
    `log(n_distinct)` (3.2 nats for 25); less than that takes their order, that is induction. A low loss
    does not show which heads do it, nor that they work on text.

    Tokens are drawn as `PromptSettings` says, from those of `held_out` (sequence, position) where it has enough. Raises
    ModelError if the vocabulary is too small for the settings.

    >>> behaviour = repeated_tokens_behaviour(1000, bos=0, prompts=PromptSettings(1, n_distinct=3, n_repeats=2))
    >>> behaviour.counted
    ((False, False, False, False, False, True, True),)
    """
    tokens = repeated_random_tokens(d_vocab, bos, prompts, held_out)
    first = int(bos is not None) + prompts.n_distinct + 1
    counted = torch.arange(tokens.shape[1]).expand(tokens.shape) >= first
    return Behaviour("repeated random tokens", tokens, counted)


@undisturbed()
def token_losses(model: Any, behaviour: Behaviour) -> xr.DataArray:
    """Loss of every token of a behaviour, counted or not: (example, position), in nats.

    `position` is the index of the predicted token, from 1 on; NaN beyond a sequence's end. Raises
    ModelError if the model cannot be run or the tokens do not fit its vocabulary or context.
    """
    lens = model if isinstance(model, Lens) else Lens(model)
    padded = _padded(behaviour, lens)
    longest = padded.shape[1]
    parts = [lens.token_losses(part).cpu() for part in padded.split(max(1, MAX_BATCH_TOKENS // longest))]
    position = np.arange(1, longest)
    within = position < np.array([len(row) for row in behaviour.tokens])[:, None]
    return xr.DataArray(
        np.where(within, torch.cat(parts).numpy(), np.nan),
        {"position": position},
        ("example", "position"),
        name="token_loss",
        attrs={"units": "nats", "long_name": f"loss by token, {behaviour.name}"},
    )


@dataclass(frozen=True)
class BehaviourLosses(Measurement):
    """The mean loss on the counted tokens of each behaviour."""

    behaviours: tuple[Behaviour, ...]

    def settings(self) -> dict[str, Any]:
        asked = repr([(each.name, each.tokens, each.counted) for each in self.behaviours])
        return {
            "behaviours_fingerprint": hashlib.sha256(asked.encode()).hexdigest()[:32],
            "transformer_lens": transformer_lens_version(),
        }

    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        lens.check_finite()
        losses = [_mean_counted(token_losses(lens, behaviour), behaviour) for behaviour in self.behaviours]
        coords = {
            "behaviour": [behaviour.name for behaviour in self.behaviours],
            "n_counted": ("behaviour", [behaviour.n_counted for behaviour in self.behaviours]),
        }
        return xr.Dataset({"behaviour_loss": ("behaviour", np.array(losses), LOSS)}, coords)


def scan_behaviours(
    source: Any,
    behaviours: Sequence[Behaviour],
    store: str | Path | None = None,
    executor: Executor | None = None,
    on_error: OnError = "stop",
    progress: bool = True,
) -> xr.Dataset:
    """`behaviour_loss` (behaviour), or (step, behaviour): mean loss on the counted tokens, in nats per token.

    `source` is a model, as in `scan_heads`, or a run, whose every checkpoint is measured; `store`, `executor`,
    `on_error` and `progress` are as in `scan_run`, the first three for runs alone. The mean is over all counted tokens
    of a behaviour alike, whichever sequence they are in; the coordinate `n_counted` is their number. The result for a
    run has the coordinates `step` and `tokens_seen` of a history, so that it merges with one. A low loss does not show
    how the model does it.

    Raises ModelError if the model cannot be run, its weights are not finite, a behaviour does not fit it, or behaviours
    share a name; RunError as `scan_run` does.

    >>> from inductionkit.testing import perfect_induction_model
    >>> found = scan_behaviours(perfect_induction_model(), [repeated_tokens_behaviour(40, bos=0)])
    >>> round(float(found.behaviour_loss.sel(behaviour="repeated random tokens")), 4)  # log(38 + 2 e) - 1
    2.7713
    """
    names = [behaviour.name for behaviour in behaviours]
    if not names or len(set(names)) < len(names):
        raise ModelError(f"behaviours={names}: give at least one, each with a name of its own")

    def measurement(lens: Lens, run: Run | None) -> list[BehaviourLosses]:
        for behaviour in behaviours:
            _padded(behaviour, lens)
        return [BehaviourLosses(tuple(behaviours))]

    return scan_source(source, measurement, "behaviours", 0, store, executor, on_error, progress)


def _padded(behaviour: Behaviour, lens: Lens) -> Int[torch.Tensor, "sequence position"]:
    """The sequences at one length: what is to the right of a token cannot change its loss, so any token fills up."""
    longest = max(map(len, behaviour.tokens))
    try:
        lens.check_length(longest)
        return lens.check_tokens(torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in behaviour.tokens]))
    except ModelError as error:
        raise ModelError(f"behaviour {behaviour.name!r}: {error}") from None


def _mean_counted(losses: xr.DataArray, behaviour: Behaviour) -> float:
    rows = zip(behaviour.counted, losses.values)
    return float(np.concatenate([np.compress(counted[1:], row) for counted, row in rows]).mean())


def _rows(rows: Rows, name: str, what: str) -> tuple[tuple[Any, ...], ...]:
    """Sequences, arrays or tensors as tuples of Python's own numbers."""
    try:
        return tuple(tuple(map(_plain, _plain(row))) for row in _plain(rows))
    except TypeError:
        seen = type(rows).__name__
        raise ModelError(f"`{what}` of behaviour {name!r} must be a sequence of sequences; got {seen}") from None


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
