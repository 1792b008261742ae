"""Losses of single tokens: paths of several runs on common principal components, and what a passage gains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Integral

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..history import validate
from ..system.whole_numbers import whole_number
from .bump import past_beginning
from .clock import clock_of, elapsed, on_one_clock
from .naming import named
from .pivot import principal_components

SAME_TEXT = ("n_evaluation", "texts")  # attributes that two histories of the same evaluation tokens share


def token_loss_pca(histories: Mapping[str, xr.Dataset], n_components: int = 2, beginning: bool = False) -> xr.Dataset:
    """Per-token losses of the checkpoints of several runs on their first principal components, in nats (O22).

    `histories` are given by the names of their runs. Each checkpoint is the vector of its losses on fixed single
    tokens; `n_components` are taken over the checkpoints of all runs together, about their mean. Runs that learn the
    same things move along one path, which pivots at the phase change. Without the `beginning` of each run, until its
    loss has made half of its fall: what tokens' frequencies explain is learned there, and would be the first
    component. Components are whatever varies most: a bend is no proof of a new mechanism, for every curved path bends
    on its first two.

    Returns a Dataset with `token_loss_component` (checkpoint, component), coordinates `model`, `step` and `elapsed`
    (checkpoint; in tokens, or in steps if a history does not know its tokens: its `units`), and `explained_variance`
    (component), a share.

    Raises HistoryError if a history has no `token_loss` at any checkpoint, two were not measured on the same tokens of
    the same text, or `n_components` is below 1.

    >>> from inductionkit.testing import synthetic_history
    >>> paths = token_loss_pca({"two": synthetic_history(), "one": synthetic_history(window=None)})
    >>> dict(paths.token_loss_component.sizes)
    {'checkpoint': 33, 'component': 2}
    """
    n_components = whole_number(n_components, "n_components", 1, HistoryError)
    runs = named(histories, needs=("token_loss",))
    reference = next(iter(runs))
    for name, history in runs.items():
        _check_same_tokens(reference, runs[reference], name, history)
    runs = on_one_clock(runs)
    units = {"elapsed": {"units": clock_of(*runs.values())}}
    kept = {name: _measured(history, beginning) for name, history in runs.items()}
    if bare := [name for name, at in kept.items() if not len(at)]:
        raise HistoryError(f"{', '.join(bare)}: the losses of all tokens were not measured at any checkpoint")
    runs = {name: history.isel(step=kept[name]) for name, history in runs.items()}
    losses = np.concatenate([history["token_loss"].values.astype(float) for history in runs.values()])
    path, explained = principal_components(losses, n_components)
    sizes = [history.sizes["step"] for history in runs.values()]
    along = {
        "model": np.repeat(np.array(list(runs), dtype=object).astype(str), sizes),
        "step": np.concatenate([history["step"].values for history in runs.values()]),
        "elapsed": np.concatenate([elapsed(history) for history in runs.values()]),
    }
    about = {"units": "nats", "long_name": "losses of single tokens on their principal components", "reference": "O22"}
    return xr.Dataset(
        {
            "token_loss_component": (("checkpoint", "component"), path, about),
            "explained_variance": ("component", explained, {"units": "1", "long_name": "share of the variance"}),
        },
        {
            "component": np.arange(1, path.shape[1] + 1),
            **{name: ("checkpoint", col, units.get(name)) for name, col in along.items()},
        },
    )


def token_loss_change(history: xr.Dataset, text: str | int, from_step: int, to_step: int) -> xr.Dataset:
    """Which tokens of a passage got better and worse between two checkpoints, in nats (O22); negative: better.

    `text` is one of the history's texts by name or index, `from_step` and `to_step` are checkpoints of it. The change
    is all that training did between the two, not what induction heads did: ablate them for that.

    Returns a Dataset with `loss_before`, `loss_after` and `change` (query), and the tokens as coordinate `token`. The
    first token has no loss: nothing predicts it.

    Raises HistoryError if the history has no `text_loss`, no such text or no such checkpoint.
    """
    validate(history, needs=("text_loss", "token"))
    names = [str(name) for name in history["text"].values]
    is_index = isinstance(text, Integral) and not isinstance(text, bool)
    index = int(text) if is_index else names.index(text) if text in names else -1
    if not 0 <= index < len(names):
        raise HistoryError(f"text={text!r} is no text of this history, which has {', '.join(map(repr, names))}")
    steps = [int(step) for step in history["step"].values]
    for name, asked in (("from_step", from_step), ("to_step", to_step)):
        if whole_number(asked, name, 0, HistoryError) not in steps:
            _, nearest = min((abs(step - asked), step) for step in steps)
            raise HistoryError(f"{name}={asked} is no checkpoint of this history; the nearest is {nearest}")
    at = history.isel(text=index)
    tokens = at["token"].values
    length = int(np.flatnonzero(tokens != "")[-1]) + 1
    before, after = (at["text_loss"].sel(step=step).values.astype(float)[:length] for step in (from_step, to_step))
    about = {"units": "nats", "reference": "O22"}
    return xr.Dataset(
        {
            "loss_before": ("query", before, {**about, "long_name": f"loss at step {from_step}"}),
            "loss_after": ("query", after, {**about, "long_name": f"loss at step {to_step}"}),
            "change": ("query", after - before, {**about, "long_name": "change of the loss"}),
        },
        {"query": np.arange(length), "token": ("query", tokens[:length])},
        {"text": names[index], "from_step": from_step, "to_step": to_step},
    )


def _measured(history: xr.Dataset, beginning: bool) -> np.ndarray:
    """The checkpoints at which every token was measured, without the beginning unless asked for."""
    losses = history["token_loss"].values.astype(float)
    known = np.flatnonzero(np.isfinite(losses).all(1))
    return known if beginning else known[past_beginning(losses[known].mean(1)) :]


def _check_same_tokens(name: str, history: xr.Dataset, other_name: str, other: xr.Dataset) -> None:
    for coord in ("sample_example", "sample_position"):
        seen = [one[coord].values.tolist() if coord in one.coords else None for one in (history, other)]
        if seen[0] is None or seen[0] != seen[1]:
            raise HistoryError(
                f"{name} and {other_name} give the losses of different tokens ({coord} differs or is missing); "
                f"scan both with the same evaluation text and n_evaluation"
            )
    for key in SAME_TEXT:
        if history.attrs.get(key) != other.attrs.get(key):
            raise HistoryError(f"{name} and {other_name} were measured on different text: {key} differs")
    for key, value in _fingerprints(history).items():
        if key in ("corpus", "tokenizer") and _fingerprints(other).get(key, value) != value:
            raise HistoryError(
                f"{name} and {other_name} have different {key} fingerprints: their tokens are not the same"
            )


def _fingerprints(history: xr.Dataset) -> dict[str, str]:
    fingerprints: dict[str, str] = json.loads(history.attrs.get("fingerprints", "{}"))
    return fingerprints
