"""Which features share a subspace, and which polytope they form there. NumPy alone.

E22 finds the features of a model in small groups, orthogonal to each other, each the corners of a
polytope. Groups are the connected components of the graph of interference; a group is named by
the polytope whose Gram matrix its own comes nearest to.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from ..errors import ModelError
from ..system.real_numbers import real_number
from .dimensionality import feature_dimensionality
from .history import validate

MIN_NORM = 0.5
MIN_COSINE = 0.15
MIN_GOODNESS = 0.9


def interference_graph(
    weight: Float[np.ndarray, "hidden feature"], min_norm: float = MIN_NORM, min_cosine: float = MIN_COSINE
) -> Bool[np.ndarray, "feature other"]:
    """Which pairs of represented features interfere: lengths of at least `min_norm`, a cosine of `min_cosine` or more.

    The sign of the cosine does not count; features are the columns of `weight`. Trained weights keep cosines of a few
    hundredths between features of different groups; the least cosine inside a polytope of E22 is 0.31, between
    neighbours of a pentagon (0.14 between some corners of an antiprism, which others connect). Raises ModelError for a
    negative `min_norm` or a `min_cosine` outside 0 to 1.
    """
    min_norm = real_number(min_norm, "min_norm", "[0, inf)", ModelError)
    min_cosine = real_number(min_cosine, "min_cosine", "[0, 1]", ModelError)
    norms = np.linalg.norm(weight, axis=0)
    represented = norms >= min_norm
    units = weight / np.where(norms > 0, norms, 1)
    graph: np.ndarray = (np.abs(units.T @ units) >= min_cosine) & represented & represented[:, None]
    np.fill_diagonal(graph, False)
    return graph


def find_polytopes(
    weight: Float[np.ndarray, "hidden feature"],
    min_norm: float = MIN_NORM,
    min_cosine: float = MIN_COSINE,
    min_goodness: float = MIN_GOODNESS,
) -> pd.DataFrame:
    """The groups of features that share a subspace, with the polytope each forms; a row a group.

    Features are the columns of `weight`; `min_norm` and `min_cosine` are those of `interference_graph`. Columns:
    `features` (a tuple), `polytope` (`alone`, `digon`, `triangle`, `tetrahedron`, `pentagon`, `square antiprism`, or
    `none` below `min_goodness`), `nearest` (the nearest polytope of as many corners, `none` if there is none),
    `goodness` (0 to 1, see `polytope_goodness`), `n_dims` (of the subspace that a tenth or more of the largest
    variance reaches) and `dimensionality` (mean D over the group). Features shorter than `min_norm` are left out.

    A name says what the angles and lengths are near to, not that training is done or the solution best. Raises
    ModelError as `interference_graph` does, and for a `min_goodness` outside 0 to 1.

    >>> find_polytopes(np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]))[["features", "polytope"]].values.tolist()
    [[(0, 1), 'digon'], [(2,), 'alone']]
    """
    min_goodness = real_number(min_goodness, "min_goodness", "[0, 1]", ModelError)
    dimensionality = feature_dimensionality(weight)
    rows = []
    for group in _groups(weight, min_norm, min_cosine):
        corners = weight[:, group]
        nearest, goodness = max(
            ((name, polytope_goodness(corners, name)) for name, gram in _grams().items() if len(gram) == len(group)),
            key=lambda found: found[1],
            default=("none", 0.0),
        )
        variances = np.linalg.svd(corners, compute_uv=False) ** 2
        rows.append(
            {
                "features": tuple(group),
                "polytope": nearest if goodness >= min_goodness else "none",
                "nearest": nearest,
                "goodness": goodness,
                "n_dims": int((variances >= 0.1 * variances[0]).sum()),
                "dimensionality": float(dimensionality[group].mean()),
            }
        )
    columns = ["features", "polytope", "nearest", "goodness", "n_dims", "dimensionality"]
    return pd.DataFrame(rows, columns=columns)


def measure_geometry(
    history: xr.Dataset, min_norm: float = MIN_NORM, min_cosine: float = MIN_COSINE, min_goodness: float = MIN_GOODNESS
) -> xr.Dataset:
    """The polytopes of a whole history of toy models: `find_polytopes` at each step of each instance.

    `polytope` (instance, step, feature) is the name for the feature's group, `not represented` where it is shorter
    than `min_norm`; `group` the number of the first feature of its group and `goodness` the group's, NaN where it is
    not represented. `min_cosine` and `min_goodness` are as in `find_polytopes`. Raises HistoryError if the history
    has no `weight`.
    """
    weight = validate(history)["weight"].values
    shape = (*weight.shape[:2], weight.shape[3])
    polytope = np.full(shape, "not represented", dtype=f"<U{len('square antiprism')}")
    group, goodness = np.full(shape, np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    for at in np.ndindex(weight.shape[:2]):
        found = find_polytopes(weight[at], min_norm, min_cosine, min_goodness)
        for features, name, near in zip(found["features"], found["polytope"], found["goodness"]):
            members = (*at, list(features))
            polytope[members], group[members], goodness[members] = name, features[0], near
    dims = ("instance", "step", "feature")
    return xr.Dataset(
        {
            "polytope": (dims, polytope, {"long_name": "polytope that the feature's group forms", "reference": "E22"}),
            "group": (dims, group, {"long_name": "first feature of the group"}),
            "goodness": (dims, goodness, {"units": "1", "long_name": "nearness to the polytope, 0 to 1"}),
        },
        history.drop_vars(list(history.data_vars)).coords,
        {"min_norm": min_norm, "min_cosine": min_cosine, "min_goodness": min_goodness},
    )


def polytope_goodness(corners: Float[np.ndarray, "hidden corner"], polytope: str) -> float:
    """How near vectors come to the corners of a regular polytope, 0 to 1, over all ways to match them.

    1 less the squared difference of the Gram matrices, both of mean squared length 1, in units of the squared
    off-diagonal part of the polytope's own: orthogonal vectors of one length score 0. Scale, rotation
    and order do not matter. Raises ModelError for another polytope or number of corners.

    >>> round(polytope_goodness(np.array([[1.0, -0.5]]), "digon"), 2)  # half of a pair too short
    0.6
    """
    if not isinstance(polytope, str) or polytope not in _grams():
        raise ModelError(f"polytope={polytope!r} must be one of {', '.join(_grams())}")
    target = _grams()[polytope]
    gram = corners.T @ corners
    if len(gram) != len(target) or not gram.any():
        raise ModelError(
            f"a {polytope} has {len(target)} corners, not all at zero; seen vectors of shape {corners.shape}"
        )
    gram = gram / np.trace(gram) * len(gram)
    orders = _orders(len(gram))
    differences = ((gram[orders[:, :, None], orders[:, None, :]] - target) ** 2).sum(axis=(1, 2))
    scale = (target**2).sum() - len(target) or 1.0
    return float(max(0.0, 1 - differences.min() / scale))


@cache
def _orders(n_corners: int) -> Int[np.ndarray, "order corner"]:
    """The orders of the corners but the first: every polytope here looks the same from each corner."""
    return np.array([(0, *order) for order in itertools.permutations(range(1, n_corners))])


@cache
def _grams() -> dict[str, np.ndarray]:
    """Gram matrices of the unit vectors to each polytope's corners."""

    def simplex(n: int) -> np.ndarray:
        return (np.eye(n) * n - 1) / (n - 1)

    fifth = 2 * np.pi * np.arange(5) / 5
    # The antiprism of E22 shares its three dimensions evenly: each corner then gets 3/8.
    eighth = np.pi * np.arange(8) / 4
    height = np.where(np.arange(8) % 2, -1, 1) / np.sqrt(3)
    corners = np.stack([np.sqrt(2 / 3) * np.cos(eighth), np.sqrt(2 / 3) * np.sin(eighth), height])
    return {
        "alone": np.ones((1, 1)),
        "digon": simplex(2),
        "triangle": simplex(3),
        "tetrahedron": simplex(4),
        "pentagon": np.cos(fifth - fifth[:, None]),
        "square antiprism": corners.T @ corners,
    }


def _groups(weight: np.ndarray, min_norm: float, min_cosine: float) -> list[list[int]]:
    """Connected components of the interference graph, in order of their first feature."""
    graph = interference_graph(weight, min_norm, min_cosine)
    left = np.flatnonzero(np.linalg.norm(weight, axis=0) >= min_norm).tolist()
    groups = []
    while left:
        group, frontier = set(), {left[0]}
        while frontier:
            group |= frontier
            frontier = set(np.flatnonzero(graph[sorted(frontier)].any(axis=0)).tolist()) - group
        groups.append(sorted(group))
        left = [feature for feature in left if feature not in group]
    return groups
