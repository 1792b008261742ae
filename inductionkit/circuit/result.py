"""An induction circuit as labelled data: its heads with their roles, and the edges between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

ROLES = ("previous-token", "duplicate-token", "prefix-matching", "induction", "copying", "anti-copying", "")
SIDES = ("K", "Q", "V")

# Columns of `nodes`, indexed by (layer, head), beside `role`; NaN where a score is not known.
NODE_FIGURES = (
    "prefix_matching",
    "previous_token",
    "duplicate_token",
    "direct_lift",
    "total_lift",
    "loss_effect",
)
# Columns of `edges`; `share` of the receiver's score gap (K, Q) or of the sender's total lift (V); `measured` is the
# same by ablation, NaN where it was not verified.
EDGE_COLUMNS = ("from_layer", "from_head", "to_layer", "to_head", "side", "share", "measured")


@dataclass(frozen=True, repr=False)
class InductionCircuit:
    """The induction circuit of a model.

    `nodes` is a DataFrame indexed by (layer, head) of the heads that take part: `role`, one of `ROLES`, and the
    figures behind it. `edges` is a DataFrame of what one head does to another. `tokens` are the strings of one prompt,
    `patterns` the attention of each node on it (node, query, key), 0 to 1, in the order of `nodes`.
    """

    model: str
    n_layers: int
    n_heads: int
    nodes: pd.DataFrame
    edges: pd.DataFrame
    tokens: Sequence[str] = ()
    patterns: np.ndarray | None = None

    def __repr__(self) -> str:
        known = self.nodes.reindex(columns=["role", "total_lift"])
        raising = known[(known["role"] == "induction") & known["total_lift"].notna()]
        raising = raising.sort_values("total_lift", ascending=False)
        matching = self.nodes[self.nodes["role"].isin(["induction", "copying", "anti-copying", "prefix-matching"])]
        writing = self.nodes[self.nodes["role"] == "previous-token"]
        said = []
        if len(writing):
            said.append(f"{_named(writing)} write{'s' * (len(writing) == 1)} the previous token")
        if len(matching):
            said.append(f"{_named(matching)} match{'es' * (len(matching) == 1)} on what stood before")
        if len(raising):
            lifts = ", ".join(f"{lift:.1f}" for lift in raising["total_lift"])
            said.append(f"{_named(raising)} raise{'s' * (len(raising) == 1)} the token by {lifts} nats")
        return f"{self.model}: {'; '.join(said) or 'no induction circuit'}"


def _named(nodes: pd.DataFrame) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in nodes.index)
