"""The scores of one model's heads: a Dataset that shows itself as heat maps, or as a table of text."""

from __future__ import annotations

import xarray as xr

from .heat_maps import render
from .score_maps import score_maps, text_table


class HeadScores(xr.Dataset):
    """An `xarray.Dataset` (layer, head), a variable per score, that shows itself layer by head.

    In a notebook: a heat map per score, the strongest heads, and xarray's own view folded away; as
    text: the strongest heads and each score's range. A score `s` may have its null distribution
    beside it as `s_null` (null, layer, head): heads beyond all of its values are marked. That mark
    does not correct for the number of heads looked at.

    All else is `xarray.Dataset`'s. What no longer has a layer and a head, such as one head's scores,
    shows itself as xarray does; so does what xarray computes from two data sets, a plain Dataset.

    >>> scores = HeadScores(
    ...     {"prefix_matching": (("layer", "head"), [[0.01, 0.02], [0.9, 0.1]])}, attrs={"model": "two-layer"}
    ... )
    >>> scores
    <HeadScores> two-layer: 2 layers of 2 heads, in order of prefix_matching
                      1.0   1.1   0.1   0.0         range
    prefix_matching  0.90  0.10  0.02  0.01  0.01 to 0.90
    """

    __slots__ = ()

    def __repr__(self) -> str:
        maps = score_maps(self)
        return super().__repr__() if maps is None else text_table(maps)

    def _repr_html_(self) -> str:
        maps = score_maps(self)
        if maps is None or xr.get_options()["display_style"] == "text":
            return super()._repr_html_()
        return render(maps, text_table(maps), super().__repr__())
