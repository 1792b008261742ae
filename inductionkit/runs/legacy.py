"""TransformerLens' own checkpoint repositories: `checkpoints/*_<tokens>.pth` beside a `config.json` of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .architecture import fingerprint, weights_limit
from .hub_cache import Keep, KeptDownloads, left_over, repository_folder, snapshot_folder
from .hub_client import TOKENIZER_FILES, fetch_file, fetch_matching, file_sizes, revisions, warn_of_cache
from .names import NamedStep, read_names
from .retrying import NoConnectionError, ask
from .run import Checkpoint, Run
from .safe_read import read_json, read_text, read_weight_file, refuse_oversize, trusted_root
from .select import Wanted, choose_from

if TYPE_CHECKING:
    from torch import Tensor

FOLDER, REVISION = "checkpoints", "main"
FILE_PATTERN = r"checkpoints/.*_(?P<tokens>\d+)\.pth"
STEPS_BELOW = 10**9  # a run whose last label is smaller counts steps, not tokens: TransformerLens' own rule


@dataclass(frozen=True)
class LegacyArchitecture:
    """A model of one of the repositories, by its `config.json`, with the tokenizer named there."""

    repository: str
    commit: str

    @cached_property
    def shape(self) -> Mapping[str, Any]:
        from ..lens.from_config import shape_of_model

        return shape_of_model(self.build())

    @cached_property
    def description(self) -> str:
        return fingerprint({"TransformerLens repository": _config(self.repository, self.commit)})

    def build(self) -> Any:
        from ..lens.legacy import legacy_config, standing_legacy_bridge

        config = ask(f"config.json of {self.repository}", partial(legacy_config, self.repository))
        return standing_legacy_bridge(config, _tokenizer_folder(self.repository, self.commit))

    def load(self, model: Any, weights: Mapping[str, Any]) -> None:
        from ..lens.legacy import swap_legacy_weights

        swap_legacy_weights(model, weights)

    def __str__(self) -> str:
        return "TransformerLens' own"


def open_legacy(
    name: str,
    checkpoints: Wanted = None,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    keep: Keep = "all",
    max_bytes: int | None = None,
) -> Run:
    """Open a repository by TransformerLens' name for it (`attn-only-2l`) or its own (`NeelNanda/…`).

    Its files are labelled with tokens seen, which are used as steps unless `tokens_per_step` is given.
    """
    from ..lens.legacy import legacy_repository

    repository = legacy_repository(name)
    kept = KeptDownloads.of(repository, keep)
    commit = revisions(repository, lambda snapshot: (snapshot / FOLDER).is_dir()).get(REVISION)
    if commit is None:
        raise RunError(f"tl:{name}: {repository} has no revision {REVISION}")
    sizes = _files(repository, commit)
    named = read_names(sizes, pattern or FILE_PATTERN)
    if not named:
        raise RunError(
            f"tl:{name}: {repository} has no {FOLDER}/*_<tokens>.pth; its {FOLDER} holds {sorted(sizes)[:10]}"
        )
    if pattern is None:
        named = [_relabel(entry, named[-1].step >= STEPS_BELOW, tokens_per_step) for entry in named]
    architecture = LegacyArchitecture(repository, commit)
    return Run(
        name=repository,
        checkpoints=[
            Checkpoint(
                entry.step,
                entry.tokens_seen,
                partial(_read, repository, entry.name, sizes[entry.name], commit, architecture, max_bytes, kept),
                architecture,
                f"tl:{repository}/{entry.name}",
                partial(int, sizes[entry.name]),
            )
            for entry in choose_from(named, checkpoints)
        ],
        architecture=architecture,
        fingerprints={"source": repository, "commit": commit},
        tokenizer_json=partial(_tokenizer_json, repository, commit),
        kept_bytes=kept.n_bytes,
    )


def _files(repository: str, commit: str) -> dict[str, int]:
    """Return the bytes of each checkpoint file; without a connection, of those in the cache."""
    try:
        return file_sizes(repository, commit, FOLDER)
    except NoConnectionError as error:
        snapshot = snapshot_folder(repository, commit)
        cached = {str(path.relative_to(snapshot)): path.stat().st_size for path in (snapshot / FOLDER).glob("*.pth")}
        if not cached:
            raise
        warn_of_cache(repository, error)
        return cached


def _relabel(entry: NamedStep, counts_tokens: bool, tokens_per_step: int | None) -> NamedStep:
    label = entry.step
    if not counts_tokens:
        return NamedStep(label, None if tokens_per_step is None else label * tokens_per_step, entry.name)
    return NamedStep(label if tokens_per_step is None else round(label / tokens_per_step), label, entry.name)


def _read(
    repository: str,
    file: str,
    n_bytes: int,
    commit: str,
    architecture: LegacyArchitecture,
    max_bytes: int | None,
    kept: KeptDownloads,
) -> dict[str, Tensor]:
    limit = weights_limit(architecture, max_bytes)
    refuse_oversize(f"{file} of {repository}", n_bytes, limit)
    snapshot = snapshot_folder(repository, commit)
    downloads = [left for left in left_over(snapshot) if left.path == snapshot / file]
    try:
        path = fetch_file(repository, file, REVISION, commit, downloads, kept.is_limited)
        return read_weight_file(path, repository_folder(repository), limit)
    finally:
        kept.add(downloads)


def _tokenizer_json(repository: str, commit: str) -> str | None:
    folder = _tokenizer_folder(repository, commit)
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    return read_text(folder / "tokenizer.json", trusted_root(folder))


def _tokenizer_folder(repository: str, commit: str) -> Path | None:
    """Return where the cache has the tokenizer, which is in a repository of its own."""
    name = _config(repository, commit).get("tokenizer_name")
    if name is None:
        return None
    own = revisions(str(name), Path.is_dir).get(REVISION)
    if own is None:
        raise RunError(f"{name}, which has the tokenizer of {repository}, has no revision {REVISION}")
    return fetch_matching(str(name), REVISION, own, TOKENIZER_FILES)


def _config(repository: str, commit: str) -> dict[str, Any]:
    file = fetch_file(repository, "config.json", REVISION, commit, [], False)
    return read_json(file, repository_folder(repository))
