"""The hub client's cache on disk: what it has of a repository, and removal of what was fetched for a scan."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError
from .safe_read import entry_file, shard_names, trusted_root

Keep = int | str
MARKERS = ".fetched-for-a-scan"  # a folder in the cache's folder of a repository, which the client does not look at
_ONE_AT_A_TIME = threading.Lock()  # checkpoints may be read by several threads of a worker
_KEPT: dict[KeptDownloads, list[list[Download]]] = {}  # a process gets its checkpoints one by one, each a copy


@dataclass(frozen=True)
class Download:
    """A file that was fetched: its path in a snapshot, and whether the blob it links to was fetched with it."""

    path: Path
    with_blob: bool
    n_bytes: int

    def remove(self) -> None:
        """Remove the file from the cache, its blob unless another snapshot uses it, and folders left empty."""
        blob, snapshot = self.path.resolve(), _snapshot_of(self.path)
        self.path.unlink(missing_ok=True)
        _marker(self.path).unlink(missing_ok=True)
        others = (other.resolve() for other in snapshot.parent.rglob("*") if other.is_symlink())
        if self.with_blob and blob not in others:
            blob.unlink(missing_ok=True)
        if not any(path.is_file() for path in snapshot.rglob("*")):
            _remove_empty(snapshot)
            # A reference to a snapshot that is gone makes the client's own tools call the cache corrupted.
            for reference in (snapshot.parent.parent / "refs").rglob("*"):
                if reference.is_file() and reference.read_text() == snapshot.name:
                    reference.unlink()


@dataclass(frozen=True)
class KeptDownloads:
    """Downloads of a repository that are kept: at most `n_bytes` per process, the oldest are removed first.

    Files that were in the cache before are never entered here, and so never removed, except those that a scan with
    such a limit fetched and could not remove because it was killed.
    """

    repository: str
    n_bytes: float

    @property
    def is_limited(self) -> bool:
        return self.n_bytes < float("inf")

    @classmethod
    def of(cls, repository: str, keep: Keep) -> KeptDownloads:
        """Make one from `"all"`, `"none"` or a number of bytes."""
        limits = {"all": float("inf"), "none": 0}
        if isinstance(keep, bool) or (not isinstance(keep, int) and keep not in limits):
            raise RunError(f"keep={keep!r}: give 'all', 'none' or the bytes of downloads to keep")
        return cls(repository, keep if isinstance(keep, int) else limits[keep])

    def add(self, checkpoint: list[Download]) -> None:
        """Add the files of a checkpoint that has been read, and remove the oldest beyond the limit."""
        with _ONE_AT_A_TIME:
            kept = _KEPT.setdefault(self, [])
            kept.append(checkpoint)
            while sum(file.n_bytes for files in kept for file in files) > self.n_bytes:
                for file in kept.pop(0):
                    file.remove()


def mark(path: Path) -> None:
    """Mark a file, before it is fetched, as one to be removed later; the mark stays if the process is killed."""
    marker = _marker(path)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(str(path.relative_to(_snapshot_of(path))))


def left_over(snapshot: Path) -> list[Download]:
    """Return the marked files of a snapshot: a killed scan fetched them, and a later one may remove them."""
    markers = snapshot.parent.parent / MARKERS
    paths = [snapshot / marker.read_text() for marker in markers.glob(f"{snapshot.name}--*")]
    return [Download(path, True, path.stat().st_size) for path in paths if path.is_file()]


def _marker(path: Path) -> Path:
    snapshot = _snapshot_of(path)
    name = "--".join((snapshot.name, *path.relative_to(snapshot).parts))
    return snapshot.parent.parent / MARKERS / name


def _snapshot_of(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.parent.name == "snapshots")


def repository_folder(repository: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def snapshot_folder(repository: str, commit: str) -> Path:
    return repository_folder(repository) / "snapshots" / commit


def cached_revisions(repository: str) -> dict[str, str]:
    """Return the commits in the cache by revision."""
    references = repository_folder(repository) / "refs"
    return {
        str(path.relative_to(references)): path.read_text().strip() for path in references.rglob("*") if path.is_file()
    }


def write_reference(repository: str, revision: str, commit: str) -> None:
    """Tell the cache the commit of a revision, so that it knows the revision's name without a connection."""
    reference = repository_folder(repository) / "refs" / revision
    if not reference.is_file() or reference.read_text() != commit:
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)


def has_weights(snapshot: Path) -> bool:
    """Return whether a snapshot has all files of its weights."""
    try:
        entry = snapshot / entry_file(os.listdir(snapshot), snapshot)
        if entry.suffix != ".json":
            return entry.is_file()
        return all((snapshot / shard).is_file() for shard in shard_names(entry, trusted_root(snapshot)).values())
    except (RunError, OSError):
        return False


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    folder.rmdir()
