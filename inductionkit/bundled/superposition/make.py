"""How the example experiments were made: `python -m inductionkit.bundled.superposition.make OUT [NAME …]`.

They take about ten minutes of one core. Trajectories are those of the best of many starts, by exact loss.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ...superposition import (
    ToyModels,
    double_descent,
    expected_loss,
    log_spaced_steps,
    measure_dimensionality,
    measure_geometry,
    phase_diagram,
    save_experiment,
    train_polygons,
    train_toy_models,
)

DENSITIES = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
N_STARTS = 24


def geometry(n_features: int, n_hidden: int) -> xr.Dataset:
    """One trajectory a density, in 61 steps."""
    models = ToyModels(
        n_features,
        n_hidden,
        density=np.repeat(DENSITIES, N_STARTS)[:, None],
        seed=np.tile(np.arange(N_STARTS), len(DENSITIES)),
    )
    history = train_toy_models(
        models,
        n_steps=4000,
        batch_size=512,
        learning_rate=5e-3,
        schedule="cosine",
        steps=log_spaced_steps(4000, 66),
    )
    ends = (history["weight"][:, -1], history["bias"][:, -1], history["density"], history["importance"])
    losses = expected_loss(*(torch.tensor(array.values).double() for array in ends)).reshape(-1, N_STARTS)
    best = np.arange(len(DENSITIES)) * N_STARTS + losses.argmin(dim=1).numpy()
    return measured(history.isel(instance=best))


def energy_levels() -> xr.Dataset:
    """Three models whose features all end in digons, in about 110 steps."""
    models = ToyModels(48, 12, density=0.3, seed=np.arange(3))
    return measured(train_toy_models(models, n_steps=10_000, batch_size=512, steps=log_spaced_steps(10_000, 120)))


def measured(history: xr.Dataset) -> xr.Dataset:
    return history.assign({**measure_dimensionality(history).data_vars, **measure_geometry(history).data_vars})


EXPERIMENTS: dict[str, Callable[[], xr.Dataset]] = {
    "geometry-2d": lambda: geometry(5, 2),
    "geometry-3d": lambda: geometry(8, 3),
    "energy-levels": energy_levels,
    "phase-diagram-2-1": lambda: phase_diagram(1),
    "phase-diagram-3-2": lambda: phase_diagram(2),
    "pentagon-digons": train_polygons,
    "double-descent": double_descent,
}


def make(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)  # such small matrices are slower on several
    for name in names or EXPERIMENTS:
        save_experiment(EXPERIMENTS[name](), out / f"{name}.zarr.zip")


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2:])
