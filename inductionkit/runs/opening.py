"""`open_run`: choose the reader for a source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..system.gguf_header import is_gguf
from ..system.real_numbers import real_number
from ..system.whole_numbers import whole_number
from .bundled import bundled_folder
from .folder import open_folder
from .gguf_file import open_gguf_file
from .hub import open_hub
from .hub_cache import Keep
from .hugging_face_folder import is_checkpoint, open_hugging_face_folder
from .legacy import open_legacy
from .listed import Loader, open_list
from .names import read_names
from .run import Run
from .select import Wanted
from .training_files import checkpoint_files, open_training_files


def open_run(
    source: str | Path | Iterable[tuple[int, Loader]],
    *,
    checkpoints: Wanted = None,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    keep: Keep | None = None,
    max_bytes: int | None = None,
    model: Any = None,
) -> Run:
    """Open a training run: an ordered set of checkpoints, and one model to load them into.

    `source` is one of

    - `"bundled"`, `"bundled:one-layer"`, or a folder that `inductionkit train` wrote;
    - a folder of Hugging Face checkpoints (`checkpoint-500/`, `step1000/`), or a single one;
    - a folder of files, or a single one: GPT-2 of nanoGPT (`ckpt_500.pt`) or llm.c (`model_00000500.bin`), and with
      `model=` or a `config.json` in the folder Lightning's (`epoch=0-step=500.ckpt`) and others that hold state dicts;
    - a `.gguf` file, a run of one checkpoint, whose quantised weights are decoded to float32;
    - `"hf:ORG/NAME"`: the revisions of a repository on the hub, for example `hf:EleutherAI/pythia-70m`;
    - `"tl:NAME"`: TransformerLens' own repositories, for example `tl:attn-only-2l`;
    - a list of (step, loader), each loader a function that returns a state dict, with `model=`.

    `checkpoints` chooses among them: a number, `"log:20"`, a slice, a range or a list of steps, see `choose`. The
    others are not looked into, but for the steps in files. `pattern` is a regular expression for other names of
    checkpoints, with a group `step` or `tokens`. `tokens_per_step` (batch size times context, 2,097,152 for Pythia)
    gives the tokens seen if names and manifests do not; otherwise they are None. `log` is a file of losses by step: a
    table, JSON, JSON lines or lines of text; by default, the log of the latest checkpoint that has one. `keep` is how
    much of the downloads stays in the hub client's cache after it was read: `"all"` (default), `"none"`, or bytes per
    worker; what was there before stays. `max_bytes` is the size of the largest checkpoint that is read, by default
    twice the model in float32. `model` is a model of the same shape, into copies of which weights are loaded, where the
    source does not say what they are of.

    A Hugging Face run has one model: that in the `config.json` of most of the chosen checkpoints in a folder, or of the
    first chosen revision on the hub. Checkpoints are read only when they are loaded; one that is damaged or of another
    model fails then. No code from a source is run, and nothing is read from outside it. Raises RunError if there is no
    run, if no chosen checkpoint says what the model is, or if an option does not go with the source.

    >>> open_run("bundled", checkpoints="log:3").steps
    [0, 228, 3906]
    """
    if tokens_per_step is not None:
        tokens_per_step = whole_number(tokens_per_step, "tokens_per_step", 1, RunError)
    if max_bytes is not None:
        max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", RunError))
    opener, place = _opener(source, pattern)
    options = {
        "checkpoints": checkpoints,
        "pattern": pattern,
        "tokens_per_step": tokens_per_step,
        "log": log,
        "keep": keep,
        "max_bytes": max_bytes,
        "model": model,
    }
    given = {name: value for name, value in options.items() if value is not None}
    taken = inspect.signature(opener).parameters
    if refused := sorted(given.keys() - taken.keys()):
        raise RunError(
            f"{refused[0]}= does not go with {source!r}; of the options it takes {sorted(taken & options.keys())}"
        )
    return opener(place, **given)


def _opener(source: Any, pattern: str | None) -> tuple[Callable[..., Run], Any]:
    if not isinstance(source, str | Path):
        return open_list, source
    kind, _, rest = str(source).partition(":")
    if kind == "bundled":
        return open_folder, bundled_folder(str(source))
    if kind == "hf":
        return open_hub, rest
    if kind == "tl":
        return open_legacy, rest
    path = Path(source)
    if is_gguf(path):
        return open_gguf_file, path
    if (path / "manifest.json").is_file():
        return open_folder, path
    return (open_training_files if _has_checkpoint_files(path, pattern) else open_hugging_face_folder), path


def _has_checkpoint_files(path: Path, pattern: str | None) -> bool:
    """Return whether `path` is a file, or a folder whose checkpoints are files and not folders or itself."""
    if not path.is_dir():
        return path.is_file()
    if is_checkpoint(path):
        return False
    folders = (child.name for child in path.iterdir() if child.is_dir())
    return bool(checkpoint_files(path)) and not read_names(folders, pattern)
