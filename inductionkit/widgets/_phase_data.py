"""What PhaseExplorer shows, taken out of a history: arrays for the payload and the words beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..history import PATTERN_SCALE, head_scores, n_examples, validate
from ..phase import loss_slope_map
from ..phase.clock import clock_of, elapsed, logged_at
from ..phase.heads import roles_along
from ..scores.no_preference import no_preference
from ..scores.roles import INDUCTION_ROLES, ROLES
from ._circuit_data import CircuitData
from ._pattern_series import HeadText, has_patterns, series_arrays
from ._payload import halved, pack_arrays

# A training log may hold a value for every step; a chart is some 600 pixels wide.
MAX_LOG_POINTS = 1200
MIN_SLOPE_POSITIONS = 16  # as `loss_slope_map` asks for
# Each view, and the variables of which it needs at least one; none are named where any score of the heads will do.
VIEWS: dict[str, tuple[str, ...]] = {
    "loss": ("loss", "training_loss"),
    "icl": ("icl_score",),
    "slopes": ("loss_by_position",),
    "trajectories": (),
    "grid": (),
    "scatter": (),
    "circuit": ("edge_share",),
    "pattern": ("pattern",),
    "text": ("text_loss",),
}

# What each role is called, and found by: `induction_heads` names those whose copying is undone too.
ROLE_NAMES = [[role, *(["induction"] if role in INDUCTION_ROLES else [])] if role else [] for role in ROLES]


def phase_payload(
    history: xr.Dataset,
    views: Sequence[str],
    series: tuple[list[HeadText], list[int]] | None,
    control: xr.Dataset | None,
) -> tuple[dict[str, object], bytes]:
    """The header (plain JSON) and the buffer of what the views show; variables that a history lacks are left out."""
    arrays = _checkpoints(history, views)
    if "loss" in views and "training_loss" in history and (at := logged_at(history)) is not None:
        arrays["log elapsed"], arrays["training_loss"] = _thin(at, history["training_loss"].values)
    scores = score_names(history) if {"trajectories", "grid", "scatter"} & set(views) else []
    arrays |= {name: halved(history[name].values) for name in scores}
    roles = roles_along(history) if scores else None
    if roles is not None:
        arrays["role"] = np.argmax([roles == role for role in ROLES], axis=0).astype(np.uint8)
    if "slopes" in views:
        arrays |= _slopes(history)
    if "text" in views and "text_loss" in history:
        arrays["text_loss"] = _floats(history["text_loss"])
    if series:
        arrays |= series_arrays(history, *series)
    circuit = CircuitData.of_history(history) if "circuit" in views else None
    if circuit:
        arrays |= circuit.arrays()
    if control is not None:
        arrays |= {f"control {name}": values for name, values in _checkpoints(control, views).items()}
    table, buffer = pack_arrays(arrays)
    texts = text_names(history) if {"pattern", "text"} & set(views) else []
    layers, heads = head_labels(history)
    header = {
        "arrays": table,
        "views": list(views),
        "layers": layers,
        "heads": heads,
        "scores": [
            {"name": name, "units": _units(history[name]), "noPreference": no_preference(name, history.attrs)}
            for name in scores
        ],
        "roles": ROLE_NAMES,
        "texts": texts,
        "tokens": [text_tokens(history, index) for index in range(len(texts))],
        "series": {"heads_texts": series[0], "steps": series[1]} if series else None,
        "patternScale": PATTERN_SCALE,
        "model": str(history.attrs.get("model", "")),
        "control": str(control.attrs.get("model", "")) or "control" if control is not None else None,
        "iclPositions": _icl_positions(history),
        "nExamples": n_examples(history),
    }
    return header | ({"circuit": circuit.header()} if circuit else {}), buffer


def lacking_views(history: xr.Dataset, views: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The views that a history has nothing for, with the variables that they would need."""
    scores = _scores_over_training(history)
    return {view: VIEWS[view] for view in views if not any(name in history for name in VIEWS[view] or scores)}


def score_names(history: xr.Dataset) -> list[str]:
    """The per-head scores that were measured at any step, prefix matching first."""
    measured = [name for name in _scores_over_training(history) if np.isfinite(history[name].values).any()]
    return sorted(measured, key=lambda name: name != "prefix_matching")


def head_labels(history: xr.Dataset) -> tuple[list[int], list[int]]:
    """The layer and head numbers that a history names, both empty if it has nothing per head."""
    if not {"layer", "head"} <= set(history.dims):
        return [], []
    layers, heads = ([int(value) for value in history[dim].values] for dim in ("layer", "head"))
    return layers, heads


def text_names(history: xr.Dataset) -> list[str]:
    """One distinct name per text with patterns or losses; numbered where the history has no distinct names."""
    if not (has_patterns(history) or ("text_loss" in history and history["text_loss"].size)):
        return []
    names = [str(name) for name in history["text"].values] if "text" in history.coords else []
    if len(set(names)) < history.sizes["text"]:
        return [f"text {index}" for index in range(history.sizes["text"])]
    return names


def heads_by_strength(history: xr.Dataset) -> list[int]:
    """All heads, counted through the layers: induction heads first, by prefix matching, highest first.

    Both are of the last checkpoint that has any.
    """
    layers, heads = head_labels(history)
    strength = np.zeros(len(layers) * len(heads))
    copies = np.zeros(len(strength), bool)
    over_training = "prefix_matching" in _scores_over_training(history)
    measured = np.flatnonzero(np.isfinite(history["prefix_matching"].values).any((1, 2))) if over_training else ()
    if len(measured):
        last = history.isel(step=measured[-1:])
        scores, roles = last["prefix_matching"].values, roles_along(last)
        strength = np.where(np.isfinite(scores), scores, -np.inf).ravel()
        copies = copies if roles is None else np.isin(roles, INDUCTION_ROLES).ravel()
    order: list[int] = np.lexsort((-strength, ~copies)).tolist()
    return order


def _scores_over_training(history: xr.Dataset) -> list[str]:
    return [name for name in head_scores(history) if "step" in history[name].dims]


def _checkpoints(history: xr.Dataset, views: Sequence[str]) -> dict[str, np.ndarray]:
    """The checkpoints in steps, in tokens where these are its clock, and the curves over them."""
    curves = {"step": elapsed(validate(history), "steps")}
    if clock_of(history) == "tokens":
        curves["tokens_seen"] = elapsed(history, "tokens")
    for view, name in (("loss", "loss"), ("icl", "icl_score")):
        if view in views and name in history:
            curves[name] = _floats(history[name])
    return curves


def _slopes(history: xr.Dataset) -> dict[str, np.ndarray]:
    if history.sizes.get("position", 0) < MIN_SLOPE_POSITIONS or "loss_by_position" not in history:
        return {}
    with np.errstate(invalid="ignore"):  # an infinite loss has no slope: NaN
        slopes = loss_slope_map(history)
    return {
        "loss slope": halved(slopes["loss_slope"].values),
        "slope position": slopes["position"].values.astype(np.float64),
    }


def _thin(seen: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_LOG_POINTS points: means over bins of equal width in the log of elapsed training."""
    keep = np.isfinite(loss) & np.isfinite(seen) & (seen > 0)
    seen, loss = seen[keep], loss[keep].astype(np.float64)
    if len(seen) > MAX_LOG_POINTS:
        log = np.log(seen)
        edges = np.linspace(log.min(), log.max(), MAX_LOG_POINTS + 1)[1:-1]
        bins = np.digitize(log, edges)
        count = np.bincount(bins, minlength=MAX_LOG_POINTS)
        filled = count > 0
        seen = np.exp(np.bincount(bins, log, MAX_LOG_POINTS)[filled] / count[filled])
        loss = np.bincount(bins, loss, MAX_LOG_POINTS)[filled] / count[filled]
    return seen, loss.astype(np.float32)


def _floats(variable: xr.DataArray) -> np.ndarray:
    return variable.values.astype(np.float32)


def _units(variable: xr.DataArray) -> str:
    units = str(variable.attrs.get("units", "1"))
    return "" if units == "1" else units


def text_tokens(history: xr.Dataset, text: int) -> list[str]:
    """The tokens of one text without the missing ones at its end, or positions if the history has none."""
    if "token" not in history:
        return [str(position) for position in range(history.sizes["query"])]
    tokens = history["token"].values[text].tolist()
    while tokens and (not isinstance(tokens[-1], str) or not tokens[-1]):
        tokens.pop()
    return [token if isinstance(token, str) else "" for token in tokens]


def _icl_positions(history: xr.Dataset) -> list[int] | None:
    names = ("icl_early", "icl_late")
    return [int(history.attrs[name]) for name in names] if all(name in history.attrs for name in names) else None
