"""Runs on the Hugging Face hub whose checkpoints are revisions: Pythia, stanford-crfm, OLMo and the like."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .architecture import HuggingFaceArchitecture, fingerprint, kind_of, weights_limit
from .hub_cache import Download, Keep, KeptDownloads, has_weights, left_over, repository_folder, snapshot_folder
from .hub_client import TOKENIZER_FILES, fetch_file, fetch_matching, file_sizes, revisions
from .logs import read_log
from .names import NamedStep, read_names
from .run import Checkpoint, Run
from .safe_read import entry_file, read_json, read_text, read_weights, refuse_oversize, shard_names

if TYPE_CHECKING:
    from torch import Tensor


def open_hub(
    repository: str,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    keep: Keep = "all",
    max_bytes: int | None = None,
) -> Run:
    """Open a repository whose branches and tags are checkpoints by name; without a connection, those in the cache."""
    kept = KeptDownloads.of(repository, keep)
    commits = revisions(repository, has_weights)
    named = read_names((name for name in commits if ".." not in name), pattern)
    if not named:
        raise RunError(
            f"hf:{repository} has no revisions named like step1000 or checkpoint-1000; there are "
            f"{sorted(commits)[:10]}; give a pattern= that matches them"
        )
    last = named[-1].name

    def weights(entry: NamedStep) -> RevisionWeights:
        return RevisionWeights(repository, entry.name, commits[entry.name], architecture, max_bytes, kept)

    config = read_json(_configuration(repository, last) / "config.json", repository_folder(repository))
    architecture = HuggingFaceArchitecture(kind_of(config), partial(_configuration, repository, last))
    return Run(
        name=repository,
        checkpoints=[
            Checkpoint(
                entry.step,
                entry.tokens_seen if tokens_per_step is None else entry.step * tokens_per_step,
                weights(entry).read,
                architecture,
                f"hf:{repository}@{entry.name}",
                weights(entry).n_bytes,
            )
            for entry in named
        ],
        architecture=architecture,
        fingerprints={"source": repository, "config": fingerprint(config)},
        log=partial(_log, repository, last, log, tokens_per_step),
        tokenizer_json=partial(_tokenizer_json, repository, last),
        kept_bytes=kept.n_bytes,
    )


@dataclass(frozen=True)
class RevisionWeights:
    """The weights of one revision: from the cache if they are there, else fetched, read and kept or removed."""

    repository: str
    revision: str
    commit: str
    architecture: HuggingFaceArchitecture = field(repr=False)
    max_bytes: int | None
    kept: KeptDownloads = field(repr=False)

    def read(self) -> dict[str, Tensor]:
        folder = snapshot_folder(self.repository, self.commit)
        limit = weights_limit(self.architecture, self.max_bytes)
        downloads = left_over(folder)
        try:
            if not has_weights(folder):
                self._fetch(limit, downloads)
            return read_weights(folder, repository_folder(self.repository), limit)
        finally:
            self.kept.add(downloads)

    def n_bytes(self) -> int:
        """Bytes of the files that hold the weights, in whatever form; nothing is fetched."""
        sizes = file_sizes(self.repository, self.commit)
        kind = Path(entry_file(sizes.keys(), self.name).removesuffix(".index.json")).suffix
        return sum(size for name, size in sizes.items() if name.endswith(kind))

    def _fetch(self, limit: int, downloads: list[Download]) -> None:
        """Fetch the files of the weights, once they are known to be no larger than they should."""
        sizes = file_sizes(self.repository, self.commit)
        entry = entry_file(sizes.keys(), self.name)
        names = {entry}
        if entry.endswith(".json"):
            refuse_oversize(f"{entry} of {self.name}", sizes[entry], limit)
            index = self._fetch_file(entry, downloads)
            names |= set(shard_names(index, repository_folder(self.repository)).values())
        if missing := sorted(names - sizes.keys()):
            raise RunError(f"{self.name} lacks {missing[0]}, which its index names; leave this checkpoint out")
        refuse_oversize(self.name, sum(sizes[name] for name in names), limit)
        # Its configuration comes along, so that what is kept can be opened without a connection.
        for name in sorted(names | ({"config.json"} & sizes.keys())):
            self._fetch_file(name, downloads)

    def _fetch_file(self, name: str, downloads: list[Download]) -> Path:
        return fetch_file(self.repository, name, self.revision, self.commit, downloads, self.kept.is_limited)

    @property
    def name(self) -> str:
        return f"hf:{self.repository}@{self.revision}"


def _configuration(repository: str, revision: str) -> Path:
    """The folder with a revision's configuration and tokenizer."""
    return fetch_matching(repository, revision, ("config.json", *TOKENIZER_FILES))


def _log(repository: str, revision: str, log: str | Path | None, tokens_per_step: int | None) -> list[dict[str, Any]]:
    """The records of a log file, or of the Trainer's state if that came with the revision."""
    if log is not None:
        return read_log(Path(log), Path(log).parent, tokens_per_step)
    file = fetch_matching(repository, revision, ["trainer_state.json"]) / "trainer_state.json"
    return read_log(file, repository_folder(repository), tokens_per_step) if file.is_file() else []


def _tokenizer_json(repository: str, revision: str) -> str | None:
    file = _configuration(repository, revision) / "tokenizer.json"
    return read_text(file, repository_folder(repository)) if file.is_file() else None
