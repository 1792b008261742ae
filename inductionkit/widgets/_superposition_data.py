"""What SuperpositionView shows, taken out of a history of toy models: arrays for the payload and words beside them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..superposition.dimensionality import STICKY_LEVELS, feature_dimensionality
from ..superposition.geometry import MIN_COSINE, MIN_NORM, measure_geometry
from ..superposition.history import validate
from ..superposition.jumps import find_jumps
from ._payload import pack_arrays

NOT_REPRESENTED = "not represented"
POLYTOPES = (*STICKY_LEVELS, "none", NOT_REPRESENTED)
MAX_DRAWN_DIMS = 3
# As `find_polytopes` counts the dimensions of a group.
MIN_SHARE_OF_VARIANCE = 0.1
# `find_jumps` needs as many steps after step 0.
MIN_STEPS = 3


def superposition_payload(history: xr.Dataset) -> tuple[dict[str, object], bytes]:
    """The header (plain JSON) and the buffer of a history of toy models; what it lacks is measured or left out."""
    validate(history)
    # What overflowed in training is missing, not infinitely long.
    history = history.assign(weight=history["weight"].where(np.isfinite(history["weight"])))
    geometry = history if {"polytope", "group", "goodness"} <= set(history.data_vars) else measure_geometry(history)
    weight = history["weight"].values.astype(np.float32)
    arrays: dict[str, np.ndarray] = {
        "step": history["step"].values.astype(np.float64),
        "weight": weight,
        "dimensionality": feature_dimensionality(weight.astype(np.float64)).astype(np.float32),
        "polytope": _polytope_numbers(geometry["polytope"].values),
        "group": geometry["group"].values.astype(np.float32),
        "goodness": geometry["goodness"].values.astype(np.float32),
    }
    for name in ("loss", "importance", "density"):
        if name in history.variables:
            arrays[name] = history[name].values.astype(np.float32)
    if history.sizes["hidden"] > MAX_DRAWN_DIMS:
        arrays["own"], arrays["own_dims"] = own_subspaces(weight, arrays["group"])
    table, buffer = pack_arrays(arrays)
    header = {
        "arrays": table,
        "instances": instance_names(history),
        "polytopes": list(POLYTOPES),
        "levels": list(map(list, STICKY_LEVELS.items())),
        "minNorm": float(geometry.attrs.get("min_norm", MIN_NORM)),
        "minCosine": float(geometry.attrs.get("min_cosine", MIN_COSINE)),
        "about": _about(history),
        **_jumps(history),
    }
    return header, buffer


def instance_names(history: xr.Dataset) -> list[str]:
    """A name per instance: its number and the coordinates in which instances differ."""
    names = [str(number) for number in range(history.sizes["instance"])]
    for name, coordinate in history.coords.items():
        if not coordinate.dims or coordinate.dims[0] != "instance":
            continue
        texts = [_text(values) for values in coordinate.values]
        if len(set(texts)) > 1:
            names = [
                f"{before}{', ' if ':' in before else ': '}{name} {text}"
                for before, text in zip(names, texts, strict=True)
            ]
    return names


def own_subspaces(
    weight: Float[np.ndarray, "instance step hidden feature"], group: Float[np.ndarray, "instance step feature"]
) -> tuple[Float[np.ndarray, "instance step axis feature"], np.ndarray]:
    """Each feature's place in the subspace of its group, on up to three axes, and how many dimensions that has.

    The axes are principal ones, turned so that the group's first feature lies on the first axis and the next in the
    plane of two: a group that does not change then stands still. NaN and 0 for features that are not represented.
    """
    n_instances, n_steps, _, n_features = weight.shape
    own = np.full((n_instances, n_steps, MAX_DRAWN_DIMS, n_features), np.nan, dtype=np.float32)
    n_dims = np.zeros((n_instances, n_steps, n_features), dtype=np.uint8)
    for at in np.ndindex(n_instances, n_steps):
        for first in np.unique(group[at][np.isfinite(group[at])]):
            members = np.flatnonzero(group[at] == first)
            axes, lengths, _ = np.linalg.svd(weight[at][:, members], full_matrices=False)
            dims = int((lengths**2 >= MIN_SHARE_OF_VARIANCE * lengths[0] ** 2).sum())
            n_dims[at][members] = min(dims, 255)
            places = axes[:, : min(dims, MAX_DRAWN_DIMS)].T @ weight[at][:, members]
            _, turned = np.linalg.qr(places)
            turned *= np.where(np.diag(turned) < 0, -1, 1)[:, None]
            own[at][:, members] = 0
            own[at][: len(turned), members] = turned
    return own, n_dims


def _polytope_numbers(names: np.ndarray) -> np.ndarray:
    """The place of each name in `POLYTOPES`; a name that is not there counts as none."""
    numbers = np.full(names.shape, POLYTOPES.index("none"), dtype=np.uint8)
    for number, name in enumerate(POLYTOPES):
        numbers[names == name] = number
    return numbers


def _jumps(history: xr.Dataset) -> dict[str, object]:
    """The jumps of all instances and the loss drops they are held against, none where there is too little to tell."""
    if "loss" not in history or (history["step"].values > 0).sum() < MIN_STEPS:
        return {"jumps": [], "drops": [], "verdict": ""}
    found = find_jumps(history)
    return {
        "jumps": found.jumps[["instance", "feature", "start_step", "end_step", "level", "on_drop"]].values.tolist(),
        "drops": found.drops.values.tolist(),
        "verdict": repr(found),
    }


def _about(history: xr.Dataset) -> str:
    attrs = history.attrs
    parts = [in_dimensions(history.sizes["feature"], history.sizes["hidden"])]
    if "activation" in attrs:
        parts.append(str(attrs["activation"]))
    if attrs.get("correlation", "none") != "none":
        parts.append(f"{attrs['correlation']} features")
    return " · ".join(parts)


def in_dimensions(n_features: int, n_hidden: int) -> str:
    return f"{n_features} features in {n_hidden} dimension{'' if n_hidden == 1 else 's'}"


def _text(values: np.ndarray) -> str:
    """One value, or the ends of several."""
    values = np.unique(values)
    ends = [f"{value:g}" if isinstance(value, np.floating) else str(value) for value in values[[0, -1]]]
    return ends[0] if len(values) == 1 else " to ".join(ends)
