"""A GGUF file as a run of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RunError
from ..system.gguf_header import read_gguf_header
from .architecture import fingerprint, weights_limit
from .logs import read_log
from .names import NamedStep, read_names
from .run import Checkpoint, Run
from .safe_read import file_bytes, refuse_oversize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

_WRITER = {"_name_or_path", "transformers_version"}


@dataclass(frozen=True)
class GgufArchitecture:
    """The model in a GGUF file, by transformers' configuration of it."""

    file: Path
    config: Any = field(repr=False)

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.from_config import shape_of

        with self._folder() as folder:
            return shape_of(folder)

    @property
    def description(self) -> str:
        told = self.config.to_dict()
        return fingerprint({"GGUF": {name: value for name, value in told.items() if name not in _WRITER}})

    def build(self) -> Any:
        from ..lens.from_config import standing_bridge

        with self._folder() as folder:
            return standing_bridge(folder)

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.swapping import swap_weights

        swap_weights(model, weights)

    def tokenizer_json(self) -> str | None:
        """Return the file's tokenizer in Hugging Face's JSON, or None if it has none."""
        with self._folder() as folder:
            written = Path(folder, "tokenizer.json")
            return written.read_text(encoding="utf-8") if written.is_file() else None

    def __str__(self) -> str:
        return str(self.config.architectures[0])

    def _folder(self) -> AbstractContextManager[str]:
        from ..lens.gguf_files import hugging_face_folder

        return hugging_face_folder(self.file, self.config)


def open_gguf_file(
    path: Path, tokens_per_step: int | None = None, log: str | Path | None = None, max_bytes: int | None = None
) -> Run:
    """Open a GGUF file as a run of one checkpoint, of the step in a name such as `step1000.gguf`, else of step 0."""
    read_gguf_header(path, RunError)
    from ..lens.gguf_files import gguf_config

    try:
        architecture = GgufArchitecture(path, gguf_config(path))
    except ModelError as error:
        raise RunError(str(error)) from error
    [entry] = read_names([path.stem]) or [NamedStep(0, None, path.stem)]
    return Run(
        name=path.name,
        checkpoints=[
            Checkpoint(
                entry.step,
                entry.tokens_seen if tokens_per_step is None else entry.step * tokens_per_step,
                partial(_read, architecture, max_bytes),
                architecture,
                str(path),
                partial(file_bytes, [path]),
            )
        ],
        architecture=architecture,
        fingerprints={"source": str(path.resolve())},
        log=list if log is None else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
        tokenizer_json=architecture.tokenizer_json,
    )


def _read(architecture: GgufArchitecture, max_bytes: int | None) -> dict[str, Any]:
    from ..lens.gguf_files import gguf_weights

    limit = weights_limit(architecture, max_bytes)
    refuse_oversize(architecture.file, architecture.shape["float32_bytes"], limit)
    try:
        return gguf_weights(architecture.file, architecture.config)
    except ModelError as error:
        raise RunError(str(error)) from error
