"""The command line. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
import webbrowser
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .errors import InductionKitError, RecipeError
from .system.json_values import json_values

if TYPE_CHECKING:
    import xarray as xr

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Histories = Annotated[list[Path], typer.Argument(help="Histories that scans stored.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
ON_DEVICE = "Where torch computes, as cuda or mps."


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """See induction heads form: train, scan and explore the transformer phase change.

    Exit status: 0 when all went well, 1 for an error, 2 for a command that cannot be understood.
    """
    if show:
        from . import __version__

        print(__version__)
        raise typer.Exit


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
    device: Annotated[str, typer.Option(help=ON_DEVICE)] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train the model of RECIPE; called again on the same folder, go on where it stopped.

    A table of recipes is trained into a folder for each run.
    """
    from .scan.restarting_pool import RestartingPool
    from .train import load_recipes, train_table
    from .train import train as train_run

    recipes = load_recipes(recipe)
    show = sys.stderr.isatty() or console.is_terminal
    if len(recipes) == 1 and not only:
        folders = [train_run(recipes[0], out, progress=show, n_threads=threads, device=device)]
    else:
        names = [one.name for one in recipes]
        if unknown := sorted(set(only or ()) - set(names)):
            raise RecipeError(f"{recipe} has no run {', '.join(unknown)}; it has {', '.join(names)}")
        chosen = [one for one in recipes if not only or one.name in only]
        with nullcontext() if workers == 1 else RestartingPool(workers) as executor:
            folders = train_table(chosen, out, executor, progress=show, device=device)
    counts = {str(folder.path): len(folder.manifest["checkpoints"]) for folder in folders}
    said = "\n".join(f"{path}: {n_checkpoints} checkpoints" for path, n_checkpoints in counts.items())
    _say(said, [{"run": path, "checkpoints": n_checkpoints} for path, n_checkpoints in counts.items()], as_json)


@app.command()
def scan(
    source: Annotated[
        str, typer.Argument(help="A run's folder, checkpoints, a .gguf file, 'hf:ORG/NAME', 'tl:NAME' or 'bundled'.")
    ],
    store: Annotated[
        str, typer.Option(help="Zarr folder or URL to keep the history in; a scan goes on where it stopped.")
    ],
    checkpoints: Annotated[
        str | None, typer.Option(help="How many, evenly spaced ('20') or in log steps ('log:20'); default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to scan with.")] = 1,
    skip: Annotated[bool, typer.Option(help="Go on after a checkpoint that cannot be read, and report it.")] = False,
    circuit: Annotated[bool, typer.Option(help="Trace the induction circuit at each checkpoint too.")] = False,
    keep: Annotated[
        str | None, typer.Option(help="Downloads to keep in the cache: 'all' (default), 'none' or a number of bytes.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Only tell what would be read, and the disk and memory it takes.")
    ] = False,
    device: Annotated[str | None, typer.Option(help=f"{ON_DEVICE} Default: the CPU.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scan every checkpoint of a run and say where the phase change is."""
    from .phase import find_phase_change
    from .phase.heads import heads_text, induction_heads
    from .runs import open_run
    from .scan.restarting_pool import RestartingPool
    from .scan.run_scan import scan_run

    run = open_run(
        source,
        checkpoints=int(checkpoints) if checkpoints is not None and checkpoints.isdigit() else checkpoints,
        keep=int(keep) if keep is not None and keep.isdigit() else keep,
    )
    run = run if device is None else run.to(device)
    if dry_run:
        from .scan.plan import plan_scan

        plan = plan_scan(run, store, workers)
        return _say(repr(plan), vars(plan) | {"run": run.name}, as_json)
    with nullcontext() if workers == 1 else RestartingPool(workers) as executor:
        history = scan_run(
            run,
            circuit=circuit,
            store=store,
            executor=executor,
            on_error="skip" if skip else "stop",
        )
    phase, skipped = find_phase_change(history), json.loads(history.attrs.get("skipped", "{}"))
    said = [f"step {step} skipped: {reason}" for step, reason in skipped.items()]
    heads = induction_heads(history.isel(step=-1)).reset_index().to_dict("records")
    found = {"store": store, "skipped": skipped, "phase_change": phase, "induction_heads": heads}
    _say("\n".join([*said, repr(phase), heads_text(history)]), found, as_json)


@app.command()
def phase(histories: Histories, as_json: AsJson = False) -> None:
    """Say where the phase change of stored histories is."""
    from .phase import find_phase_change

    found = {name: find_phase_change(history) for name, history in _opened(histories).items()}
    _say("\n".join(f"{name}: {change!r}" for name, change in found.items()), found, as_json)


@app.command()
def report(
    histories: Histories,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .html file, or .md with its figures beside it.")] = Path(
        "report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Write what the analysis says of histories: verdict, table, figures, heads, settings, versions."""
    from .report import write_report

    path = write_report(_opened(histories), out)
    _say(f"wrote {path}", {"report": path}, as_json)


@app.command()
def explore(
    history: Annotated[Path, typer.Argument(help="A history that a scan stored.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("phase.html"),
    show: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write the explorer of a history to one HTML file, and open it."""
    from .history import open_history
    from .phase import find_phase_change
    from .widgets import PhaseExplorer

    opened = open_history(history)
    path = PhaseExplorer(opened, phase=find_phase_change(opened)).save(out)
    _say(f"wrote {path}", {"page": path}, as_json)
    if show:
        webbrowser.open(path.resolve().as_uri())


def _opened(paths: list[Path]) -> dict[str, xr.Dataset]:
    """Histories by the names of their files, or by their paths where two files are named alike."""
    from .history import open_history

    names = [path.name.split(".zarr")[0] for path in paths]
    return {name if names.count(name) == 1 else str(path): open_history(path) for name, path in zip(names, paths)}


def _say(text: str, results: object, as_json: bool) -> None:
    """Print results: `text` for people, `results` as JSON for programs."""
    print(json.dumps(json_values(results), indent=2) if as_json else text)


def main() -> None:
    """Entry point: the project's own errors become one line on stderr and exit status 1."""
    try:
        app()
    except InductionKitError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
