"""HeadScan: the scores of one model's heads, linked layer by head, two by two and in a table."""

from __future__ import annotations

from itertools import product

import numpy as np
import traitlets
import xarray as xr

from ..display.score_maps import ScoreMap, ScoreMaps, score_maps
from ..errors import HistoryError
from ..phase.heads import BOTH, LIFTS, head_roles, rule_for
from ..scores.nulls import surprise
from ..scores.roles import INDUCTION_ROLES
from ._choices import Head, HeadsChoice, head_numbers
from ._payload import pack_arrays


class HeadScan(HeadsChoice):
    """Scores of a model's heads: a layer-by-head map of each score, any two against each other, and a table.

    Choosing a head in one view shows it in all. Each head has the role that `head_roles` gives it. The induction heads
    are marked to begin with; `heads` is the marked set, as (layer, head) pairs to go on with, in
    `ablate_heads` for instance. The null distribution (`scan_heads(model, n_nulls=...)`) is drawn behind.

    A role says that scores pass thresholds, which are choices: scores form a continuum, and
    what a head does on random tokens need not be what it does on text.

    Parameters
    ----------
    scores
        What `scan_heads` returns, or one step of a history (`history.isel(step=-1)`).
    min_prefix_matching, min_copying, min_lift
        The thresholds of `induction_heads`.

    Raises
    ------
    HistoryError
        If `scores` has no numbers by layer and head, or `head`, `heads`, `x` or `y` is set to something
        that it does not have.
    """

    bundle = "head_scan"
    choices = ("head", "heads", "x", "y")
    _what = "these scores have"

    x = traitlets.TraitType[str | None, str | None](
        help="name of the score to the right, None with fewer than two scores"
    ).tag(sync=True)
    y = traitlets.TraitType[str | None, str | None](
        help="name of the score upwards, None with fewer than two scores"
    ).tag(sync=True)

    def __init__(
        self,
        scores: xr.Dataset,
        *,
        min_prefix_matching: float = 0.3,
        min_copying: float = -0.5,
        min_lift: float = 0.1,
    ) -> None:
        scores = _by_head(scores)
        maps = score_maps(scores)
        if maps is None:
            raise HistoryError(
                f"scores have no numbers by (layer, head); seen {dict(scores.sizes)}: "
                f"give what scan_heads returns, or one step of a history, such as history.isel(step=-1)"
            )
        layers, heads = head_numbers(scores)
        names = [str(name) for name, variable in scores.data_vars.items() if variable.dims == ("layer", "head")]
        self._known = list(product(layers, heads))
        self._axes = [name for name, score in zip(names, maps.maps) if score.known.size]
        given = (min_prefix_matching, min_copying, min_lift)
        has_both = all(name in names for name in BOTH)
        roles = head_roles(scores, *given) if has_both else None
        copies: list[Head] = [] if roles is None else [*roles.index[roles["role"].isin(INDUCTION_ROLES)]]
        table, data = pack_arrays(_arrays(scores, names, maps))
        header = {
            "arrays": table,
            "layers": layers,
            "heads": heads,
            "model": maps.model,
            "scores": [{"name": name, **_scale(score)} for name, score in zip(names, maps.maps)],
            "thresholds": _thresholds(scores, given) if has_both else {},
            "roles": [] if roles is None else roles["role"].to_list(),
            "paths": [] if roles is None else roles["path"].to_list(),
            "inductionRoles": list(INDUCTION_ROLES),
            "unscored": maps.unscored,
        }
        x, y = _first_pair(self._axes)
        layer, head = maps.strongest(1)[0]
        marked = [(int(layer), int(number)) for layer, number in copies]
        super().__init__(header, data, head=(layers[layer], heads[head]), heads=marked, x=x, y=y)

    @property
    def _title(self) -> str:
        return " · ".join(part for part in (str(self._header["model"]), "heads") if part)

    def __repr__(self) -> str:
        return f"HeadScan({self._header['model']}: {len(self._known)} heads, {len(self._header['scores'])} scores)"

    @traitlets.validate("heads")
    def _check_heads(self, proposal: traitlets.Bunch) -> tuple[Head, ...]:
        return tuple(sorted(super()._check_heads(proposal)))

    @traitlets.validate("x", "y")
    def _check_axis(self, proposal: traitlets.Bunch) -> str | None:
        value: str | None = proposal["value"]
        names = self._axes if len(self._axes) > 1 else [None]
        if value not in names:
            trait = proposal["trait"].name
            raise HistoryError(
                f"{trait}={value!r} is no score with values here; there are {', '.join(map(str, names))}"
            )
        return value


def _by_head(scores: xr.Dataset) -> xr.Dataset:
    """What `scores` has by layer and head, and the nulls beside it."""
    if not isinstance(scores, xr.Dataset):
        raise HistoryError(f"scores must be an xarray.Dataset; seen {type(scores).__name__}")
    names = [name for name, variable in scores.data_vars.items() if variable.dims == ("layer", "head")]
    nulls = [f"{name}_null" for name in names if f"{name}_null" in scores]
    about = [name for name in nulls if scores[name].dims == ("null", "layer", "head")]
    return scores[names + about].reset_coords(drop=True)


def _thresholds(scores: xr.Dataset, given: tuple[float, float, float]) -> dict[str, float]:
    """From where on each score counts for a role: `copying` stands in for the lifts where these are not known."""
    rule = rule_for(scores, *given)
    lifts = [name for name in LIFTS if name in scores and np.isfinite(scores[name]).any()]
    return {name: getattr(rule, f"min_{name}") for name in ("prefix_matching", *(lifts or ["copying"]))}


def _arrays(scores: xr.Dataset, names: list[str], maps: ScoreMaps) -> dict[str, np.ndarray]:
    """By index: each score, its nulls, and how surprising it is beside them if it is a property of induction heads."""
    arrays = {}
    for index, (name, score) in enumerate(zip(names, maps.maps)):
        arrays[f"score {index}"] = score.values.astype(np.float32)
        if score.nulls.size:
            arrays[f"null {index}"] = scores[f"{name}_null"].values.astype(np.float32).ravel()
        if score.nulls.size and name in BOTH:
            p = np.where(np.isfinite(score.values), surprise(score.values, score.nulls), np.nan)
            arrays[f"p {index}"] = p.astype(np.float32)
    return arrays


def _scale(score: ScoreMap) -> dict[str, object]:
    """What a score's values mean and how they are drawn; `digits` is None where only powers of ten will do."""
    digits = max(0, 2 - int(np.floor(np.log10(score.limit)))) if 1e-3 <= score.limit < 1e6 else None
    return {
        "units": score.units,
        "longName": score.long_name,
        "limit": float(score.limit),
        "signed": bool(score.signed),
        "digits": digits,
        "noPreference": score.no_preference,
        "nulls": [float(score.nulls.min()), float(score.nulls.max())] if score.nulls.size else None,
    }


def _first_pair(names: list[str]) -> tuple[str | None, str | None]:
    """The two properties of an induction head if there are, else the first two scores."""
    if len(names) < 2:
        return None, None
    telling = ("prefix_matching", "total_lift", "copying")
    ordered = [name for name in telling if name in names] + [name for name in names if name not in telling]
    return ordered[0], ordered[1]
