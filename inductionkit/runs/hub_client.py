"""Requests to the Hugging Face hub, through its own client, into its own cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ..errors import RunError
from .hub_cache import Download, cached_revisions, mark, repository_folder, snapshot_folder

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")


def revisions(repository: str, is_complete: Callable[[Path], bool]) -> dict[str, str]:
    """Return commits by branch and tag; without a connection, those whose snapshot in the cache is complete."""
    from huggingface_hub import HfApi

    try:
        with _hub_errors(f"hf:{repository}"):
            references = HfApi().list_repo_refs(repository)
    except RunError:
        cached = {
            name: commit
            for name, commit in cached_revisions(repository).items()
            if is_complete(snapshot_folder(repository, commit))
        }
        if not cached:
            raise
        return cached
    return {reference.name: reference.target_commit for reference in (*references.branches, *references.tags)}


def file_sizes(repository: str, revision: str, folder: str | None = None) -> dict[str, int]:
    """Return the bytes of each file of a revision, or of a folder in it."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with _hub_errors(f"hf:{repository}@{revision}"):
        tree = list(HfApi().list_repo_tree(repository, folder, revision=revision))
    return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}


def fetch_file(
    repository: str, name: str, revision: str, commit: str, downloads: list[Download], for_a_while: bool
) -> Path:
    """Return a file's path in the cache, and add it to `downloads` if it has to be fetched.

    The revision is requested by name, so that the cache knows the name when there is no connection.
    """
    from huggingface_hub import hf_hub_download

    path = snapshot_folder(repository, commit) / name
    if path.is_file():
        return path
    if for_a_while:
        mark(path)
    blobs = repository_folder(repository) / "blobs"
    known = set(os.listdir(blobs)) if blobs.is_dir() else set()
    with _hub_errors(f"{name} of hf:{repository}@{revision}"):
        path = Path(hf_hub_download(repository, name, revision=revision, tqdm_class=_silent()))
    blob = path.resolve()
    downloads.append(Download(path, blob.name not in known, blob.stat().st_size))
    if not path.is_relative_to(snapshot_folder(repository, commit)):
        raise RunError(
            f"hf:{repository}@{revision} was moved to another commit since the run was opened; open it again"
        )
    return path


def fetch_matching(repository: str, revision: str, patterns: Collection[str]) -> Path:
    """Fetch the files of a revision that match, if there is a connection, and return its folder in the cache."""
    from huggingface_hub import snapshot_download

    with _hub_errors(f"hf:{repository}@{revision}"):
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=list(patterns), tqdm_class=_silent())
        )


@contextlib.contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    # HTTPError is that of the library the client is built on.
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (HTTPError, OSError, HFValidationError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RunError(
            f"{what} could not be read from the hub or its cache ({reason}); check the name and the connection, "
            f"or open the folder of a copy"
        ) from error


def _silent() -> Any:
    """Return the client's progress bar, turned off: a scan shows one bar of its own."""
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

    return Silent
