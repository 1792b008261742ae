"""Which columns of a training log are the step, the training loss and the tokens seen, by their names and contents."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..errors import RunError

Row = Mapping[str, Any]

UNDERSTOOD = (
    "the step must be a column of whole numbers such as step, global_step or iteration, the training loss one such as "
    "loss, train_loss or train/loss (eval_loss and val_loss are not training losses); rename them"
)
PREFIXES = {"train", "training", "trainer", "metrics", "perf", "throughput"}
STEPS = {"step", "steps", "iter", "iters", "iteration", "iterations", "it", "update", "updates"}
OVER_ALL = {"global", "optimizer", "optimiser", "opt"}
LOSSES = {"loss", "nll", "xent"}
SECOND_CHOICE = {"epoch", "avg", "average", "mean", "running", "smoothed", "ema", "total"}
OF_A_LOSS = {"lm", "ce", "step", "batch", "iter", "nats"} | SECOND_CHOICE
OF_TOKENS = {"tokens", "seen", "num", "n", "input", "total", "consumed", "processed", "cumulative", "global"}
ONE_SCALAR = {"wall", "time", "step", "value"}  # TensorBoard's export, whose file alone says what the value is
SPLITS = {"split", "mode", "phase", "stage", "subset"}  # columns with one of these words
EVALUATIONS = {"val", "valid", "validation", "eval", "evaluation", "test", "dev"}
RUNS_OF_EVALUATIONS = EVALUATIONS - {"test", "dev"}  # which runs are often called for other reasons
_EXPORT = re.compile(r"run[-_](?P<run>.*?)[-_]tag[-_](?P<tag>.+?)(?: ?\(\d+\))?")  # (1): downloaded again
MAX_COLUMNS_TOLD, MAX_LETTERS_TOLD = 20, 80


class _Entry(NamedTuple):
    step: int
    loss: float | None
    row: Row


def log_records(rows: Sequence[Row], path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records of a log by step, and what its reader should be warned of.

    `rows` are the rows of the file `path`, each with entries by column; None is an empty cell. A record has `step`,
    `loss` (left out where the row has none; NaN and infinities are kept), `tokens_seen` (None: unknown), and the row's
    other entries. Where the steps go back, as in a resumed training, the later rows replace the earlier ones. Raises
    RunError, with the columns, if none is the step or the training loss, or if several runs have a training loss.
    """
    rows = [row for row in rows if row.get("train_runtime") is None]  # not the Trainer's summary
    names = list(dict.fromkeys(name for row in rows for name in row))
    splits = [name for name in names if _words(name) & SPLITS]
    training = [row for row in rows if not _is_evaluation(row, splits)]
    loss = _loss_column(training, names, path)
    step = _step_column([row for row in training if _number(row.get(loss)) is not None], names, path)
    entries = [
        _Entry(at, None if _is_evaluation(row, splits) else _number(row.get(loss)), row)
        for row in rows
        if (at := _whole(row.get(step))) is not None
    ]
    entries, warnings = _in_order(entries, path)
    tokens = _tokens_column(entries, names)
    columns = {step, loss, tokens, "step", "loss", "tokens_seen"}
    return [_record(entry, tokens, columns) for entry in entries], warnings


@lru_cache
def is_step(name: str) -> bool:
    """Return whether a column's name is one of an optimiser step."""
    words = _words(name)
    return bool(words & STEPS) and words <= STEPS | OVER_ALL | {"num", "n"}


def _words(name: str) -> set[str]:
    """Return the words of a column's name, without the name of a run before " - " and without common prefixes."""
    metric = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rpartition(" - ")[2]).lower()
    metric = re.sub(r"cross[\W_]*entropy", "loss", metric)
    return set(re.findall(r"[a-z0-9]+", metric)) - PREFIXES


def _loss_column(rows: Sequence[Row], names: Sequence[str], path: Path) -> str:
    """Return the training loss: of a step rather than averaged, then the one with the most numbers, NaN among them."""
    one_scalar = set().union(*map(_words, names)) <= ONE_SCALAR
    tag = _tag(path) if one_scalar else None
    found: list[tuple[int, int, int, bool, str]] = []
    for name in names:
        words = _words(name)
        if words == {"value"} and tag is not None:
            words = _words(tag)
        if words & LOSSES and words <= LOSSES | OF_A_LOSS:
            rank = 1 if words & SECOND_CHOICE else 0
        elif name.lower() == "train" or (words == {"value"} and one_scalar):
            rank = 2
        else:
            continue
        numbers = [number for row in rows if (number := _number(row.get(name))) is not None]
        if n_finite := sum(map(math.isfinite, numbers)):
            found.append((rank, -len(numbers), -n_finite, "train" not in name.lower(), name))
    if not found:
        of_tag = "" if tag is None else f" of the tag {tag!r} that its name says"
        raise RunError(f"the log {path} has no training loss; seen the columns {_told(names)}{of_tag}: {UNDERSTOOD}")
    rank, *_, best = min(found, key=lambda each: each[:4])
    rivals = [name for other, *_, name in found if other == rank]
    if len({name.rpartition(" - ")[0] for name in rivals}) > 1:
        raise RunError(f"the log {path} has the losses of several runs, {_told(rivals)}; leave one of them in it")
    return best


def _tag(path: Path) -> str | None:
    """Return the tag in the name of an export of TensorBoard, as "eval_loss" in `run-.-tag-eval_loss.csv`."""
    named = _EXPORT.fullmatch(unquote(path.stem))
    if named is None:
        return None
    # Keras logs the same tags into the runs "train" and "validation".
    is_evaluation = set(re.split(r"[\W_]+", named["run"].lower())[-1:]) & RUNS_OF_EVALUATIONS
    return f"{named['run']} {named['tag']}" if is_evaluation else named["tag"]


def _step_column(rows: Sequence[Row], names: Sequence[str], path: Path) -> str:
    """Return the column with the steps of `rows`, preferably one that counts them over all of the training."""
    found: list[tuple[int, int, bool, str]] = []
    refusal = f"has no step beside its losses; seen the columns {_told(names)}: {UNDERSTOOD}"
    for name in filter(is_step, names):
        steps = [step for row in rows if (step := _whole(row.get(name))) is not None]
        if 2 * len(steps) <= len(rows):
            continue
        if _restarts_with_epochs(rows, name, names):
            refusal = f"counts {name!r} anew in each epoch; add a column global_step, counted over the whole training"
            continue
        # wandb's own _step counts calls of its log function.
        rank = 2 if name.rpartition(" - ")[2].startswith("_") else 1 - bool(_words(name) & OVER_ALL)
        # fairseq's num_updates counts steps, its update counts epochs in fractions that may all be whole.
        found.append((rank, -len(set(steps)), "num" not in _words(name), name))
    if not found:
        raise RunError(f"the log {path} {refusal}")
    return min(found, key=lambda each: each[:3])[3]


def _restarts_with_epochs(rows: Sequence[Row], step: str, names: Sequence[str]) -> bool:
    """Return whether a step goes back where an epoch goes on; a resumed training goes back in both."""
    epoch = next((name for name in names if _words(name) == {"epoch"}), "epoch")
    places = [(_number(row.get(step), math.nan), _number(row.get(epoch), math.nan)) for row in rows]
    return any(later[0] < earlier[0] and later[1] > earlier[1] for earlier, later in pairwise(places))


def _in_order(entries: Sequence[_Entry], path: Path) -> tuple[list[_Entry], list[str]]:
    """Return the entries by step, without those that later ones replace, and a warning of restarts from the start."""
    steps = [entry.step for entry in entries if entry.loss is not None]
    if len(steps) > 2 and steps[0] > steps[-1] and all(a >= b for a, b in pairwise(steps)):
        entries, steps = entries[::-1], steps[::-1]  # the latest first
    goes_back = (later < earlier for earlier, later in pairwise([-1, *steps]))
    marked = [(entry, entry.loss is not None and next(goes_back)) for entry in entries]
    kept: list[_Entry] = []
    replaced_from = math.inf
    for entry, back in reversed(marked):
        if entry.step < replaced_from:
            kept.append(entry)
        if back:
            replaced_from = min(replaced_from, entry.step)
    restarts = sum(back and entry.step <= steps[0] for entry, back in marked)
    warning = f"the log {path} starts again from its first step ({restarts}×); only what follows the last start is kept"
    kept.reverse()
    return sorted(kept, key=lambda entry: entry.step), [warning] if restarts else []


def _tokens_column(entries: Sequence[_Entry], names: Sequence[str]) -> str | None:
    """Return the column whose whole numbers increase with the step; not one of the tokens of each batch."""
    named = [name for name in names if "tokens" in _words(name) <= OF_TOKENS]
    for name in sorted(named, key=lambda name: "seen" not in _words(name)):
        known = [(entry.step, seen) for entry in entries if (seen := _tokens_seen(entry, name)) is not None]
        if known and all(later[1] > earlier[1] or (later == earlier) for earlier, later in pairwise(known)):
            return name
    return None


def _tokens_seen(entry: _Entry, tokens: str | None) -> int | None:
    seen = None if tokens is None else _whole(entry.row.get(tokens))
    return seen if seen or not entry.step else None  # the Trainer writes 0 where it does not count


def _record(entry: _Entry, tokens: str | None, columns: set[str | None]) -> dict[str, Any]:
    record: dict[str, Any] = {"step": entry.step, "tokens_seen": _tokens_seen(entry, tokens)}
    if entry.loss is not None:
        record["loss"] = entry.loss
    return record | {name: value for name, value in entry.row.items() if name not in columns and value is not None}


def _is_evaluation(row: Row, splits: Sequence[str]) -> bool:
    """Return whether a cell such as "val" says that the row's losses are not of training batches."""
    return any(str(row.get(name)).strip().lower() in EVALUATIONS for name in splits)


def _number(value: Any, otherwise: Any = None) -> Any:
    """Return a number, or a string of one, as a float."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        return otherwise
    try:
        return float(value)
    except (ValueError, OverflowError):
        return otherwise


def _whole(value: Any) -> int | None:
    number = _number(value, math.nan)
    if not 0 <= number < 2**63 or not number.is_integer():
        return None
    return value if isinstance(value, int) else int(number)


def _told(names: Sequence[str]) -> str:
    told = ", ".join(repr(name[:MAX_LETTERS_TOLD]) for name in names[:MAX_COLUMNS_TOLD])
    more = len(names) - MAX_COLUMNS_TOLD
    return f"{told or 'none'}{f' and {more} more' if more > 0 else ''}"
