"""Runs on the Hugging Face hub whose checkpoints are revisions: Pythia, stanford-crfm, OLMo and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .architecture import weights_limit
from .hub_cache import Download, Keep, KeptDownloads, has_weights, left_over, repository_folder, snapshot_folder
from .hub_client import TOKENIZER_FILES, fetch_file, fetch_matching, file_sizes, revisions
from .hugging_face import HuggingFaceArchitecture, model_fingerprint, read_config
from .logs import read_log
from .names import NamedStep, read_names
from .retrying import HubError
from .run import Checkpoint, Run
from .safe_read import entry_file, read_text, read_weights, refuse_oversize, shard_names
from .select import Wanted, choose_from

if TYPE_CHECKING:
    from torch import Tensor


def open_hub(
    repository: str,
    checkpoints: Wanted = None,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    keep: Keep = "all",
    max_bytes: int | None = None,
) -> Run:
    """Open a repository whose branches and tags are checkpoints by name; without a connection, those in the cache.

    The run's model is that of the first chosen revision whose `config.json` can be read.
    """
    kept = KeptDownloads.of(repository, keep)
    commits = revisions(repository, has_weights)
    named = read_names(commits, pattern)
    if not named:
        raise RunError(
            f"hf:{repository} has no revisions named like step1000 or checkpoint-1000; there are "
            f"{sorted(commits)[:10]}; give a pattern= that matches them"
        )
    named = choose_from(named, checkpoints)

    def weights(entry: NamedStep) -> RevisionWeights:
        return RevisionWeights(repository, entry.name, commits[entry.name], architecture, max_bytes, kept)

    chosen = {entry.name: commits[entry.name] for entry in named}
    home, config = _first_config(repository, chosen)
    architecture = HuggingFaceArchitecture(config, partial(_configuration, repository, home, commits[home]))
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
        fingerprints={"source": repository, "config": model_fingerprint(config)},
        log=partial(_log, repository, dict(reversed(chosen.items())), tokens_per_step)
        if log is None
        else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
        tokenizer_json=partial(_tokenizer_json, repository, home, commits[home]),
        kept_bytes=kept.n_bytes,
    )


@dataclass(frozen=True)
class RevisionWeights:
    """The weights of one revision, read from the cache, or fetched, read, and then kept or removed."""

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
            self._refuse_other()
            return read_weights(folder, repository_folder(self.repository), limit)
        finally:
            self.kept.add(downloads)

    def n_bytes(self) -> int:
        """Bytes of the files with the weights, fetching none; 0 where there are none, which is reported by `read`."""
        folder = snapshot_folder(self.repository, self.commit)
        if has_weights(folder):
            sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        else:
            sizes = file_sizes(self.repository, self.commit)
        try:
            kind = Path(entry_file(sizes.keys(), self.name).removesuffix(".index.json")).suffix
        except RunError:
            return 0
        return sum(size for name, size in sizes.items() if name.endswith(kind))

    def _fetch(self, limit: int, downloads: list[Download]) -> None:
        """Fetch the files of the weights, after checking that they are not too large."""
        sizes = file_sizes(self.repository, self.commit)
        entry = entry_file(sizes.keys(), self.name)
        if "config.json" in sizes:  # kept with the weights, they can be opened without a connection
            self._fetch_file("config.json", downloads)
            self._refuse_other()
        names = {entry}
        if entry.endswith(".json"):
            refuse_oversize(f"{entry} of {self.name}", sizes[entry], limit)
            index = self._fetch_file(entry, downloads)
            names |= set(shard_names(index, repository_folder(self.repository)).values())
        if missing := sorted(names - sizes.keys()):
            raise RunError(f"{self.name} lacks {missing[0]}, which its index names; leave this checkpoint out")
        refuse_oversize(self.name, sum(sizes[name] for name in names), limit)
        for name in sorted(names):
            self._fetch_file(name, downloads)

    def _refuse_other(self) -> None:
        folder = snapshot_folder(self.repository, self.commit)
        self.architecture.refuse_other(folder, repository_folder(self.repository), self.name)

    def _fetch_file(self, name: str, downloads: list[Download]) -> Path:
        return fetch_file(self.repository, name, self.revision, self.commit, downloads, self.kept.is_limited)

    @property
    def name(self) -> str:
        return f"hf:{self.repository}@{self.revision}"


def _configuration(repository: str, revision: str, commit: str) -> Path:
    """Return the folder with a revision's configuration and tokenizer."""
    return fetch_matching(repository, revision, commit, ("config.json", *TOKENIZER_FILES))


def _first_config(repository: str, commits: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the first revision whose `config.json` can be read, and what that holds."""
    refusals: list[RunError] = []
    for revision, commit in commits.items():
        try:
            return revision, read_config(_configuration(repository, revision, commit), repository_folder(repository))
        except HubError:  # the revision may well have one
            raise
        except RunError as error:
            refusals.append(error)
    raise RunError(f"no revision of hf:{repository} that was chosen has a config.json that can be read: {refusals[0]}")


def _log(repository: str, commits: Mapping[str, str], tokens_per_step: int | None) -> list[dict[str, Any]]:
    """Return the records of the first Trainer's state among the revisions that can be read."""
    for revision, commit in commits.items():
        try:
            folder = fetch_matching(repository, revision, commit, ["trainer_state.json"])
            if records := read_log(folder / "trainer_state.json", repository_folder(repository), tokens_per_step):
                return records
        except HubError:
            raise
        except RunError:
            continue
    return []


def _tokenizer_json(repository: str, revision: str, commit: str) -> str | None:
    file = _configuration(repository, revision, commit) / "tokenizer.json"
    return read_text(file, repository_folder(repository)) if file.is_file() else None
