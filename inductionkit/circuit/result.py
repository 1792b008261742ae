"""An induction circuit as labelled data: its heads with their roles, and the edges between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..scores.roles import RoleRule

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


@dataclass(frozen=True, repr=False, eq=False)
class InductionCircuit:
    """The induction circuit of a `model`, by name, that has `n_layers` layers of `n_heads` heads.

    `nodes` is a DataFrame indexed by (layer, head) of the heads that take part: `role`, one of `ROLES`, and the
    figures behind it. `edges` is a DataFrame of what one head does to another. `tokens` are the strings of one prompt,
    `patterns` the attention of each node on it (node, query, key), 0 to 1, in the order of `nodes`. `untraced` says
    which edges could not be looked for, and why.
    """

    model: str
    n_layers: int
    n_heads: int
    nodes: pd.DataFrame
    edges: pd.DataFrame
    tokens: Sequence[str] = ()
    patterns: np.ndarray | None = None
    untraced: Sequence[str] = ()

    def __repr__(self) -> str:
        known = self.nodes.reindex(columns=["role", "total_lift"])
        raising = known[(known["role"] == "induction") & known["total_lift"].notna()]
        raising = raising.sort_values("total_lift", ascending=False)
        matching = self.nodes[self.nodes["role"].isin(["induction", "copying", "anti-copying", "prefix-matching"])]
        writing = self.nodes[self.nodes["role"] == "previous-token"]
        reading = self._readers_of(writing)
        others = matching[~matching.index.isin(reading.index)]
        said = []
        if len(writing):
            said.append(f"{_named(writing)} write{'s' * (len(writing) == 1)} the previous token")
        if len(reading):
            pronoun = "it" if len(writing) == 1 else "them"
            said.append(f"{_named(reading)} match{'es' * (len(reading) == 1)} on {pronoun}")
        if len(others):
            said.append(f"{_named(others)} match{'es' * (len(others) == 1)} by other ways")
        if len(raising):
            lifts = ", ".join(f"{lift:.1f}" for lift in raising["total_lift"])
            said.append(f"{_named(raising)} raise{'s' * (len(raising) == 1)} the token by {lifts} nats")
        return f"{self.model}: {'; '.join(said) or 'no induction circuit'}"

    def _readers_of(self, nodes: pd.DataFrame) -> pd.DataFrame:
        """The nodes of which one of these is the strongest on side K."""
        keys = self.edges[self.edges["side"] == "K"]
        strongest = keys.sort_values("share", ascending=False).drop_duplicates(["to_layer", "to_head"])
        ends = zip(*(strongest[name] for name in EDGE_COLUMNS if name not in ("side", "measured")))
        known = set(nodes.index)
        made = {(layer, head) for *sender, layer, head, share in ends if tuple(sender) in known and share > 0}
        return self.nodes[self.nodes.index.isin(made)]


def node_table(figures: Mapping[tuple[int, int], Mapping[str, float]], rule: RoleRule) -> pd.DataFrame:
    """The `nodes` of a circuit from the scores of its heads, by (layer, head)."""
    layers, heads = zip(*figures) if figures else ((), ())
    index = pd.MultiIndex.from_arrays([list(layers), list(heads)], names=["layer", "head"])
    nodes = pd.DataFrame([*figures.values()], index=index, columns=NODE_FIGURES, dtype=float)
    nodes.insert(0, "role", [rule.role_of(each) for each in figures.values()])
    return nodes


def _named(nodes: pd.DataFrame) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in nodes.index)
