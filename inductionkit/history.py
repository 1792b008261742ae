"""What a scan leaves: a labelled, self-describing data set over the checkpoints of a run.

The schema is the one table below. A history is an `xarray.Dataset`; on disk it is Zarr. A scan
writes one checkpoint at a time and marks it in `scanned` last, so that a store holds each
checkpoint whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from .errors import HistoryError

SCHEMA_VERSION = 1
PATTERN_SCALE = 1 / 255
_METADATA_FILES = (".zarray", ".zmetadata", "zarr.json")
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


def labelled(values: dict[str, np.ndarray], coords: dict[str, object], attrs: dict[str, object]) -> xr.Dataset:
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
    refuse_pickle(path)
    try:
        stored = _read_zarr(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise HistoryError(f"{path} is not a Zarr store that can be read: {error}") from None
    if "schema_version" not in stored.attrs:
        raise HistoryError(f"{path} is a Zarr store but not a history of inductionkit: it has no schema_version")
    if stored.attrs["schema_version"] != SCHEMA_VERSION:
        raise HistoryError(
            f"{path} has schema version {stored.attrs['schema_version']}, this inductionkit reads {SCHEMA_VERSION}"
        )
    for variable in stored.variables.values():
        variable.encoding = {}
    return validate(stored)


def is_url(path: str | Path) -> bool:
    return "://" in str(path)


def _read_zarr(path: str | Path) -> xr.Dataset:
    if is_url(path):
        return _load_scanned(xr.open_zarr(str(path), mask_and_scale=False))
    local = Path(path)
    with zarr.storage.ZipStore(local) if local.is_file() else zarr.storage.LocalStore(local) as store:
        return _load_scanned(xr.open_zarr(store, mask_and_scale=False))


def _load_scanned(stored: xr.Dataset) -> xr.Dataset:
    """What has been scanned, without the places that a store keeps for what is still to come."""
    if "scanned" in stored:
        stored = stored.isel(step=np.flatnonzero(stored["scanned"].values)).drop_vars("scanned")
    stored = stored.load()
    if "training_loss" in stored:
        stored = stored.isel(log=np.isfinite(stored["training_loss"].values))
    return stored


def refuse_pickle(path: str | Path) -> None:
    """Raise HistoryError if a Zarr store's metadata asks for the pickle codec: reading it could run code."""
    for document in _metadata(path):
        try:
            asks = _asks_for_pickle(json.loads(document))
        except ValueError as error:
            raise HistoryError(f"{path} is not a Zarr store that can be read: {error}") from None
        if asks:
            raise HistoryError(f"{path} holds pickled objects, which are not read from files: they can run code")


def _metadata(path: str | Path) -> list[bytes]:
    if is_url(path):
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(str(path))
        found = filesystem.find(root) if filesystem.exists(root) else []
        return [filesystem.cat_file(name) for name in found if name.rsplit("/")[-1] in _METADATA_FILES]
    path = Path(path)
    if path.is_dir():
        return [file.read_bytes() for file in path.rglob("*") if file.name in _METADATA_FILES]
    if not zipfile.is_zipfile(path):
        raise HistoryError(f"{path} is not a Zarr store that can be read: neither a folder nor a zip file")
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if name.rsplit("/")[-1] in _METADATA_FILES]


def _asks_for_pickle(document: object) -> bool:
    if isinstance(document, dict):
        names = (document.get("id"), document.get("name"))
        return any("pickle" in str(name) for name in names) or any(map(_asks_for_pickle, document.values()))
    return isinstance(document, list) and any(map(_asks_for_pickle, document))


def save_history(history: xr.Dataset, path: str | Path) -> None:
    """Write a history to one zipped Zarr file (`….zarr.zip`), which `open_history` reads back."""
    encoding = {name: {"_FillValue": None} for name in validate(history).variables}
    with tempfile.TemporaryDirectory() as folder:
        history.to_zarr(folder, zarr_format=2, consolidated=True, encoding=encoding)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # its chunks are compressed already
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, file.relative_to(folder))


def example_history(name: str = "two-layer") -> xr.Dataset:
    """The full history of a bundled run, `two-layer` or `one-layer`, at every checkpoint it was trained with."""
    path = files("inductionkit") / "bundled" / f"{name}.zarr.zip"
    if not path.is_file():
        raise HistoryError(f"there is no example history {name!r}; there are 'two-layer' and 'one-layer'")
    with as_file(path) as local:
        return open_history(local)
