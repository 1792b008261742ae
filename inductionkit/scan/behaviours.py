"""Behaviours: the loss on named sets of prompts, for one model or along a run.

Most capabilities are too small to show on the loss curve. A behaviour shows one of them: prompts that
ask for it, and which of their tokens a model can get right only if it has it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..errors import ModelError
from ..lens import Lens, transformer_lens_version
from ..runs import Run
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..system.progress import progress_bar

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


def repeated_tokens_behaviour(d_vocab: int, bos: int | None, prompts: PromptSettings = PromptSettings()) -> Behaviour:
    """Random tokens repeated: the loss on what only the earlier repeats predict.

    Counts the tokens of the second and later repeats but for the very first of them: the token before
    it, the last of the first repeat, has not been followed by it yet. A model that knows neither which
    tokens came nor their order gets down to about `log(d_vocab)`, one that knows which ones came to about
    `log(n_distinct)` (3.2 nats for 25); less than that takes their order, that is induction. A low loss
    does not show which heads do it, nor that they work on text.

    Raises ModelError if the vocabulary is too small for the settings.

    >>> behaviour = repeated_tokens_behaviour(1000, bos=0, prompts=PromptSettings(1, n_distinct=3, n_repeats=2))
    >>> behaviour.counted
    ((False, False, False, False, False, True, True),)
    """
    tokens = repeated_random_tokens(d_vocab, bos, prompts)
    first = int(bos is not None) + prompts.n_distinct + 1
    counted = torch.arange(tokens.shape[1]).expand(tokens.shape) >= first
    return Behaviour("repeated random tokens", tokens, counted)


def token_losses(model: Any, behaviour: Behaviour) -> xr.DataArray:
    """Loss of every token of a behaviour, counted or not: (example, position), in nats.

    `position` is the index of the predicted token, from 1 on; NaN beyond a sequence's end. Raises
    ModelError if the model cannot be run or the tokens do not fit its vocabulary or context.
    """
    lens = model if isinstance(model, Lens) else Lens(model)
    lengths = [len(row) for row in behaviour.tokens]
    longest = max(lengths)
    # What stands to the right of a token cannot change its loss, so any token will do as padding.
    padded = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in behaviour.tokens])
    try:
        parts = [lens.token_losses(part).cpu() for part in padded.split(max(1, MAX_BATCH_TOKENS // longest))]
    except ModelError as error:
        raise ModelError(f"behaviour {behaviour.name!r}: {error}") from None
    position = np.arange(1, longest)
    within = position < np.array(lengths)[:, None]
    return xr.DataArray(
        np.where(within, torch.cat(parts).numpy(), np.nan),
        {"position": position},
        ("example", "position"),
        name="token_loss",
        attrs={"units": "nats", "long_name": f"loss by token, {behaviour.name}"},
    )


def behaviour_losses(model: Any, behaviours: Sequence[Behaviour]) -> xr.DataArray:
    """Mean loss on the counted tokens of each behaviour: (behaviour), in nats per token.

    `model` is a model or a `Lens`. The mean is over all counted tokens alike, whichever sequence they
    stand in; the coordinate `n_counted` is their number. A low loss does not show how the model does
    it. Raises ModelError if the model cannot be run, its weights are not finite, a behaviour does not
    fit it, or behaviours share a name.

    >>> from inductionkit.testing import perfect_induction_model
    >>> loss = behaviour_losses(perfect_induction_model(), [repeated_tokens_behaviour(40, bos=0)])
    >>> round(float(loss.sel(behaviour="repeated random tokens")), 4)  # log(38 + 2 e) - 1
    2.7713
    """
    names = _names(behaviours)
    lens = model if isinstance(model, Lens) else Lens(model)
    lens.check_finite()
    losses = [_mean_counted(token_losses(lens, behaviour), behaviour) for behaviour in behaviours]
    n_counted = [behaviour.n_counted for behaviour in behaviours]
    coords = {"behaviour": names, "n_counted": ("behaviour", n_counted)}
    return xr.DataArray(np.array(losses), coords, ("behaviour",), "behaviour_loss", LOSS)


def scan_behaviours(run: Run, behaviours: Sequence[Behaviour], progress: bool = True) -> xr.Dataset:
    """`behaviour_losses` at every checkpoint of a run: `behaviour_loss` (step, behaviour), in nats per token.

    It has the coordinates `step` and `tokens_seen` (NaN where unknown) of a history, so that it merges with one and
    stands beside the mean loss. `behaviours` are measured as `behaviour_losses` does, in full at each checkpoint;
    `progress` shows a bar. Raises RunError or ModelError if a checkpoint cannot be read or a behaviour does not fit
    the model.
    """
    _names(behaviours)
    lens = Lens(run.standing_model())
    losses = []
    with progress_bar(progress) as bar:
        task = bar.add_task(f"behaviours of {run.name}", total=len(run.checkpoints), at="")
        for checkpoint in run.checkpoints:
            bar.update(task, at=f"step {checkpoint.step:,}")
            checkpoint.load_into(lens.model)
            losses.append(behaviour_losses(lens, behaviours))
            bar.advance(task)
    tokens_seen = [np.nan if each.tokens_seen is None else each.tokens_seen for each in run.checkpoints]
    found = xr.concat(losses, dim="step").assign_coords(
        step=("step", run.steps, {"long_name": "optimiser step"}),
        tokens_seen=("step", tokens_seen, {"units": "tokens", "long_name": "training tokens seen"}),
    )
    about = {
        "model": run.name,
        "fingerprints": json.dumps(dict(run.fingerprints), sort_keys=True),
        "transformer_lens": transformer_lens_version(),
    }
    return found.to_dataset().assign_attrs(about)


def _mean_counted(losses: xr.DataArray, behaviour: Behaviour) -> float:
    rows = zip(behaviour.counted, losses.values)
    return float(np.concatenate([np.compress(counted[1:], row) for counted, row in rows]).mean())


def _names(behaviours: Sequence[Behaviour]) -> list[str]:
    names = [behaviour.name for behaviour in behaviours]
    if not names or len(set(names)) < len(names):
        raise ModelError(f"behaviours={names}: give at least one, each with a name of its own")
    return names


def _rows(rows: Rows, name: str, what: str) -> tuple[tuple[Any, ...], ...]:
    """Sequences, arrays or tensors as tuples of Python's own numbers."""
    try:
        return tuple(tuple(map(_plain, _plain(row))) for row in _plain(rows))
    except TypeError:
        seen = type(rows).__name__
        raise ModelError(f"`{what}` of behaviour {name!r} is a sequence of sequences, not as seen a {seen}") from None


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
