"""What there is to show of the scores of one model: arrays, scales, labels and the order of heads, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from ..scores.no_preference import no_preference

N_LEVELS = 32
N_HEADS_OF_TEXT = 8
# A score of known range is drawn on all of it, so that the maps of different models compare.
RANGES = {
    "prefix_matching": (0, 1),
    "previous_token": (0, 1),
    "duplicate_token": (0, 1),
    "copying": (-1, 1),
    "ov_copying": (-1, 1),
}


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """One score of every head, and the values that it took on models without structure.

    `no_preference` is its value for a head that prefers no token, None where that is 0 or not known.
    """

    name: str
    units: str
    long_name: str
    values: Float[np.ndarray, "layer head"]
    nulls: Float[np.ndarray, " null"]
    no_preference: float | None = None

    @cached_property
    def known(self) -> Float[np.ndarray, " known"]:
        known: np.ndarray = self.values[np.isfinite(self.values)]
        return known

    @cached_property
    def signed(self) -> bool:
        """Whether the scale goes below zero: by the score's range, else by its values and nulls."""
        return bool(min([RANGES.get(self.name, (0, 0))[0], *self.known, *self.nulls]) < 0)

    @cached_property
    def limit(self) -> float:
        """The magnitude at the end of the scale, which begins at zero or, signed, at minus the same."""
        return max([RANGES.get(self.name, (0, 0))[1], *np.abs(self.known)]) or 1.0

    @cached_property
    def levels(self) -> Float[np.ndarray, "layer head"]:
        """Whole numbers from -N_LEVELS to N_LEVELS, zero at a score of zero; NaN where the score is."""
        return np.round(np.clip(self.values / self.limit, -1, 1) * N_LEVELS)

    @cached_property
    def beyond(self) -> Bool[np.ndarray, "layer head"]:
        """The heads above every null value or, for a signed score, below every one."""
        if not self.nulls.size:
            return np.zeros(self.values.shape, bool)
        beyond: np.ndarray = (self.values > self.nulls.max()) | (self.signed & (self.values < self.nulls.min()))
        return beyond

    def text(self, value: float) -> str:
        """`value` with as many decimals as three digits of the scale's end need."""
        if not 1e-3 <= self.limit < 1e6:
            return f"{value:z.2e}"
        return f"{value:z.{max(0, 2 - int(np.floor(np.log10(self.limit))))}f}"

    @property
    def span(self) -> str:
        return f"{self.text(self.known.min())} to {self.text(self.known.max())}" if self.known.size else "not scored"

    @property
    def null_span(self) -> str:
        return f"{self.text(self.nulls.min())} to {self.text(self.nulls.max())}" if self.nulls.size else ""

    @property
    def no_preference_text(self) -> str:
        return "" if self.no_preference is None else self.text(self.no_preference)


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """The scores of one model: `maps` share the labels of their rows, `layers`, and columns, `heads`."""

    model: str
    layers: list[str]
    heads: list[str]
    maps: list[ScoreMap]
    unscored: list[str]

    @property
    def size(self) -> str:
        return f"{_count(self.layers, 'layer')} of {_count(self.heads, 'head')}"

    @property
    def n_heads(self) -> int:
        return len(self.layers) * len(self.heads)

    @property
    def first(self) -> ScoreMap:
        """The score that heads are put in order by."""
        return next((score for score in self.maps if score.name == "prefix_matching"), self.maps[0])

    def head_name(self, layer: int, head: int) -> str:
        return f"{self.layers[layer]}.{self.heads[head]}"

    def strongest(self, n: int) -> list[tuple[int, int]]:
        """The first `n` heads by the first score, (layer, head), highest first and unknown ones last.

        Heads that read the same stay in the model's order: noise in the last digits must not reorder them.
        """
        values = self.first.values
        rank = {index: float(self.first.text(value)) for index, value in np.ndenumerate(values)}
        return sorted(rank, key=lambda index: (np.isnan(rank[index]), -np.nan_to_num(rank[index])))[:n]


def score_maps(scores: xr.Dataset) -> ScoreMaps | None:
    """What to show of `scores`, or None if they are not numbers of (layer, head) with or without nulls."""
    arrays = {str(name): array for name, array in scores.data_vars.items()}
    nulls = {name.removesuffix("_null"): array for name, array in arrays.items() if array.dims[:1] == ("null",)}
    arrays = {name: array for name, array in arrays.items() if array.dims[:1] != ("null",)}
    dims = {array.dims for array in arrays.values()} | {array.dims[1:] for array in nulls.values()}
    numbers = all(array.dtype.kind in "biuf" for array in scores.data_vars.values())
    if not (arrays and numbers and dims == {("layer", "head")} and scores.sizes["layer"] and scores.sizes["head"]):
        return None
    return ScoreMaps(
        model=printable(scores.attrs.get("model", "")),
        layers=[printable(layer) for layer in scores["layer"].values],
        heads=[printable(head) for head in scores["head"].values],
        maps=[_score_map(name, array, nulls.get(name), scores.attrs) for name, array in arrays.items()],
        unscored=_unscored(scores.attrs.get("unscored")),
    )


def text_table(maps: ScoreMaps) -> str:
    """A row per score, a column per head, the strongest first: the same text wherever the numbers agree as shown."""
    shown = maps.strongest(N_HEADS_OF_TEXT)
    few = f"the first {len(shown)} of {maps.n_heads} " if len(shown) < maps.n_heads else ""
    told = {
        "range": [score.span for score in maps.maps],
        "nulls": [score.null_span for score in maps.maps],
        "no preference": [score.no_preference_text for score in maps.maps],
    }
    told = {name: texts for name, texts in told.items() if any(texts)}
    header = ["", *(maps.head_name(*index) for index in shown), *told]
    rows = [
        [
            score.name + (f" ({score.units})" if score.units else ""),
            *(score.text(score.values[index]) for index in shown),
            *texts,
        ]
        for score, *texts in zip(maps.maps, *told.values())
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:]))]).rstrip()
        for name, *cells in (header, *rows)
    ]
    title = f"<HeadScores> {maps.model + ': ' if maps.model else ''}{maps.size}, {few}in order of {maps.first.name}"
    return "\n".join([title, *lines, *(f"not scored: {reason}" for reason in maps.unscored)])


def printable(value: object) -> str:
    """`value` as one line, whatever it holds: names and attributes come from files of strangers."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _score_map(name: str, array: xr.DataArray, nulls: xr.DataArray | None, attrs: Mapping[str, object]) -> ScoreMap:
    units = printable(array.attrs.get("units", ""))
    known_nulls = np.empty(0) if nulls is None else nulls.values.astype(float).ravel()
    return ScoreMap(
        name=printable(name),
        units="" if units == "1" else units,
        long_name=printable(array.attrs.get("long_name", "")),
        values=array.values.astype(float),
        nulls=known_nulls[np.isfinite(known_nulls)],
        no_preference=no_preference(name, attrs),
    )


def _unscored(reasons: object) -> list[str]:
    """The reasons that `scan_heads` notes for scores it could not give, a line each."""
    try:
        found = json.loads(str(reasons))
    except (ValueError, RecursionError):  # no file's attributes may keep the scores from showing
        return []
    return [printable(f"{what}: {why}") for what, why in found.items()] if isinstance(found, dict) else []


def _count(labels: list[str], noun: str) -> str:
    return f"{len(labels)} {noun}{'' if len(labels) == 1 else 's'}"
