"""The demo: from the bundled run's checkpoints to the explorer, in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from .history import example_history, measured_on, n_examples
from .phase import find_phase_change
from .phase.heads import heads_text
from .runs import open_run
from .scan.run_scan import scan_run
from .widgets import PhaseExplorer

N_EVALUATION = 64  # held-out examples per checkpoint: enough to see the change, within half a minute


def run_demo(out: Path, console: Console) -> None:
    """Scan both bundled runs into `out`, print what was found, write `out/phase.html`."""
    out.mkdir(parents=True, exist_ok=True)
    run, control = open_run("bundled"), open_run("bundled:one-layer")
    console.print(f"[bold]{run!r}[/]")
    history = scan_run(run, store=out / "two-layer.zarr", n_evaluation=N_EVALUATION, n_nulls=1)
    console.print(f"[bold]{control!r}[/]")
    control_history = scan_run(control, store=out / "one-layer.zarr", n_evaluation=N_EVALUATION, n_nulls=1)

    console.print(_progress_table(history))
    console.print(f"Measured on {measured_on(history)}.")
    console.print(
        f"The score ends at {_score_at_end(history)}. The history that comes with the package, which README and "
        f"notebooks show, ends at {_score_at_end(example_history())}."
    )
    console.print(f"\n{heads_text(history)}")
    phase, no_phase = find_phase_change(history), find_phase_change(control_history)
    console.print(f"\n{phase.verdict}\n{phase!r}")
    console.print(f"\nThe one-layer control: {no_phase!r}")

    page = PhaseExplorer(history, phase=phase, control=control_history).save(out / "phase.html")
    console.print(f"\nHistories: {out / 'two-layer.zarr'}, {out / 'one-layer.zarr'}")
    console.print(f"[bold]Open {page} in a browser[/], or `make lab` for the tutorial.")


def _progress_table(history: xr.Dataset) -> Table:
    """A row a checkpoint: what moves together."""
    table = Table(title="What moves together", title_justify="left")
    for name in ("step", "tokens", "loss", "in-context-learning score", "prefix matching", "previous token"):
        table.add_column(name, justify="right")
    for step in history["step"].values:
        at = history.sel(step=step)
        table.add_row(
            f"{step:,}",
            f"{at['tokens_seen'].item() / 1e6:.2f}M",
            f"{at['loss'].item():.3f}",
            f"{at['icl_score'].item():+.3f}",
            _best(at["prefix_matching"]),
            _best(at["previous_token"]),
        )
    return table


def _score_at_end(history: xr.Dataset) -> str:
    """The in-context-learning score at the last checkpoint, its standard error over examples, and their number."""
    examples = history["example_icl_score"].isel(step=-1).values
    error = examples.std(ddof=1) / np.sqrt(len(examples))
    return f"{history['icl_score'].values[-1]:+.2f} ± {error:.2f} nats ({n_examples(history)} held-out examples)"


def _best(score: xr.DataArray) -> str:
    layer, head = np.unravel_index(int(score.values.argmax()), score.shape)
    return f"{float(score.max()):.3f} ({layer}.{head})"
