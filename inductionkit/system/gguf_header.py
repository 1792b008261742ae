"""What a GGUF file says of itself: its values, and where its tensors are; read without trusting what it claims."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InductionKitError

VERSIONS = (2, 3)  # 1 counted in 32 bits and is no longer written
MAX_DIMENSIONS = 4
_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


class GgufTensor(NamedTuple):
    """A tensor's `kind` is the number of its type, its `offset` is in bytes from the first tensor's data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufHeader(NamedTuple):
    """`values` are the file's numbers and strings by name, without its lists; data begin at byte `data_start`."""

    values: dict[str, Any]
    tensors: list[GgufTensor]
    data_start: int

    @property
    def architecture(self) -> str:
        return str(self.values["general.architecture"])


def is_gguf(path: object) -> bool:
    """Return whether a path ends in `.gguf`."""
    return isinstance(path, str | Path) and Path(path).suffix.lower() == ".gguf"


def read_gguf_header(file: Path, error: type[InductionKitError]) -> GgufHeader:
    """Return the header of a GGUF file. Raises `error` if the file is missing, damaged, or one part of several.

    Every step of the reading is one through the file: however many entries it claims, reading ends where it ends.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _Reader(content).header()
    except FileNotFoundError:
        raise error(f"there is no file {file}") from None
    except OSError as reason:
        raise error(f"{file} cannot be read: {reason}") from None
    except (struct.error, IndexError):
        raise error(f"{file} is cut short or damaged: it ends within its header; copy it again") from None
    except ValueError as reason:  # also of an empty file, and of text that is not UTF-8
        raise error(f"{file} is not a readable GGUF file ({reason}); copy it again") from None
    n_parts = header.values.get("split.count")
    if isinstance(n_parts, int) and n_parts > 1:
        raise error(f"{file} is one of {n_parts} parts of a model; merge them with llama-gguf-split --merge")
    return header


class _Reader:
    def __init__(self, content: mmap.mmap):
        self.content = content
        self.position = 0

    def header(self) -> GgufHeader:
        if self.content[:4] != b"GGUF":
            raise ValueError(f"it begins with {self.content[:4]!r}, not with b'GGUF'")
        self.position = 4
        version, n_tensors, n_values = self._next("<I"), self._next("<Q"), self._next("<Q")
        if version not in VERSIONS:
            raise ValueError(f"it is of version {version}; versions {' and '.join(map(str, VERSIONS))} are read")
        values: dict[str, Any] = {}
        for _ in range(n_values):
            name = self._string()
            values[name] = self._value(self._next("<I"))
        if not isinstance(values.get("general.architecture"), str):
            raise ValueError("it names no general.architecture")
        tensors = [self._tensor() for _ in range(n_tensors)]
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its general.alignment is {alignment!r}")
        return GgufHeader(
            {name: value for name, value in values.items() if value is not None},
            tensors,
            -(-self.position // alignment) * alignment,
        )

    def _next(self, layout: str) -> Any:
        (number,) = struct.unpack_from(layout, self.content, self.position)
        self.position += struct.calcsize(layout)
        return number

    def _string(self) -> str:
        return self._skip(self._next("<Q")).decode("utf-8")

    def _skip(self, n_bytes: int) -> bytes:
        """Return the next `n_bytes`."""
        end = self.position + n_bytes
        if end > len(self.content):
            raise IndexError
        found = self.content[self.position : end]
        self.position = end
        return found

    def _value(self, kind: int) -> Any:
        """Return a number or a string, and None in the place of a list, which may be a vocabulary."""
        if kind in _NUMBERS:
            return self._next(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError(f"it has a value of type {kind}")
        inner, n_entries = self._next("<I"), self._next("<Q")
        if inner in _NUMBERS:
            self._skip(n_entries * struct.calcsize(_NUMBERS[inner]))
        elif inner == _STRING:
            for _ in range(n_entries):
                self._skip(self._next("<Q"))
        else:
            raise ValueError(f"it has a list of values of type {inner}")
        return None

    def _tensor(self) -> GgufTensor:
        name, n_dimensions = self._string(), self._next("<I")
        if n_dimensions > MAX_DIMENSIONS:
            raise ValueError(f"its tensor {name!r} has {n_dimensions} dimensions")
        shape = tuple(self._next("<Q") for _ in range(n_dimensions))
        return GgufTensor(name, shape, self._next("<I"), self._next("<Q"))
