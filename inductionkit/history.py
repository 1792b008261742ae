"""What a scan leaves: a labelled, self-describing data set over the checkpoints of a run.

A history is an `xarray.Dataset`; on disk it is Zarr. The table below has the variables that the analysis reads; each
head score (step, layer, head) brings its row with it, from where it is defined in `inductionkit.scores`.
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
HISTORY = "history"  # the attribute `contents` of what `scan_run` leaves; ablations and the like have their own


@dataclasses.dataclass(frozen=True)
class Variable:
    """Describes a variable of a history: its dimensions, its type, and the labels that are stored with it."""

    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    reference: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        """Units, long name and reference, as they are stored beside the values."""
        about = {"units": self.units, "long_name": self.long_name, "reference": self.reference}
        return {name: text for name, text in about.items() if text}


VARIABLES = {
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
        "OV logit lift of each token of the history's texts on itself, were it all that is attended to; mean over the "
        "queries that see it",
        "O22",
    ),
    "token": Variable(("text", "query"), "str", "", "tokens of the history's texts"),
    "training_loss": Variable(
        ("log",), "float32", "nats/token", "loss on the training batches, as logged while training"
    ),
    "weights_digest": Variable(
        ("step",), "uint64", "", "fingerprint of the checkpoint's weights: the same for the same weights"
    ),
}


def labelled(
    values: Mapping[str, npt.ArrayLike],
    rows: Mapping[str, Variable],
    coords: Mapping[str, object] | None = None,
    attrs: Mapping[str, object] | None = None,
) -> xr.Dataset:
    """A Dataset from plain arrays, with dims, units and long names from `rows`.

    A variable may lack leading dims that the caller does not have: the scan of one model has no `step`.
    """
    data = {}
    for name, array in values.items():
        row = rows[name]
        data[name] = (row.dims[len(row.dims) - np.ndim(array) :], np.asarray(array), row.attrs)
    return xr.Dataset(data, coords, attrs)


def measured_on(history: xr.Dataset) -> str:
    """Return which checkpoints and held-out examples the numbers of `history` are of, in words.

    Scores of the same checkpoint differ between histories that were measured on different numbers of examples.
    """
    steps = history["step"].values
    many = f"{len(steps)} checkpoints, steps {steps[0]:,} to {steps[-1]:,}"
    said = [many if len(steps) > 1 else f"step {steps[0]:,}"]
    if (examples := n_examples(history)) is not None:
        said.append(f"{examples:,} held-out examples")
    early, late = (_whole_attribute(history, name) for name in ("icl_early", "icl_late"))
    if early is not None and late is not None:
        said.append(f"in-context-learning score: loss around token {late} minus loss around token {early}")
    return "; ".join(said)


def n_examples(history: xr.Dataset) -> int | None:
    """Return on how many held-out examples the losses of `history` were measured, None if it does not say."""
    return _whole_attribute(history, "n_evaluation")


def _whole_attribute(history: xr.Dataset, name: str) -> int | None:
    """An attribute if it is a whole number: files of others may say anything."""
    value = history.attrs.get(name)
    return int(value) if isinstance(value, int | np.integer) else None


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
    rows = VARIABLES if history.attrs.get("contents", HISTORY) == HISTORY else {}
    for name, variable in rows.items():
        if name in history and history[name].dims != variable.dims:
            raise HistoryError(f"{name} has dims {history[name].dims}, expected {variable.dims}")
    if "step" not in history.coords or not history.sizes["step"]:
        raise HistoryError("the history has no checkpoints: its dimension `step` is missing or empty")
    steps = history["step"].values
    if (np.diff(steps) <= 0).any():
        raise HistoryError(f"the steps of a history must increase; seen {steps.tolist()}")
    return history


def head_scores(history: xr.Dataset) -> tuple[str, ...]:
    """Return the names of the per-head scores of a history or a scan, in the order in which they were asked for.

    A score is a number for each (layer, head), at each step or once; its null values have another dim and are left out.
    """
    per_head = (PER_HEAD, PER_HEAD[1:])
    names = [str(name) for name, var in history.data_vars.items() if var.dims in per_head and var.dtype.kind in "fiu"]
    asked = str(history.attrs.get("scores", "")).split()  # a Zarr store lists its variables in another order
    return tuple(sorted(names, key=lambda name: asked.index(name) if name in asked else len(asked)))


def open_history(path: str | Path) -> xr.Dataset:
    """Open what a scan stored: checkpoints scanned so far, in order of steps, read into memory.

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
    return validate(stored)


def history_steps(path: str | Path) -> list[int]:
    """The steps that a scan has stored at `path` so far, empty where there is none. Reads nothing else."""
    if not is_url(path) and not Path(path).exists():
        return []
    steps: list[int] = read_zarr(path, ("step",))["step"].values.tolist()
    return steps


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
