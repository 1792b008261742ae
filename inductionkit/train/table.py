"""Many runs, by any executor."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

from ..errors import RecipeError
from ..system.progress import progress_bar
from .loop import train
from .recipe import Recipe
from .run_folder import RunFolder


def train_table(
    recipes: Sequence[Recipe],
    out: str | Path,
    executor: Executor | None = None,
    progress: bool = True,
    device: str = "cpu",
) -> list[RunFolder]:
    """Train each of `recipes` into `out/NAME`, one after the other or by an executor's workers.

    Called again, finished runs are passed over and the others go on where they stopped. An error in one run is raised
    once the others have ended. `progress` shows a bar, `device` is as in `train`. Returns the run folders, in the order
    of the recipes.
    """
    names = [recipe.name for recipe in recipes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"recipes of one table need names of their own; {', '.join(twice)} stands there twice")
    if executor is None:
        return [train(recipe, Path(out) / recipe.name, progress, device=device) for recipe in recipes]
    futures = {executor.submit(_train_run, recipe, Path(out) / recipe.name, device): recipe.name for recipe in recipes}
    with progress_bar(progress) as bar:
        task = bar.add_task("runs", total=len(futures), at="")
        for future in as_completed(futures):
            bar.update(task, advance=1, at=f"{futures[future]} ended")
    return [RunFolder.open(future.result()) for future in futures]


def _train_run(recipe: Recipe, out: Path, device: str) -> Path:
    return train(recipe, out, progress=False, device=device).path
