"""Losses that a training logged, in any of three formats."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from .safe_read import read_json, read_text

LOG_NAMES = ("trainer_state.json", "log.jsonl", "log.csv")
_ALSO_CALLED = {
    "step": ("step", "global_step", "iteration", "_step"),
    "loss": ("loss", "train_loss", "train/loss", "training_loss"),
    "tokens_seen": ("tokens_seen", "num_input_tokens_seen", "train/num_input_tokens_seen", "tokens"),
}


def read_log(path: Path, root: Path, tokens_per_step: int | None = None) -> list[dict[str, Any]]:
    """Return the records of a log as `step`, `loss`, `tokens_seen` (None: unknown) and their other entries.

    Reads the Trainer's `trainer_state.json`, CSV with a header, and JSON lines up to one that was cut short. Records
    without a step are left out. Raises RunError if the file cannot be read.
    """
    if path.suffix == ".json":
        records = read_json(path, root).get("log_history", [])
    elif path.suffix == ".csv":
        records = [
            {name: _number(text) for name, text in row.items()}
            for row in csv.DictReader(read_text(path, root).splitlines())
        ]
    elif path.suffix == ".jsonl":
        records = list(_json_lines(read_text(path, root)))
    else:
        raise RunError(f"the log {path} is none of trainer_state.json, *.csv, *.jsonl; convert it to one of them")
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise RunError(f"the log {path} is not a list of records with a step and a loss each")
    named = (_rename(record) for record in records if "train_runtime" not in record)  # not the Trainer's summary
    return [_with_tokens(record, tokens_per_step) for record in named if isinstance(record.get("step"), int | float)]


def first_log(folders: Iterable[Path], tokens_per_step: int | None = None) -> list[dict[str, Any]]:
    """Return the records of the first log in `folders` that can be read and has some, or none."""
    for folder in folders:
        for name in LOG_NAMES:
            with contextlib.suppress(RunError):
                if records := read_log(folder / name, folder, tokens_per_step):
                    return records
    return []


def _json_lines(text: str) -> Iterable[Any]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _number(text: str | None) -> float | int | str | None:
    if text is None or not text.strip():
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and "." not in text else number


def _rename(record: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        ours: next(record[name] for name in names if record.get(name) is not None)
        for ours, names in _ALSO_CALLED.items()
        if any(record.get(name) is not None for name in names)
    }
    known = {name for names in _ALSO_CALLED.values() for name in names}
    return named | {name: value for name, value in record.items() if name not in known and value is not None}


def _with_tokens(record: dict[str, Any], tokens_per_step: int | None) -> dict[str, Any]:
    step = int(record["step"])
    tokens_seen = record.get("tokens_seen") or None if step else record.get("tokens_seen")
    if tokens_seen is None and tokens_per_step is not None:
        tokens_seen = step * tokens_per_step
    return record | {"step": step, "tokens_seen": None if tokens_seen is None else int(tokens_seen)}
