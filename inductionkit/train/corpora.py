"""Text to tokens: real text from any machine, a BPE tokenizer trained on it, token streams.

A corpus is a list of documents (one string each) in a fixed order. `tokenize` shuffles the
documents by seed, joins them with a begin-of-sequence token between, and splits off the last
tokens as held-out text, so training and evaluation never share a document (but for the one the
split falls into).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ..errors import RecipeError

BOS = "<|bos|>"
BOS_ID = 0


@dataclass(frozen=True)
class TokenStream:
    """Tokens of a corpus, split into text to train on and text held out.

    `train` and `held_out` are 1-D uint16 arrays; `fingerprint` is the SHA-256 of both, so that two
    runs can tell whether they saw the same data.
    """

    train: np.ndarray
    held_out: np.ndarray
    fingerprint: str


def python_source(packages: Sequence[str] = ()) -> list[str]:
    """Source files of Python's standard library, then of installed `packages` by distribution name.

    The standard library is real text that stands on every machine: 31 MB with its tests, about
    12 MB where a distribution strips them; add packages there. Order: by path.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)
    return _read(paths) + installed_files(packages, ["*.py"])


def installed_files(packages: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Text files of installed `packages`, by distribution name, that match one of `patterns`; ordered by path.

    A pattern is matched against the path within site-packages, `*` standing for `/` too: the C++ headers
    of PyTorch, 16 MB without the generated ones, are other real text that stands on every machine.
    """
    paths = []
    for name in packages:
        try:
            files = importlib.metadata.files(name)
        except importlib.metadata.PackageNotFoundError:
            raise RecipeError(
                f"packages={list(packages)} names {name!r}, which is not installed; "
                f"install it or drop it from the recipe"
            ) from None
        chosen = [f for f in files or () if any(fnmatch(f.as_posix(), pattern) for pattern in patterns)]
        if not chosen:
            raise RecipeError(f"no file of the package {name!r} matches any of {list(patterns)}")
        paths += sorted(Path(f.locate()) for f in chosen)
    return _read(paths)


def text_folder(folder: str | Path, pattern: str = "**/*.txt") -> list[str]:
    """Every file under `folder` that matches `pattern`, one document each, ordered by path."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RecipeError(f"the text folder {folder} does not exist")
    documents = _read(sorted(p for p in folder.glob(pattern) if p.is_file()))
    if not documents:
        raise RecipeError(f"no readable file in {folder} matches {pattern!r}")
    return documents


def hugging_face(name: str, split: str = "train", column: str = "text", n_documents: int | None = None) -> list[str]:
    """The first `n_documents` (default: all) of a Hugging Face data set, streamed.

    Needs the `datasets` package: `pip install "inductionkit[data]"`.
    """
    try:
        import datasets
    except ImportError:
        raise RecipeError('Hugging Face data sets need: pip install "inductionkit[data]"') from None
    rows = datasets.load_dataset(name, split=split, streaming=True)
    if rows.column_names is not None and column not in rows.column_names:
        raise RecipeError(f"column={column!r} is not in {name}; it has {', '.join(rows.column_names)}")
    return [row[column] for row in (rows if n_documents is None else rows.take(n_documents))]


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer with `vocab_size` tokens, the first of them the BOS token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size <= len(alphabet) + 1 or vocab_size > 1 << 16:
        raise RecipeError(f"vocab_size={vocab_size} must lie between {len(alphabet) + 2} and 65536")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[BOS], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def tokenize(documents: Sequence[str], tokenizer: Tokenizer, n_held_out: int, seed: int) -> TokenStream:
    """Token streams of `documents` in an order drawn from `seed`; the last `n_held_out` tokens are held out."""
    order = np.random.default_rng(seed).permutation(len(documents))
    pieces = []
    for encoding in _encode(tokenizer, [documents[i] for i in order]):
        pieces += [np.array([BOS_ID], dtype=np.uint16), np.array(encoding, dtype=np.uint16)]
    stream = np.concatenate(pieces) if pieces else np.array([], dtype=np.uint16)
    if len(stream) <= 2 * n_held_out:
        raise RecipeError(
            f"the corpus has {len(stream):,} tokens, too few to hold out {n_held_out:,}; add text or lower n_held_out"
        )
    return TokenStream(stream[:-n_held_out], stream[-n_held_out:], hashlib.sha256(stream.tobytes()).hexdigest())


def rows(stream: np.ndarray, n_tokens: int, offset: int = 0) -> np.ndarray:
    """Cut a stream, from `offset` on, into rows of `n_tokens`: a BOS token, then `n_tokens - 1` tokens of text."""
    n_text = n_tokens - 1
    n_rows = (len(stream) - offset) // n_text
    out = np.full((n_rows, n_tokens), BOS_ID, dtype=stream.dtype)
    out[:, 1:] = stream[offset : offset + n_rows * n_text].reshape(n_rows, n_text)
    return out


def _encode(tokenizer: Tokenizer, documents: list[str]) -> Iterator[list[int]]:
    for start in range(0, len(documents), 256):
        for encoding in tokenizer.encode_batch(documents[start : start + 256]):
            yield encoding.ids


def _read(paths: Iterable[Path]) -> list[str]:
    documents = []
    for path in paths:
        try:
            documents.append(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, OSError):
            continue  # test files in other encodings on purpose, or files a package no longer has
    return documents
