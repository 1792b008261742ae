"""What AblationView shows, taken out of ablations: arrays for the payload and the words beside them."""

from __future__ import annotations

from itertools import product

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..display.score_maps import printable
from ..errors import HistoryError
from ..phase.clock import clock_of, elapsed
from ._choices import Head, head_numbers

METRICS = ("icl_score_change", "loss_change")
NEEDED = (*METRICS, "loss_by_position", "baseline_loss_by_position")
# A chart is some 500 pixels wide, and the loss at a single index is noisy.
MAX_POSITIONS = 96


class AblationData:
    """Ablations of one kind, or of both kinds beside each other. Raises HistoryError if they are none or differ."""

    def __init__(self, ablations: xr.Dataset, other: xr.Dataset | None) -> None:
        self.sets_of_kind = [_checked(each) for each in (ablations, other) if each is not None]
        first = self.sets_of_kind[0]
        self.kinds = [printable(each.attrs.get("kind", "full")) for each in self.sets_of_kind]
        in_turn = "layer" in first.dims
        self.layers, self.head_numbers = head_numbers(first) if in_turn else ([], [])
        self.heads: list[Head] = list(product(self.layers, self.head_numbers))
        self.sets = [] if in_turn else [str(label) for label in first["ablation"].values]
        self.steps = [int(step) for step in first["step"].values] if "step" in first.dims else []
        self.metrics = list(METRICS)
        if other is not None:
            self._check_other(first, self.sets_of_kind[1])

    def arrays(self) -> dict[str, np.ndarray]:
        """By kind and name: changes (step, unit), losses (step, unit, bin); a unit is a head or a set of heads."""
        first = self.sets_of_kind[0]
        edges = _bin_edges(first["position"].values)
        found = {"baseline": _binned(self._stepped(first, "baseline_loss_by_position"), edges)}
        for kind, ablations in enumerate(self.sets_of_kind):
            for metric in METRICS:
                found[f"{kind} {metric}"] = self._stepped(ablations, metric).reshape(len(self.steps) or 1, -1)
            losses = _binned(self._stepped(ablations, "loss_by_position"), edges)
            found[f"{kind} losses"] = losses.reshape(len(self.steps) or 1, -1, losses.shape[-1])
        position = first["position"].values.astype(float)
        found["position"] = _binned(position, edges)
        if self.steps:
            found["step"], found["elapsed"] = elapsed(first, "steps"), elapsed(first)
        return {
            name: values.astype(np.float64 if name in ("step", "elapsed") else np.float32)
            for name, values in found.items()
        }

    def header(self) -> dict[str, object]:
        first = self.sets_of_kind[0]
        icl = [int(first.attrs[name]) for name in ("icl_early", "icl_late") if name in first.attrs]
        return {
            "model": printable(first.attrs.get("model", "")),
            "kinds": self.kinds,
            "layers": self.layers,
            "heads": self.head_numbers,
            "sets": self.sets,
            "elapsed": clock_of(first) if self.steps else None,
            "metrics": self.metrics,
            "iclPositions": icl if len(icl) == 2 else None,
            "random": None,
        }

    def strongest(self) -> int:
        """The unit with the largest change of the first metric at the last step."""
        change = self._stepped(self.sets_of_kind[0], METRICS[0])
        change = change[-1] if self.steps else change
        known = np.where(np.isfinite(change), change, -np.inf)
        return int(known.argmax())

    def _stepped(self, ablations: xr.Dataset, name: str) -> np.ndarray:
        order = ("step", "layer", "head", "ablation", "position")
        variable = ablations[name]
        return variable.transpose(*(dim for dim in order if dim in variable.dims)).values.astype(float)

    def _check_other(self, first: xr.Dataset, second: xr.Dataset) -> None:
        for dim in ("step", "layer", "head", "ablation", "position"):
            one, two = (each[dim].values.tolist() if dim in each.dims else None for each in (first, second))
            if one != two:
                raise HistoryError(f"the two kinds of ablation differ in {dim}: {one!r:.60} and {two!r:.60}")
        if self.kinds[0] == self.kinds[1]:
            raise HistoryError(
                f"both ablations are of kind {self.kinds[0]!r}; give one 'full' and one 'pattern_preserving'"
            )


def random_draws(random: xr.Dataset) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """What `compare_with_random_heads` found: the shares of all draws, and those of the heads."""
    names = ("share_lost", "share_lost_interval", "random_share_lost", "random_share_lost_interval", "p")
    missing = [name for name in names if name not in getattr(random, "data_vars", ())]
    if missing:
        raise HistoryError(f"random lacks {', '.join(missing)}; give what compare_with_random_heads returns")
    share, p = float(random["share_lost"]), float(random["p"])
    about: dict[str, object] = {
        "heads": printable(random.attrs.get("heads", "the heads")),
        "kind": printable(random.attrs.get("kind", "full")),
        "among": printable(random.attrs.get("among", "")),
        "share": share if np.isfinite(share) else None,
        "interval": [float(bound) if np.isfinite(bound) else None for bound in random["share_lost_interval"].values],
        "p": p if np.isfinite(p) else None,
    }
    return {
        "random": random["random_share_lost"].values.astype(np.float32),
        "random interval": random["random_share_lost_interval"].values.astype(np.float32),
    }, about


def _checked(ablations: xr.Dataset) -> xr.Dataset:
    missing = [name for name in NEEDED if name not in getattr(ablations, "data_vars", ())]
    if missing:
        raise HistoryError(f"ablations lack {', '.join(missing)}; give what ablate_heads or scan_ablations returns")
    units = set(ablations[METRICS[0]].dims) - {"step"}
    if units not in ({"layer", "head"}, {"ablation"}) or 0 in ablations.sizes.values():
        raise HistoryError(f"ablations have dims {dict(ablations.sizes)}; expected (layer, head) or (ablation)")
    return ablations


def _bin_edges(position: np.ndarray) -> np.ndarray:
    """Where the bins of equal width in log position begin: at most MAX_POSITIONS."""
    at = np.geomspace(position[0], position[-1] + 1, MAX_POSITIONS + 1)[:-1]
    return np.unique(np.searchsorted(position, at))


def _binned(values: np.ndarray, starts: np.ndarray) -> Float[np.ndarray, "... bin"]:
    """Means over the bins of the last axis."""
    counts = np.diff(np.append(starts, values.shape[-1]))
    return np.add.reduceat(values, starts, axis=-1) / counts
