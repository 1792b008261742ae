"""What PhaseExplorer shows, taken out of a history: arrays for the payload and the words beside them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..errors import HistoryError
from ..history import PATTERN_SCALE, validate
from ._payload import pack_arrays, pack_lower

# A training log may hold a value for every step; a chart is some 600 pixels wide.
MAX_LOG_POINTS = 1200


def phase_payload(
    history: xr.Dataset, window: tuple[float, float] | None, control: xr.Dataset | None
) -> tuple[dict[str, object], bytes]:
    """The header (plain JSON) and the buffer of a history; variables that it lacks are left out."""
    validate(history)
    n_tokens = history.sizes.get("query", 0) if "pattern" in history else 0
    arrays = {"step": _axis(history, "step"), **_checkpoints(history)}
    if "training_loss" in history and "log_tokens_seen" in history.coords:
        arrays["log_elapsed"], arrays["training_loss"] = _thin(
            _axis(history, "log_tokens_seen"), history["training_loss"].values
        )
    for name in ("prefix_matching", "copying"):
        if name in history:
            arrays[name] = _floats(history[name])
    if n_tokens:
        arrays["pattern"] = pack_lower(history["pattern"].values)
    if control is not None:
        validate(control)
        arrays |= {f"control_{name}": values for name, values in _checkpoints(control).items()}
    table, buffer = pack_arrays(arrays)
    texts = text_names(history)
    layers, heads = head_labels(history)
    header = {
        "arrays": table,
        "elapsed": "tokens" if "tokens_seen" in history.coords else "steps",
        "layers": layers,
        "heads": heads,
        "texts": texts,
        "tokens": [_tokens(history, index, n_tokens) for index in range(len(texts))],
        "patternScale": PATTERN_SCALE,
        "window": list(window) if window else None,
        "model": str(history.attrs.get("model", "")),
        "control": str(control.attrs.get("model", "")) or "control" if control is not None else None,
        "iclPositions": _icl_positions(history),
    }
    return header, buffer


def window_tokens(window: object) -> tuple[float, float] | None:
    """(start, end) of a window in tokens: None, a pair, or whatever has `start_tokens` and `end_tokens`."""
    if window is None:
        return None
    pair = (window.start_tokens, window.end_tokens) if hasattr(window, "start_tokens") else window
    try:
        start, end = pair
        if start is None and end is None:
            return None
        start, end = float(start), float(end)
    except (TypeError, ValueError):
        raise HistoryError(
            f"window={window!r} is no window; give (start_tokens, end_tokens) or what find_phase_change returns"
        ) from None
    if not (0 <= start < end < np.inf):
        raise HistoryError(f"window=({start:g}, {end:g}) must hold finite tokens with 0 <= start < end")
    return start, end


def head_labels(history: xr.Dataset) -> tuple[list[int], list[int]]:
    """The layer and head numbers that a history names, both empty if it has nothing per head."""
    if not {"layer", "head"} <= set(history.dims):
        return [], []
    layers, heads = ([int(value) for value in history[dim].values] for dim in ("layer", "head"))
    return layers, heads


def text_names(history: xr.Dataset) -> list[str]:
    """One distinct name per text with patterns; numbered where the history has no distinct names."""
    if "pattern" not in history or not history.sizes.get("query"):
        return []
    names = [str(name) for name in history["text"].values] if "text" in history.coords else []
    if len(set(names)) < history.sizes["text"]:
        return [f"text {index}" for index in range(history.sizes["text"])]
    return names


def strongest_head(history: xr.Dataset) -> tuple[int, int] | None:
    """(layer, head) of the highest prefix matching at the last checkpoint that has any, else the first head."""
    layers, heads = head_labels(history)
    if not layers or not heads:
        return None
    if "prefix_matching" in history:
        for scores in history["prefix_matching"].values[::-1]:
            if np.isfinite(scores).any():
                best = np.argmax(np.where(np.isfinite(scores), scores, -np.inf))
                layer, head = np.unravel_index(best, scores.shape)
                return layers[layer], heads[head]
    return layers[0], heads[0]


def _checkpoints(history: xr.Dataset) -> dict[str, np.ndarray]:
    curves = {"elapsed": _axis(history, "tokens_seen" if "tokens_seen" in history.coords else "step")}
    for name in ("loss", "icl_score"):
        if name in history:
            curves[name] = _floats(history[name])
    return curves


def _thin(tokens: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_LOG_POINTS points: means over bins of equal width in log tokens."""
    keep = np.isfinite(loss) & (tokens > 0)
    tokens, loss = tokens[keep], loss[keep].astype(np.float64)
    if len(tokens) > MAX_LOG_POINTS:
        log = np.log(tokens)
        edges = np.linspace(log.min(), log.max(), MAX_LOG_POINTS + 1)[1:-1]
        bins = np.digitize(log, edges)
        count = np.bincount(bins, minlength=MAX_LOG_POINTS)
        filled = count > 0
        tokens = np.exp(np.bincount(bins, log, MAX_LOG_POINTS)[filled] / count[filled])
        loss = np.bincount(bins, loss, MAX_LOG_POINTS)[filled] / count[filled]
    return tokens, loss.astype(np.float32)


def _axis(history: xr.Dataset, name: str) -> np.ndarray:
    return history[name].values.astype(np.float64)


def _floats(variable: xr.DataArray) -> np.ndarray:
    return variable.values.astype(np.float32)


def _tokens(history: xr.Dataset, text: int, n_tokens: int) -> list[str]:
    """The tokens of one text without the missing ones at its end, or positions if the history has none."""
    if "token" not in history:
        return [str(position) for position in range(n_tokens)]
    tokens = history["token"].values[text].tolist()
    while tokens and (not isinstance(tokens[-1], str) or not tokens[-1]):
        tokens.pop()
    return [token if isinstance(token, str) else "" for token in tokens]


def _icl_positions(history: xr.Dataset) -> list[int] | None:
    names = ("icl_early", "icl_late")
    return [int(history.attrs[name]) for name in names] if all(name in history.attrs for name in names) else None
