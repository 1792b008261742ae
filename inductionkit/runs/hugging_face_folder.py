"""Runs that lie in a folder of Hugging Face checkpoints, `checkpoint-500/` or `step1000/`, or in a single one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RunError
from .architecture import HuggingFaceArchitecture, fingerprint, kind_of, weights_limit
from .logs import find_log, read_log
from .names import NamedStep, read_names
from .run import Checkpoint, Run, nothing
from .safe_read import entry_file, file_bytes, inside, read_json, read_text, read_weights, shard_names, trusted_root


def open_hugging_face_folder(
    path: str | Path,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    max_bytes: int | None = None,
) -> Run:
    """Open a folder whose subfolders are checkpoints by name, or a single checkpoint with its `config.json`.

    All checkpoints are read as the model that the last one's `config.json` tells, else the folder's own.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"there is no run at {path}: the folder does not exist")
    root = trusted_root(path)
    folders = {child.name: child for child in path.iterdir() if child.is_dir()}
    named = read_names(folders, pattern)
    if not named:
        named, folders = [_alone(path, root)], {path.name: path}
    last = folders[named[-1].name]
    home = _home(last, path)
    config = read_json(home / "config.json", root)
    architecture = HuggingFaceArchitecture(kind_of(config), partial(_configured, home, root))
    found_log = find_log([last, path]) if log is None else Path(log)
    tokenizer = next((folder for folder in (home, path) if (folder / "tokenizer.json").is_file()), None)
    return Run(
        name=path.resolve().name,
        checkpoints=[
            Checkpoint(
                entry.step,
                _tokens_seen(entry, folders[entry.name], root, tokens_per_step),
                partial(_read, folders[entry.name], root, architecture, max_bytes),
                architecture,
                str(folders[entry.name]),
                partial(_n_bytes, folders[entry.name], root),
            )
            for entry in named
        ],
        architecture=architecture,
        fingerprints={"source": str(path.resolve()), "config": fingerprint(config)},
        log=list if found_log is None else partial(read_log, found_log, found_log.parent, tokens_per_step),
        tokenizer_json=nothing if tokenizer is None else partial(read_text, tokenizer / "tokenizer.json", root),
    )


def _read(folder: Path, root: Path, architecture: HuggingFaceArchitecture, max_bytes: int | None) -> dict[str, Any]:
    if not folder.is_dir():
        raise RunError(f"the checkpoint {folder} is gone; copy it again, or leave it out")
    return read_weights(folder, root, weights_limit(architecture, max_bytes))


def _n_bytes(folder: Path, root: Path) -> int:
    entry = folder / entry_file([path.name for path in folder.iterdir()], folder)
    names = set(shard_names(entry, root).values()) if entry.suffix == ".json" else {entry.name}
    return file_bytes(folder / name for name in names)


def _configured(home: Path, root: Path) -> Path:
    """The folder with the model's configuration, if that still is there."""
    inside(home / "config.json", root)
    return home


def _home(last: Path, path: Path) -> Path:
    """The folder with the model's configuration."""
    for folder in (last, path):
        if (folder / "config.json").is_file():
            return folder
    raise RunError(f"neither {last} nor {path} has a config.json that tells the model; copy one there")


def _alone(path: Path, root: Path) -> NamedStep:
    """A folder that is itself the only checkpoint: its step is told by its Trainer state, else its name, else 0."""
    if not (path / "config.json").is_file():
        raise RunError(
            f"there is no run at {path}: it has no manifest.json of this project, no config.json and no folders named "
            f"like checkpoint-500 or step1000 (pattern=); seen {sorted(child.name for child in path.iterdir())[:10]}"
        )
    step = _trainer_state(path, root).get("global_step")
    if isinstance(step, int):
        return NamedStep(step, None, path.name)
    named = read_names([path.name])
    return named[0] if named else NamedStep(0, None, path.name)


def _tokens_seen(entry: NamedStep, folder: Path, root: Path, tokens_per_step: int | None) -> int | None:
    if tokens_per_step is not None:
        return entry.step * tokens_per_step
    if entry.tokens_seen is not None:
        return entry.tokens_seen
    seen = _trainer_state(folder, root).get("num_input_tokens_seen")
    return seen if isinstance(seen, int) and (seen or not entry.step) else None  # the Trainer counts only if asked to


def _trainer_state(folder: Path, root: Path) -> dict[str, Any]:
    state = folder / "trainer_state.json"
    return read_json(state, root) if state.is_file() else {}
