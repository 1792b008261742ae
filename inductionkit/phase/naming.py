"""Several histories by name, as the comparisons between runs take them."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from ..errors import HistoryError
from ..history import validate


def named(histories: Mapping[str, xr.Dataset], needs: tuple[str, ...] = ()) -> dict[str, xr.Dataset]:
    """The histories by name, each validated. Raises HistoryError, with the name, if one lacks what is needed."""
    if isinstance(histories, xr.Dataset) or not isinstance(histories, Mapping) or not histories:
        raise HistoryError(
            f"give the histories by name, as in {{'two-layer': history}}; seen {type(histories).__name__}"
        )
    for name, history in histories.items():
        try:
            validate(history, needs)
        except HistoryError as error:
            raise HistoryError(f"{name}: {error}") from None
    return {str(name): history for name, history in histories.items()}
