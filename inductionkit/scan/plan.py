"""What a scan would read and take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..history import history_steps
from ..lens.lens import DEFAULT_MAX_BYTES
from ..runs import Run


@dataclass(frozen=True, repr=False)
class ScanPlan:
    """What `scan_run` would do: sizes in bytes, None where a source does not tell; estimates, but for the counts.

    Of the `run`, `n_checkpoints` are asked for, `n_scanned` of them are in the store already, and `n_workers` scan the
    others. `checkpoint_bytes` is the size of the largest of these, `read_bytes` is read or downloaded in all;
    `download_bytes` is the most that lies on disk at a time of what is downloaded; `memory_bytes` is what models,
    checkpoints and activations take in all workers together.
    """

    run: Run
    n_checkpoints: int
    n_scanned: int
    n_workers: int
    checkpoint_bytes: int | None
    read_bytes: int | None
    download_bytes: int | None
    memory_bytes: int

    def __repr__(self) -> str:
        lines = [repr(self.run), f"to scan: {self.n_checkpoints - self.n_scanned} of {self.n_checkpoints} checkpoints"]
        told = "of unknown size" if self.checkpoint_bytes is None else f"{_size(self.checkpoint_bytes)} each at most"
        whole = "" if self.read_bytes is None else f", about {_size(self.read_bytes)} in all"
        lines.append(f"to read: {told}{whole}")
        if self.download_bytes is None:
            lines.append("disk:    nothing is downloaded")
        else:
            lines.append(f"disk:    at most {_size(self.download_bytes)} of downloads at a time")
        lines.append(
            f"memory:  about {_size(self.memory_bytes)} in {self.n_workers} worker{'s' * (self.n_workers > 1)}"
        )
        return "\n".join(lines)


def plan_scan(run: Run, store: str | Path | None = None, n_workers: int = 1) -> ScanPlan:
    """What a scan of `run` into `store` would read, and the disk and memory it would take; nothing is downloaded.

    The first and the last checkpoint that are missing are asked for their sizes, the others are taken to
    be like the larger. Each of `n_workers` holds a model and two checkpoints.
    """
    done = set() if store is None else set(history_steps(store))
    missing = [checkpoint for checkpoint in run.checkpoints if checkpoint.step not in done]
    sizes = [checkpoint.n_bytes() for checkpoint in missing[:1] + missing[-1:]]
    known = [size for size in sizes if size is not None]
    largest = max(known, default=0) if len(known) == len(sizes) else None
    float32_bytes = run.model["float32_bytes"]
    # The model, the checkpoint at hand and the one that is read ahead, activations.
    memory = float32_bytes + 2 * max(float32_bytes, largest or 0) + DEFAULT_MAX_BYTES
    return ScanPlan(
        run=run,
        n_checkpoints=len(run.checkpoints),
        n_scanned=len(run.checkpoints) - len(missing),
        n_workers=n_workers,
        checkpoint_bytes=largest,
        read_bytes=None if largest is None else largest * len(missing),
        download_bytes=_downloads(run, largest, len(missing), n_workers),
        memory_bytes=n_workers * memory,
    )


def _downloads(run: Run, largest: int | None, n_missing: int, n_workers: int) -> int | None:
    if run.kept_bytes is None or largest is None:
        return None
    # Besides what is kept, each worker holds a checkpoint at hand and one read ahead.
    return int(min(largest * n_missing, n_workers * (run.kept_bytes + 2 * largest)))


def _size(n_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
