"""Losses that a training logged: in JSON, JSON lines, a table with a header, or lines of text."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import RunError
from .log_columns import Row, is_step, log_records
from .safe_read import read_text

TRAINER_STATE = "trainer_state.json"
LOG_NAMES = (
    TRAINER_STATE,
    "log.jsonl",
    "log.csv",
    "metrics.csv",  # Lightning
    "metrics.jsonl",
    "log.txt",
    "main.log",  # llm.c
)
# In llm.c and in nanoGPT's offspring, "s:250 tel:3.3" and "250 val 3.3"
SHORT = {"s": "step", "trl": "train loss", "train": "train loss", "tel": "val loss", "val": "val loss"}
_WORD = r"(?!(?:nan|inf)\b)[a-z_][\w/]*+"
_NUMBER = r"[-+]?(?:(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d*+)?(?:e[-+]?\d++)?|nan|inf)(?!\w|\.\d)"
_NAMED_NUMBER = re.compile(rf"(?<![\w/])({_WORD}(?: {_WORD}){{0,3}})\s*+[:=]?\s*+({_NUMBER})", re.IGNORECASE)
_LEADING_NUMBER = re.compile(r"\s*+(\d++)\s")
_DECIMAL_COMMA = re.compile(r"\s*([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)\s*")


def read_log(path: Path, root: Path, tokens_per_step: int | None = None) -> list[dict[str, Any]]:
    """Return the records of a log in the order of their steps: `step`, `loss`, `tokens_seen` and their other entries.

    `path` is a file in `root` of one of these kinds, told apart by its contents:

    - JSON: the Trainer's `trainer_state.json`, a list of records, or an object of columns;
    - JSON lines; a last line that was cut short is left out, other damaged ones are skipped with a RuntimeWarning;
    - a table whose header separates its columns by commas, semicolons (with decimal commas or points) or tabs: the
      exports of wandb and TensorBoard, Lightning's `metrics.csv`, and others;
    - lines of text such as `step 100: loss 3.2`, as nanoGPT and llm.c write them.

    The columns are found as in `log_records`. `tokens_per_step` gives `tokens_seen`, the training tokens so far, where
    the log does not; otherwise it is None. Raises RunError if the file cannot be read or has no training loss by step.
    """
    records, told = _read(path, root, tokens_per_step)
    for warning in told:
        warnings.warn(warning, RuntimeWarning, stacklevel=2)
    return records


def first_log(folders: Iterable[Path], tokens_per_step: int | None = None) -> list[dict[str, Any]]:
    """Return the records of the first log in `folders` that has losses, as `read_log` does but without its warnings.

    Returns none if there is no such log, with a RuntimeWarning about the first one that was found.
    """
    refusals: list[RunError] = []
    for file in (folder / name for folder in folders for name in LOG_NAMES):
        if file.is_file():
            try:
                return _read(file, file.parent, tokens_per_step)[0]
            except RunError as refusal:
                if file.name != TRAINER_STATE:  # a Trainer writes one also where it logged no loss yet
                    refusals.append(refusal)
    if refusals:
        warnings.warn(f"the run has no training losses: {refusals[0]}", RuntimeWarning, stacklevel=2)
    return []


def _read(path: Path, root: Path, tokens_per_step: int | None) -> tuple[list[dict[str, Any]], list[str]]:
    rows, n_skipped = _rows(read_text(path, root).removeprefix("\ufeff").lstrip("\n"), path)
    records, told = log_records(rows, path)
    if tokens_per_step is not None:
        for record in records:
            if record["tokens_seen"] is None:
                record["tokens_seen"] = record["step"] * tokens_per_step
    skipped = [f"the log {path} has damaged records, which were skipped: {n_skipped}"] if n_skipped else []
    return records, skipped + told


def _rows(text: str, path: Path) -> tuple[list[Row], int]:
    """Return the rows of a log and how many were damaged."""
    if text.startswith(("{", "[")) or path.suffix in (".jsonl", ".ndjson"):
        try:
            return _json_rows(json.loads(text))
        except (ValueError, RecursionError) as error:
            rows, n_skipped = _json_lines(text)
            if rows:
                return rows, n_skipped
            if path.suffix == ".json":
                raise RunError(f"the log {path} is not readable JSON ({error}); copy it again") from None
    first = text.partition("\n")[0]
    delimiter = max(";\t,", key=re.sub(r'"[^"]*"', "", first).count)
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if len(names) > 1 and any(map(is_step, names)):
            rows = _table(csv.reader(io.StringIO(text), delimiter=delimiter), names, delimiter != ",", path)
        else:
            rows = list(_lines_of_text(text))
    except csv.Error as error:
        raise RunError(f"the log {path} is not a readable table ({error}); copy it again") from None
    return rows or [dict.fromkeys(filter(None, names))], 0


def _json_rows(content: Any) -> tuple[list[Row], int]:
    if isinstance(content, Mapping):
        content = content.get("log_history", content)
    if isinstance(content, Mapping):
        content = _records(content)
    if not isinstance(content, list):
        return [], 0
    scalars = (
        dict(zip(("Wall time", "Step", "Value"), row)) if isinstance(row, list) and len(row) == 3 else row
        for row in content  # TensorBoard's JSON has no names
    )
    rows = [row for row in scalars if isinstance(row, Mapping)]
    return rows, len(content) - len(rows)


def _records(content: Mapping[str, Any]) -> list[Row]:
    """Return the rows of an object of columns, each a list or, as pandas writes them, by index; else it is a row."""
    if not all(isinstance(column, list | Mapping) for column in content.values()):
        return [content]
    rows: dict[Any, dict[str, Any]] = {}
    for name, column in content.items():
        for index, value in column.items() if isinstance(column, Mapping) else enumerate(column):
            rows.setdefault(str(index), {})[name] = value
    return list(rows.values())


def _json_lines(text: str) -> tuple[list[Row], int]:
    rows: list[Row] = []
    n_skipped = 0
    damaged = False
    for line in filter(str.strip, text.split("\n")):
        n_skipped += damaged  # not if it is the last line, which was cut short
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        damaged = not isinstance(row, Mapping)
        if not damaged:
            rows.append(row)
    return rows, n_skipped


def _table(lines: Iterable[list[str]], names: list[str], may_have_decimal_commas: bool, path: Path) -> list[Row]:
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise RunError(f"the log {path} has several columns {repeated[0]!r}; leave one of them in it")
    return [
        {name: _cell(cell, may_have_decimal_commas) for name, cell in zip(names, row) if name}
        for row in islice(lines, 1, None)
    ]


def _lines_of_text(text: str) -> Iterable[Row]:
    """Yield the numbers of each line that names a step, as in "iter 100: loss 3.21, time 9.80s"."""
    for line in text.split("\n"):
        leading = _LEADING_NUMBER.match(line)
        named = {} if leading is None else {"step": _cell(leading[1])}
        for name, number in _NAMED_NUMBER.findall(line):
            name = SHORT.get(name, name)
            named["step" if is_step(name) else name] = _cell(number.replace(",", ""))
        if "val loss" in named and "train loss" in named:  # nanoGPT's estimates, means over batches
            named["mean train loss"] = named.pop("train loss")
        if "step" in named and len(named) > 1:
            yield named


def _cell(text: str, may_have_decimal_commas: bool = False) -> float | int | str | None:
    """Return a cell's number, else its text; None if it is empty."""
    if may_have_decimal_commas and (parts := _DECIMAL_COMMA.fullmatch(text)):
        text = f"{parts[1]}.{parts[2]}"
    try:
        number = float(text)
    except ValueError:
        return text if text.strip() else None
    return int(number) if number.is_integer() and "." not in text else number
