"""The pivot: where the per-token losses, on their first two principal components, leave the line they moved along."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .bump import past_beginning
from .criteria import PhaseCriteria
from .rise import Rise, Series, rises

Path = Float[np.ndarray, "step 2"]

CHORD = 0.4  # in log of elapsed training: a path's direction is that of its way while training grows 1.5 times
N_GRID = 400


def token_loss_path(token_loss: Float[np.ndarray, "step sample"], untrained_loss: float | None = None) -> Path:
    """Per-token losses on their first two principal components; NaN where not measured and at the beginning.

    The beginning is left out as for the bump: what single tokens' frequencies explain is learned there, and would be
    the first component.
    """
    path = np.full((len(token_loss), 2), np.nan)
    known = np.flatnonzero(np.isfinite(token_loss).all(1))
    known = known[past_beginning(token_loss[known].mean(1), untrained_loss) :]
    if len(known) > 2:
        path[known] = principal_components(token_loss[known], 2)[0]
    return path


def resampled_paths(
    token_loss: Float[np.ndarray, "step sample"], path: Path, weights: Float[np.ndarray, "draw sample"]
) -> Float[np.ndarray, "draw step 2"]:
    """The path with samples weighted anew, on the principal components of all samples with weight 1."""
    known = np.isfinite(path[:, 0])
    centred = token_loss[known] - token_loss[known].mean(0)
    loadings = centred.T @ path[known] / np.maximum((path[known] ** 2).sum(0), np.finfo(float).tiny)
    paths = np.full((len(weights), *path.shape), np.nan)
    for component in range(2):
        paths[:, known, component] = (weights * loadings[:, component]) @ centred.T
    return paths


def principal_components(
    vectors: Float[np.ndarray, "row column"], n_components: int
) -> tuple[Float[np.ndarray, "row component"], Float[np.ndarray, " component"]]:
    """Rows about their mean on their first principal components, and the share of the variance of each.

    From the rows' inner products, of which there are fewer than columns. Each component's sign is such that the last
    row lies no lower than the first. Components beyond the number of rows are 0.
    """
    centred = vectors - vectors.mean(0)
    variance, axes = np.linalg.eigh(centred @ centred.T)
    variance, axes = variance[::-1][:n_components].clip(0), axes[:, ::-1][:, :n_components]
    axes = axes * np.where(axes[-1] < axes[0], -1, 1)
    missing = (0, max(n_components - len(variance), 0))
    variance, axes = np.pad(variance, missing), np.pad(axes, ((0, 0), missing))
    return axes * np.sqrt(variance), variance / max((centred**2).sum(), np.finfo(float).tiny)


def pivots(log_elapsed: Series, path: Path, criteria: PhaseCriteria = PhaseCriteria()) -> list[Rise]:
    """The pivot of a path, at most one: where it leaves the line it moved along, as a rise of its distance from it.

    Its corner is where going straight on would lead farthest from where the path is a `CHORD` later: by `min_pivot`
    of the path's extent (the diagonal of the rectangle it fits in) or more, else there is none. From the corner
    on, the distance to that line rises; this gives the window, and its share of the extent the size. A path of steady
    learning bends too, but all along; so a change that takes its time may not stand out.

    >>> x = np.linspace(0, 4, 41)
    >>> corner_at_2 = np.stack([np.minimum(x, 2), np.maximum(x - 2, 0)], axis=1)
    >>> [(round(pivot.start, 1), round(pivot.end, 1)) for pivot in pivots(x, corner_at_2, PhaseCriteria(min_pivot=0.1))]
    [(2.2, 3.6)]
    """
    known = np.isfinite(path[:, 0])
    x, path = log_elapsed[known], path[known]
    chord = max(CHORD, float(np.median(np.diff(x)))) if len(x) > 2 else np.inf
    if not x[0] + chord < x[-1] - chord:
        return []
    at = np.linspace(x[0] + chord, x[-1] - chord, N_GRID)
    here = _along(path, x, at)
    before, after = here - _along(path, x, at - chord), _along(path, x, at + chord) - here
    before /= np.maximum(np.linalg.norm(before, axis=1, keepdims=True), np.finfo(float).tiny)
    away = _cross(before, after)
    corner = int(np.argmax(abs(away)))
    extent = float(np.hypot(*np.ptp(path, axis=0)))
    if not abs(away[corner]) >= criteria.min_pivot * extent > 0:
        return []
    later = x > at[corner]
    distance = np.sign(away[corner]) * _cross(before[corner], path[later] - here[corner]) / extent
    return rises(np.r_[at[corner], x[later]], np.r_[0.0, distance], criteria.min_pivot, criteria)[:1]


def _along(path: Path, x: Series, at: Series) -> Float[np.ndarray, "point 2"]:
    return np.stack([np.interp(at, x, component) for component in path.T], axis=1)


def _cross(a: Float[np.ndarray, "*point 2"], b: Float[np.ndarray, "*point 2"]) -> Float[np.ndarray, " *point"]:
    product: np.ndarray = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product
