"""Runs in a folder of Hugging Face checkpoints, `checkpoint-500/` or `step1000/`, or in a single one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RunError
from .architecture import weights_limit
from .converting import how_to_join
from .hugging_face import HuggingFaceArchitecture, model_fingerprint, read_config
from .logs import first_log, read_log
from .names import NamedStep, read_names
from .run import Checkpoint, Run
from .safe_read import (
    WEIGHT_FILES,
    entry_file,
    file_bytes,
    inside,
    read_json,
    read_text,
    read_weights,
    shard_names,
    trusted_root,
)
from .select import Wanted, choose_from


def open_hugging_face_folder(
    path: str | Path,
    checkpoints: Wanted = None,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    max_bytes: int | None = None,
) -> Run:
    """Open a folder whose subfolders are checkpoints by name, or a single checkpoint with its `config.json`.

    The run's model is the one that most of the chosen checkpoints have in their `config.json`, and of several the one
    of the earliest; damaged ones are ignored. Where no checkpoint has one, it is the folder's own.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"there is no run at {path}: the folder does not exist")
    root = trusted_root(path)
    folders = {child.name: child for child in path.iterdir() if child.is_dir()}
    if is_checkpoint(path):  # whose parts were joined, and are still in folders with names like those of checkpoints
        folders = {name: child for name, child in folders.items() if not _how_to_join(child)}
    named = read_names(folders, pattern)
    if not named:
        named, folders = [_alone(path, root)], {path.name: path}
    named = choose_from(named, checkpoints)
    chosen = [folders[entry.name] for entry in named]
    home = _home(chosen, path, root)
    config = read_config(home, root)
    architecture = HuggingFaceArchitecture(config, partial(configured, home, root))
    latest_first = [chosen[-1], path, *chosen[-2::-1]]
    return Run(
        name=path.resolve().name,
        checkpoints=[
            Checkpoint(
                entry.step,
                _tokens_seen(entry, folder, root, tokens_per_step),
                partial(_read, folder, root, architecture, max_bytes),
                architecture,
                str(folder),
                partial(_n_bytes, folder, root),
            )
            for entry, folder in zip(named, chosen)
        ],
        architecture=architecture,
        fingerprints={"source": str(path.resolve()), "config": model_fingerprint(config)},
        log=partial(first_log, latest_first, tokens_per_step)
        if log is None
        else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
        tokenizer_json=partial(tokenizer_json, [home, path, *chosen], root),
    )


def _read(folder: Path, root: Path, architecture: HuggingFaceArchitecture, max_bytes: int | None) -> dict[str, Any]:
    if not folder.is_dir():
        raise RunError(f"the checkpoint {folder} is gone; copy it again, or leave it out")
    architecture.refuse_other(folder, root, folder)
    return read_weights(folder, root, weights_limit(architecture, max_bytes))


def _n_bytes(folder: Path, root: Path) -> int:
    """Bytes of the files with the weights; 0 where they are damaged, which is reported when they are read."""
    try:
        entry = folder / entry_file([path.name for path in folder.iterdir()], folder)
        names = set(shard_names(entry, root).values()) if entry.suffix == ".json" else {entry.name}
    except (RunError, OSError):
        return 0
    return file_bytes(folder / name for name in names)


def configured(home: Path, root: Path) -> Path:
    """Return the folder with the model's configuration, if that still is there."""
    inside(home / "config.json", root)
    return home


def _home(chosen: Sequence[Path], path: Path, root: Path) -> Path:
    """Return the folder with the run's configuration, and with a tokenizer if one of equal right has one."""
    models: dict[Path, str] = {}
    refusals: list[RunError] = []
    for folder in chosen:
        try:
            models[folder] = model_fingerprint(read_config(folder, root))
        except RunError as error:
            refusals.append(error)
    if models:
        [(model, _)] = Counter(models.values()).most_common(1)
        homes = [folder for folder in models if models[folder] == model]
        return next((folder for folder in homes if _intact_json(folder / "tokenizer.json", root)), homes[0])
    if (path / "config.json").is_file():
        return path
    refuse_parts(chosen)
    raise RunError(
        f"no checkpoint of {path} that was chosen has a config.json that can be read, and {path} has none of its own; "
        f"copy one there. Seen: {refusals[0]}"
    )


def is_checkpoint(path: Path) -> bool:
    """Return whether a folder itself has a model and its weights."""
    return (path / "config.json").is_file() and any((path / name).is_file() for name in WEIGHT_FILES)


def refuse_parts(folders: Iterable[Path]) -> None:
    """Raise RunError if one of `folders` holds a checkpoint in parts, and say how to join them."""
    for folder in folders:
        if how := _how_to_join(folder):
            raise RunError(how)


def _how_to_join(folder: Path) -> str | None:
    return how_to_join(folder, [child.name for child in folder.iterdir()]) if folder.is_dir() else None


def tokenizer_json(folders: Iterable[Path], root: Path) -> str | None:
    """Return the first tokenizer in `folders` that can be read, in Hugging Face's JSON."""
    files = (folder / "tokenizer.json" for folder in folders)
    return next((read_text(file, root) for file in files if _intact_json(file, root)), None)


def _alone(path: Path, root: Path) -> NamedStep:
    """Return the step of a folder that is itself the only checkpoint: by its Trainer state, else its name, else 0."""
    if not (path / "config.json").is_file():
        seen = sorted(path.iterdir())
        refuse_parts([path, *seen])
        raise RunError(
            f"there is no run at {path}: it has no manifest.json of this project, no config.json and no folders named "
            f"like checkpoint-500 or step1000 (pattern=), nor files like ckpt_500.pt; seen "
            f"{[child.name for child in seen][:10]}"
        )
    step = _intact_json(path / "trainer_state.json", root).get("global_step")
    if isinstance(step, int):
        return NamedStep(step, None, path.name)
    named = read_names([path.name])
    return named[0] if named else NamedStep(0, None, path.name)


def _tokens_seen(entry: NamedStep, folder: Path, root: Path, tokens_per_step: int | None) -> int | None:
    if tokens_per_step is not None:
        return entry.step * tokens_per_step
    if entry.tokens_seen is not None:
        return entry.tokens_seen
    seen = _intact_json(folder / "trainer_state.json", root).get("num_input_tokens_seen")
    return seen if isinstance(seen, int) and (seen or not entry.step) else None  # the Trainer counts only if asked to


def _intact_json(file: Path, root: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where it is missing or damaged."""
    with contextlib.suppress(RunError):
        return read_json(file, root)
    return {}
