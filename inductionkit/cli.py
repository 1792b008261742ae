"""The command line: `inductionkit demo | train | scan | explore`."""

from __future__ import annotations

import json
import sys
import webbrowser
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .errors import InductionKitError, RecipeError

app = typer.Typer(
    help="See induction heads form: train, scan and explore the transformer phase change.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]


@app.command()
def demo(out: Out = Path("out")) -> None:
    """Scan the bundled run and its control, say where the phase change is, write the explorer."""
    from .demo import run_demo

    run_demo(out, console)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A built-in recipe or a TOML file; a table of recipes trains them all.")
    ],
    out: Out,
    threads: Annotated[int, typer.Option(help="Threads for torch; part of what makes a run repeatable.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes to train a table with.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="A run of the table; repeat for more. Default: all.")] = None,
) -> None:
    """Train the model of RECIPE; called again on the same folder, go on where it stopped.

    A table of recipes is trained into a folder for each run.
    """
    from .train import load_recipes, train_table
    from .train import train as train_run
    from .workers import RestartingPool

    recipes = load_recipes(recipe)
    show = sys.stderr.isatty() or console.is_terminal
    if len(recipes) == 1 and not only:
        folders = [train_run(recipes[0], out, progress=show, n_threads=threads)]
    else:
        names = [one.name for one in recipes]
        if unknown := sorted(set(only or ()) - set(names)):
            raise RecipeError(f"{recipe} has no run {', '.join(unknown)}; it has {', '.join(names)}")
        chosen = [one for one in recipes if not only or one.name in only]
        with nullcontext() if workers == 1 else RestartingPool(workers) as executor:
            folders = train_table(chosen, out, executor, progress=show)
    for folder in folders:
        console.print(f"{folder.path}: {len(folder.manifest['checkpoints'])} checkpoints")


@app.command()
def scan(
    source: Annotated[
        str, typer.Argument(help="A run's folder, a folder of checkpoints, 'hf:ORG/NAME', 'tl:NAME' or 'bundled'.")
    ],
    store: Annotated[
        str, typer.Option(help="Zarr folder or URL to keep the history in; a scan goes on where it stopped.")
    ],
    checkpoints: Annotated[
        str | None, typer.Option(help="How many, evenly spaced ('20') or in log steps ('log:20'); default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to scan with.")] = 1,
    skip: Annotated[bool, typer.Option(help="Go on after a checkpoint that cannot be read, and report it.")] = False,
    keep: Annotated[
        str | None, typer.Option(help="Downloads to keep in the cache: 'all' (default), 'none' or a number of bytes.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Only tell what would be read, and the disk and memory it takes.")
    ] = False,
) -> None:
    """Scan every checkpoint of a run and say where the phase change is."""
    from .phase import find_phase_change
    from .runs import open_run
    from .scan.scanning import scan_run
    from .workers import RestartingPool

    run = open_run(
        source,
        checkpoints=int(checkpoints) if checkpoints is not None and checkpoints.isdigit() else checkpoints,
        keep=int(keep) if keep is not None and keep.isdigit() else keep,
    )
    if dry_run:
        from .scan.plan import plan_scan

        console.print(plan_scan(run, store, workers))
        return
    with nullcontext() if workers == 1 else RestartingPool(workers) as executor:
        history = scan_run(
            run,
            store=store,
            executor=executor,
            on_error="skip" if skip else "stop",
        )
    for step, reason in json.loads(history.attrs.get("skipped", "{}")).items():
        console.print(f"step {step} skipped: {reason}", markup=False)
    console.print(find_phase_change(history))


@app.command()
def explore(
    history: Annotated[Path, typer.Argument(help="A history that a scan stored.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("phase.html"),
    show: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Write the explorer of a history to one HTML file, and open it."""
    from .history import open_history
    from .phase import find_phase_change
    from .widgets import PhaseExplorer

    opened = open_history(history)
    phase = find_phase_change(opened)
    path = PhaseExplorer(opened, window=phase if phase else None).save(out)
    console.print(f"wrote {path}")
    if show:
        webbrowser.open(path.resolve().as_uri())


def main() -> None:
    """Entry point: the project's own errors become one line on stderr and exit status 1."""
    try:
        app()
    except InductionKitError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False)
        raise SystemExit(1) from None
