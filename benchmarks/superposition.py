"""Toy models against what is published of them, and what they cost: `python benchmarks/superposition.py [SECTION …]`.

Sections, all by default: levels, many_features, boundaries, polygons, jumps, descent, cost. Each
says what it measures and prints the figures beside what they should be.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from common import best_of

from inductionkit.superposition import (
    ToyModels,
    double_descent,
    expected_loss,
    feature_dimensionality,
    find_jumps,
    find_polytopes,
    find_test_loss_peak,
    log_spaced_steps,
    losses_cross,
    phase_diagram,
    polygon_losses,
    state_agreement,
    train_polygons,
    train_toy_models,
)
from inductionkit.superposition.dimensionality import STICKY_LEVELS

LEVEL_SETTINGS = {  # features, hidden dimensions, density
    "alone": (3, 3, 0.5),
    "tetrahedron": (4, 3, 0.6),
    "triangle": (3, 2, 0.6),
    "digon": (4, 2, 0.05),
    "pentagon": (5, 2, 0.05),
    "square antiprism": (8, 3, 0.05),
}
N_FEATURES, N_HIDDEN, DENSITY, N_MODELS = 20, 5, 0.05, 1000


def levels() -> None:
    """The best of 64 starts in settings that give each level: largest distance of a feature from it."""
    for polytope, (n_features, n_hidden, density) in LEVEL_SETTINGS.items():
        models = ToyModels(n_features, n_hidden, density, seed=np.arange(64))
        history = train_toy_models(
            models, 4000, batch_size=512, learning_rate=1e-2, schedule="cosine", steps=[4000], progress=False
        )
        weight, bias = (torch.tensor(history[name].values[:, -1]).double() for name in ("weight", "bias"))
        losses = expected_loss(weight, bias, torch.tensor(models.density), torch.tensor(models.importance))
        dimensionality = feature_dimensionality(weight.numpy())
        off = np.abs(dimensionality - STICKY_LEVELS[polytope]).max(axis=1)
        best = int(losses.argmin())
        variances = np.linalg.svd(weight[best].numpy(), compute_uv=False) ** 2
        print(
            f"  {polytope:<16} n={n_features} m={n_hidden} density {density:<4}  level {STICKY_LEVELS[polytope]:.3f}, "
            f"off by at most {off[best]:.4f} ({(off < 0.02).mean():.0%} of starts within 0.02); "
            f"found {'/'.join(sorted(set(find_polytopes(weight[best].numpy())['polytope'])))}; "
            f"sum of D {dimensionality[best].sum():.4f}, of any start at most {dimensionality.sum(axis=1).max():.4f}; "
            f"W W^T is c I up to {variances.std() / variances.mean():.3f}"
        )


def many_features() -> None:
    """E22's uniform setting, 400 features in 30 dimensions: where do dimensionalities lie?"""
    densities = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.03])
    models = ToyModels(400, 30, densities[:, None])
    history = train_toy_models(
        models, 4000, batch_size=512, learning_rate=3e-3, schedule="cosine", steps=[4000], progress=False
    )
    for density, weight in zip(densities, history["weight"].values[:, -1]):
        dimensionality = feature_dimensionality(weight)[np.linalg.norm(weight, axis=0) > 0.5]
        near = {name: (np.abs(dimensionality - level) < 0.02).mean() for name, level in STICKY_LEVELS.items()}
        text = ", ".join(f"{name} {share:.0%}" for name, share in near.items() if share > 0.005)
        print(
            f"  density {density:<5} {len(dimensionality):>3} represented, m/|W|^2 = {30 / (weight**2).sum():.3f}, "
            f"sum of D {dimensionality.sum():.2f} of 30; within 0.02 of {text or 'no level'}"
        )


def boundaries() -> None:
    """Closed form against the best of 8 starts, 12 by 12 cells: at least 95 % of cells away from a boundary agree."""
    for n_hidden in (1, 2):
        diagram = phase_diagram(n_hidden, progress=False)
        excess = diagram["trained_loss"] / diagram["loss"].min("solution") - 1
        agrees = (diagram["best_state"] == diagram["trained_state"]).values
        print(
            f"  n={n_hidden + 1} m={n_hidden}: {state_agreement(diagram):.1%} of "
            f"{(~diagram['on_boundary'].values).sum()} cells agree, {agrees.mean():.1%} of all {agrees.size}; trained "
            f"losses above the best closed form by {excess.values.min():.2%} to {excess.values.max():.2%}"
        )


def polygons() -> None:
    """Where the losses of pentagon and digons cross, exactly and as the best of 64 starts."""
    relative = np.geomspace(0.16, 0.7, 17)
    exact, trained = polygon_losses(relative), train_polygons(relative, progress=False)
    at = {"exact": 1 / losses_cross(exact), "trained": 1 / losses_cross(trained)}
    print(f"  density 0.05: exact {at['exact']:.2f}, trained {at['trained']:.2f} times sparser (published: about 2.5)")
    in_digons = (trained["n_ended"].sel(geometry="digons") / trained["n_ended"].sum("geometry")).values
    print("  share of starts that end in digons, by times sparser:")
    print("  " + "  ".join(f"{1 / one:.2f}: {share:.0%}" for one, share in zip(relative, in_digons)))
    off = np.nanmax(np.abs(trained["loss"].values / exact["loss"].values - 1))
    print(f"  losses of the trained branches are within {off:.2%} of the exact ones")
    for density in (0.02, 0.05, 0.08, 0.1, 0.2):
        crossing = losses_cross(polygon_losses(np.geomspace(0.1, 1, 25), density))
        print(f"  density {density:<4}: exact {1 / crossing:.2f} times sparser")


def jumps() -> None:
    """Jumps of 48 features in 12 dimensions, four seeds a density: at least 80 % on loss drops."""
    densities = np.repeat([0.25, 0.3, 0.4], 4)
    models = ToyModels(48, 12, densities[:, None], seed=np.tile(np.arange(10, 14), 3))
    history = train_toy_models(models, 10_000, batch_size=512, steps=log_spaced_steps(10_000, 120), progress=False)
    together = {f"density {density}": history.isel(instance=densities == density) for density in np.unique(densities)}
    for name, runs in {**together, "all": history}.items():
        found = find_jumps(runs)
        print(
            f"  {name}: {len(found.jumps)} jumps, {found.share_on_drops:.0%} on drops, "
            f"{found.shuffled_share:.0%} when moved in time (p = {found.p_value:.3f})"
        )


def descent() -> None:
    """Test loss against the size of the data set, three seeds: a peak, points stored left of it, features right."""
    began = time.perf_counter()
    result = double_descent(progress=False)
    seconds, peak = time.perf_counter() - began, find_test_loss_peak(result)
    print("  points  test loss by seed      training loss (mean)  D of points  D of features")
    for size in result["n_points"].values:
        at = result.sel(n_points=size)
        print(
            f"  {size:>6}  {'  '.join(f'{loss:.3f}' for loss in at['test_loss'].values):<21}  "
            f"{at['training_loss'].mean().item():>20.3f}  {at['typical_point_dimensionality'].mean().item():11.3f}  "
            f"{at['typical_feature_dimensionality'].mean().item():13.3f}"
        )
    for seed in peak["seed"].values:
        at = peak.sel(seed=seed)
        print(
            f"  seed {seed}: peak at {at['peak_n_points'].item()} points, {at['peak_height'].item():.2f} times the "
            f"lower losses; points stored left of it {at['stores_points_left'].item():.0%}, features right "
            f"{at['stores_features_right'].item():.0%}"
        )
    print(f"  {seconds:.0f} s with {torch.get_num_threads()} threads")


def plain_loop(n_steps: int, batch_size: int) -> None:
    """One model as one would write it down; a thousand take a thousand times as long."""
    weight = torch.nn.Parameter(torch.randn(N_HIDDEN, N_FEATURES) * 0.3)
    bias = torch.nn.Parameter(torch.zeros(N_FEATURES))
    optimiser = torch.optim.AdamW([weight, bias], lr=1e-3)
    importance = 0.9 ** torch.arange(N_FEATURES)
    for _ in range(n_steps):
        active = torch.rand(batch_size, N_FEATURES) < DENSITY
        x = torch.where(active, torch.rand(batch_size, N_FEATURES), 0.0)
        output = torch.relu(x @ weight.T @ weight + bias)
        loss = (importance * (x - output) ** 2).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def batched_by_autograd(n_steps: int, batch_size: int, n_models: int = 10) -> None:
    weight = torch.nn.Parameter(torch.randn(n_models, N_FEATURES, N_HIDDEN) * 0.3)
    bias = torch.nn.Parameter(torch.zeros(n_models, N_FEATURES))
    optimiser = torch.optim.AdamW([weight, bias], lr=1e-3)
    importance = 0.9 ** torch.arange(N_FEATURES)
    shape = batch_size, n_models, N_FEATURES
    for _ in range(n_steps):
        x = torch.where(torch.rand(shape) < DENSITY, torch.rand(shape), 0.0)
        hidden = torch.einsum("bif,ifh->bih", x, weight)
        output = torch.relu(torch.einsum("bih,ifh->bif", hidden, weight) + bias)
        loss = (importance * (x - output) ** 2).mean(dim=(0, 2)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def microseconds_per_model_step(batch_size: int, densities: np.ndarray | float) -> dict[str, float]:
    models = ToyModels(
        N_FEATURES, N_HIDDEN, densities, importance=0.9 ** np.arange(N_FEATURES), seed=np.arange(N_MODELS)
    )

    def thousand(n_steps: int) -> None:
        train_toy_models(models, n_steps=n_steps, batch_size=batch_size, steps=[0], progress=False)

    calls = {
        "plain": lambda: plain_loop(300, batch_size),
        "ten": lambda: batched_by_autograd(60, batch_size),
        "start": lambda: thousand(1),
        "thousand": lambda: thousand(9),
    }
    seconds = best_of(calls, 5)
    # What is done once, drawing weights and evaluating the first, is taken off: runs have thousands of steps.
    steps = (seconds["thousand"] - seconds["start"]) / 8
    return {
        "plain": seconds["plain"] / 300 * 1e6,
        "ten": seconds["ten"] / 60 / 10 * 1e6,
        "thousand": steps / N_MODELS * 1e6,
    }


def cost() -> None:
    """A thousand models of 20 features in 5 dimensions at once, against a loop over single ones and ten at once.

    Ten are batched with autograd, as E22's notebook does; all draw fresh batches and use AdamW.
    """
    n_threads_before = torch.get_num_threads()
    varied = np.geomspace(0.01, 1, N_MODELS)[:, None]
    for n_threads in sorted({1, n_threads_before}):
        torch.set_num_threads(n_threads)
        for batch_size in (1024, 256):
            for name, densities in (("one density", DENSITY), ("1,000 densities", varied)):
                took = microseconds_per_model_step(batch_size, densities)
                print(
                    f"  {n_threads} threads, batch {batch_size:>4}, {name:<15}  µs per model and step: plain loop "
                    f"{took['plain']:6.1f}, ten at once {took['ten']:6.1f}, 1,000 at once {took['thousand']:6.1f}; "
                    f"plain / ours {took['plain'] / took['thousand']:5.1f}, "
                    f"ten / ours {took['ten'] / took['thousand']:5.1f}"
                )
    torch.set_num_threads(n_threads_before)


SECTIONS = {
    function.__name__: function for function in (levels, many_features, boundaries, polygons, jumps, descent, cost)
}


def main() -> None:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in sys.argv[1:] or SECTIONS:
        print(f"{name}: {SECTIONS[name].__doc__.splitlines()[0]}", flush=True)
        SECTIONS[name]()


if __name__ == "__main__":
    main()
