"""Runs in this project's own layout (see `run_folder`): reading them, and exporting a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..system.spread import evenly
from ..train.run_folder import RunFolder
from .architecture import ProjectArchitecture, weights_limit
from .run import Checkpoint, Run
from .safe_read import file_bytes, refuse_oversize
from .select import Wanted, choose_from


def open_folder(path: str | Path, checkpoints: Wanted = None) -> Run:
    """Open a run folder. Raises RunError if it is not one, has no checkpoints, or lists them inconsistently."""
    folder = RunFolder.open(path)
    entries = folder.manifest["checkpoints"]
    if not entries:
        raise RunError(f"the run at {path} has no checkpoints yet; wait for its training to save one")
    for entry in entries:
        if missing := {"step", "tokens_seen", "file", "sha256"} - entry.keys():
            raise RunError(f"a checkpoint in the manifest of {path} lacks {', '.join(sorted(missing))}: {entry}")
    steps = [entry["step"] for entry in entries]
    if sorted(set(steps)) != steps:
        raise RunError(f"the manifest of {path} lists steps out of order or twice: {steps}")
    architecture = ProjectArchitecture(folder.manifest["model"])
    return Run(
        name=folder.manifest["recipe"]["name"],
        checkpoints=choose_from(
            [
                Checkpoint(
                    entry["step"],
                    entry["tokens_seen"],
                    partial(_read, folder, entry, architecture),
                    architecture,
                    str(folder.path / str(entry["file"])),
                    partial(file_bytes, [folder.path / str(entry["file"])]),
                )
                for entry in entries
            ],
            checkpoints,
        ),
        architecture=architecture,
        fingerprints=folder.manifest["fingerprints"],
        held_out=folder.held_out,
        log=folder.log,
        tokenizer_json=folder.tokenizer_json,
    )


def _read(folder: RunFolder, entry: Mapping[str, Any], architecture: ProjectArchitecture) -> dict[str, np.ndarray]:
    path = folder.path / entry["file"]
    refuse_oversize(path, path.stat().st_size if path.is_file() else 0, weights_limit(architecture, None))
    return folder.read_checkpoint(entry)


def export_run(source: str | Path, out: str | Path, steps: Sequence[int], n_held_out: int) -> RunFolder:
    """Copy chosen checkpoints of a run in half precision, with some of its held-out text and the full log.

    `source` and `out` are run folders; `steps` are checkpoints of `source`. `n_held_out` examples are taken evenly
    from the held-out text. The logits of an exported checkpoint differ from the original's by the rounding of its
    weights to float16.
    """
    full = RunFolder.open(source)
    entries = {entry["step"]: entry for entry in full.manifest["checkpoints"]}
    if unknown := sorted(set(steps) - set(entries)):
        raise RunError(f"steps {unknown} are not checkpoints of {source}; it has {sorted(entries)}")
    held_out = full.held_out()
    chosen = held_out[evenly(len(held_out), n_held_out)]
    folder = RunFolder.create(out, full.manifest, full.tokenizer_json(), chosen)
    for record in full.log():
        folder.append_log(record)
    for step in sorted(steps):
        weights = full.read_checkpoint(entries[step])
        halves = {name: array.astype(np.float16) for name, array in weights.items()}
        folder.add_checkpoint(step, entries[step]["tokens_seen"], halves)
    return folder
