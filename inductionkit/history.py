"""What a scan leaves: a labelled, self-describing data set over the checkpoints of a run.

The schema is the one table below. A history is an `xarray.Dataset`; on disk it is Zarr. A scan
writes one checkpoint at a time and marks it in `scanned` last, so that a store holds each
checkpoint whole or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from .errors import HistoryError
from .system.zarr_files import is_url, read_zarr, write_zip

SCHEMA_VERSION = 1
PATTERN_SCALE = 1 / 255
PER_HEAD = ("step", "layer", "head")


@dataclasses.dataclass(frozen=True)
class Variable:
    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    reference: str = ""


VARIABLES = {
    "prefix_matching": Variable(
        PER_HEAD,
        "float32",
        "1",
        "attention to the followers of earlier copies of the token, on repeated random tokens",
        "O22",
    ),
    "copying": Variable(
        PER_HEAD,
        "float32",
        "1",
        "share of the OV circuit's logit rise that falls on attended tokens, -1 to 1",
        "O22, rescaled",
    ),
    "logit_lift": Variable(PER_HEAD, "float32", "nats", "OV logit lift on attended tokens", "O22"),
    "previous_token": Variable(PER_HEAD, "float32", "1", "attention to the token before, on text", "E21"),
    "duplicate_token": Variable(
        PER_HEAD, "float32", "1", "attention to earlier copies of the token, on repeated random tokens", "E21"
    ),
    "ov_copying": Variable(PER_HEAD, "float32", "1", "share of positive eigenvalues of the OV circuit, -1 to 1", "E21"),
    "qk_trace": Variable(
        PER_HEAD, "float32", "1", "K-composition with previous-token heads to match the same token", "O22, eq. 4"
    ),
    "k_composition": Variable(
        PER_HEAD, "float32", "1", "strongest K-composition with an earlier head, less the random baseline", "E21"
    ),
    "q_composition": Variable(
        PER_HEAD, "float32", "1", "strongest Q-composition with an earlier head, less the random baseline", "E21"
    ),
    "v_composition": Variable(
        PER_HEAD, "float32", "1", "strongest V-composition with an earlier head, less the random baseline", "E21"
    ),
    "loss": Variable(("step",), "float32", "nats/token", "mean loss on held-out text"),
    "loss_by_position": Variable(
        ("step", "position"),
        "float32",
        "nats/token",
        "mean loss on held-out text by index of the predicted token",
        "O22",
    ),
    "icl_score": Variable(
        ("step",), "float32", "nats/token", "in-context-learning score: late loss minus early loss", "O22"
    ),
    "example_loss": Variable(("step", "example"), "float32", "nats/token", "mean loss of each held-out example"),
    "example_icl_score": Variable(
        ("step", "example"), "float32", "nats/token", "in-context-learning score of each held-out example", "O22"
    ),
    "token_loss": Variable(
        ("step", "sample"),
        "float32",
        "nats/token",
        "loss of single held-out tokens, the same at every checkpoint",
        "O22",
    ),
    "text_loss": Variable(
        ("step", "text", "query"), "float32", "nats/token", "loss of each token of the history's texts", "O22"
    ),
    "pattern": Variable(
        ("step", "layer", "head", "text", "query", "key"),
        "uint8",
        "1/255",
        "attention pattern on the history's texts, quantised",
    ),
    "ov_lift": Variable(
        ("step", "layer", "head", "text", "key"),
        "float32",
        "nats",
        "OV logit lift of each token of the history's texts on itself, were it all that is attended to",
        "O22",
    ),
    "token": Variable(("text", "query"), "str", "", "tokens of the history's texts"),
    "training_loss": Variable(
        ("log",), "float32", "nats/token", "loss on the training batches, as logged while training"
    ),
}

HEAD_SCORES = tuple(name for name, variable in VARIABLES.items() if variable.dims == PER_HEAD)

VARIABLES |= {
    f"{name}_null": dataclasses.replace(
        VARIABLES[name], dims=("null", "layer", "head"), long_name=f"{name} on models whose matrices are drawn anew"
    )
    for name in HEAD_SCORES
}


def labelled(
    values: Mapping[str, npt.ArrayLike], coords: Mapping[str, object], attrs: Mapping[str, object]
) -> xr.Dataset:
    """A Dataset from plain arrays, with dims, units and long names from the schema.

    `values` are keyed by names of `VARIABLES`; a variable may lack leading dims that the caller
    does not have (a scan of one model has no `step`). `coords` must cover the dims used.
    """
    data = {}
    for name, array in values.items():
        variable = VARIABLES[name]
        dims = variable.dims[len(variable.dims) - np.ndim(array) :]
        about = {"units": variable.units, "long_name": variable.long_name, "reference": variable.reference}
        data[name] = (dims, np.asarray(array), {key: text for key, text in about.items() if text})
    dataset = xr.Dataset(data, coords, {"schema_version": SCHEMA_VERSION, **attrs})
    if "step" in dataset.coords:
        dataset["step"].attrs.update(long_name="optimiser step")
    if "tokens_seen" in dataset.coords:
        dataset["tokens_seen"].attrs.update(units="tokens", long_name="training tokens seen")
    return dataset


def validate(history: xr.Dataset, needs: tuple[str, ...] = ()) -> xr.Dataset:
    """Return `history` if it follows the schema and has the variables in `needs`, else raise HistoryError."""
    if not isinstance(history, xr.Dataset):
        raise HistoryError(
            f"a history is an xarray.Dataset, not {type(history).__name__}; open one with open_history(path)"
        )
    missing = [name for name in needs if name not in history]
    if missing:
        raise HistoryError(
            f"the history lacks {', '.join(missing)}; it has {', '.join(map(str, history.data_vars)) or 'no variables'}"
        )
    for name, variable in VARIABLES.items():
        if name in history and history[name].dims != variable.dims:
            raise HistoryError(f"{name} has dims {history[name].dims}, expected {variable.dims}")
    if "step" not in history.coords or not history.sizes["step"]:
        raise HistoryError("the history has no checkpoints: its dimension `step` is missing or empty")
    steps = history["step"].values
    if (np.diff(steps) <= 0).any():
        raise HistoryError(f"the steps of a history must increase; seen {steps.tolist()}")
    return history


def open_history(path: str | Path) -> xr.Dataset:
    """Open a history that a scan stored: checkpoints scanned so far, read into memory.

    `path` is a Zarr folder, a zipped one, or a URL that fsspec reaches. Raises HistoryError where there
    is none or it does not follow the schema.
    """
    if not is_url(path) and not Path(path).exists():
        raise HistoryError(f"there is no history at {path}; make one with scan_run(run, store={str(path)!r})")
    stored = read_zarr(path)
    if "schema_version" not in stored.attrs:
        raise HistoryError(f"{path} is a Zarr store but not a history of inductionkit: it has no schema_version")
    if stored.attrs["schema_version"] != SCHEMA_VERSION:
        raise HistoryError(
            f"{path} has schema version {stored.attrs['schema_version']}, this inductionkit reads {SCHEMA_VERSION}"
        )
    if "training_loss" in stored:  # the rest is room that a run in training has not filled yet
        stored = stored.isel(log=np.isfinite(stored["training_loss"].values))
    return validate(stored)


def save_history(history: xr.Dataset, path: str | Path) -> None:
    """Write a history to one zipped Zarr file at `path` (`….zarr.zip`), which `open_history` reads back."""
    write_zip(validate(history), path)


def example_history(name: str = "two-layer") -> xr.Dataset:
    """The full history of a bundled run at every checkpoint it was trained with.

    `name` is `two-layer`, or `one-layer` for its control. Raises HistoryError for another.
    """
    path = files("inductionkit") / "bundled" / f"{name}.zarr.zip"
    if not path.is_file():
        raise HistoryError(f"there is no example history {name!r}; there are 'two-layer' and 'one-layer'")
    with as_file(path) as local:
        return open_history(local)
