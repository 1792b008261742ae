"""Requests to the Hugging Face hub, through its own client, into its own cache."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import RunError
from .hub_cache import Download, cached_revisions, mark, repository_folder, snapshot_folder, write_reference
from .retrying import NoConnectionError, ask

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")


def revisions(repository: str, is_complete: Callable[[Path], bool]) -> dict[str, str]:
    """Return commits by branch and tag; without a connection, those whose snapshot in the cache is complete."""
    cached = {
        name: commit
        for name, commit in cached_revisions(repository).items()
        if is_complete(snapshot_folder(repository, commit))
    }
    try:
        references, _ = _list(f"hf:{repository}", f"{_address(repository)}/refs", bool(cached))
    except NoConnectionError as error:
        if not cached:
            raise
        warn_of_cache(repository, error)
        return cached
    commits = {each["name"]: each["targetCommit"] for kind in ("branches", "tags") for each in references[kind]}
    return {name: commit for name, commit in commits.items() if _is_inside(name)}


def _is_inside(name: str) -> bool:
    """Return whether a name that the hub gave leads to a place in the cache, as names of files and revisions do."""
    return ".." not in name and not name.startswith("/")


def file_sizes(repository: str, revision: str, folder: str | None = None) -> dict[str, int]:
    """Return the bytes of each file of a revision, or of a folder in it; subfolders are left out."""
    page: str | None = f"{_address(repository)}/tree/{quote(revision, safe='')}" + (f"/{folder}" if folder else "")
    sizes: dict[str, int] = {}
    while page is not None:
        tree, page = _list(f"hf:{repository}@{revision}", page)
        sizes |= {
            entry["path"]: entry["size"] for entry in tree if entry["type"] == "file" and _is_inside(entry["path"])
        }
    return sizes


def fetch_file(
    repository: str, name: str, revision: str, commit: str, downloads: list[Download], for_a_while: bool
) -> Path:
    """Return a file's path in the cache, and add it to `downloads` if it has to be fetched.

    The cache is told the commit of the revision, so that it knows the name when there is no connection.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    path = snapshot_folder(repository, commit) / name
    if path.is_file():
        return path
    if for_a_while:
        mark(path)
    blobs = repository_folder(repository) / "blobs"
    known = set(os.listdir(blobs)) if blobs.is_dir() else set()
    what = f"{name} of hf:{repository}@{revision}"
    # In a download, the client itself waits for as long as a busy hub asks, even for hours. In a request for the file's
    # metadata alone it does not wait, so the download starts once the hub has answered that.
    address = hf_hub_url(repository, name, revision=commit)
    ask(what, lambda: get_hf_file_metadata(address, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    path = Path(ask(what, lambda: hf_hub_download(repository, name, revision=commit, tqdm_class=_silent())))
    write_reference(repository, revision, commit)
    blob = path.resolve()
    downloads.append(Download(path, blob.name not in known, blob.stat().st_size))
    return path


def fetch_matching(repository: str, revision: str, commit: str, patterns: Collection[str]) -> Path:
    """Fetch the files of a revision that match, if there is a connection, and return its folder in the cache."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    folder = snapshot_folder(repository, commit)
    try:
        names = file_sizes(repository, commit)
    except NoConnectionError as error:
        if not folder.is_dir():
            raise
        warn_of_cache(repository, error)
        return folder
    for name in filter_repo_objects(names, allow_patterns=list(patterns)):
        fetch_file(repository, name, revision, commit, [], False)
    return folder


def warn_of_cache(repository: str, error: NoConnectionError) -> None:
    """Warn that the cache is read in place of the hub, unless that is what the user has asked for."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        warnings.warn(
            f"there is no connection to the hub ({error.__cause__}); what its cache has of {repository} is read",
            RuntimeWarning,
            stacklevel=3,
        )


def _address(repository: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise RunError(f"hf:{repository} cannot be on the hub: {error}") from None
    return f"{constants.ENDPOINT}/api/models/{repository}"


def _list(what: str, page: str, cached: bool = False) -> tuple[Any, str | None]:
    """Return what a page of a list on the hub holds, and the address of the next page, if there is one.

    The client has functions for these lists, but they wait without limit for a hub that does not answer.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    def request() -> tuple[Any, str | None]:
        response = get_session().get(page, headers=build_hf_headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
        hf_raise_for_status(response)
        return response.json(), response.links.get("next", {}).get("url")

    return ask(what, request, cached)


def _silent() -> Any:
    """Return the client's progress bar, turned off: a scan shows one bar of its own."""
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

    return Silent
