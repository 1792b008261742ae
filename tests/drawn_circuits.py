"""Circuits to draw: one shaped like that of a language model of 30 x 9 heads, a larger one, and one that assembles.

Some figures are like those measured on a real model, others are made up: they serve to test drawings, nothing else.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from inductionkit.circuit.result import EDGE_COLUMNS, NODE_FIGURES, InductionCircuit

# Head, role, then prefix matching, previous token, duplicate token, direct lift, total lift, loss without it.
LANGUAGE_MODEL_NODES = [
    ("1.4", "", 0.02, 0.21, 0.05, 0.0, 0.31, 0.62),
    ("3.2", "duplicate-token", 0.03, 0.04, 0.81, 0.0, 0.05, 0.12),
    ("11.5", "", 0.03, 0.33, 0.02, 0.0, 0.22, 0.41),
    ("13.1", "previous-token", 0.01, 0.52, 0.01, 0.0, 0.08, 0.10),
    ("16.0", "previous-token", 0.01, 0.91, 0.02, 0.0, 1.90, 5.0),
    ("17.3", "induction", 0.81, 0.02, 0.01, 0.02, 1.35, 1.33),
    ("17.4", "prefix-matching", 0.83, 0.02, 0.01, 0.0, -0.08, 0.04),
    ("17.5", "prefix-matching", 0.81, 0.02, 0.01, 0.0, -0.22, -0.02),
    ("17.8", "", 0.05, 0.11, 0.02, 0.0, 0.20, 0.38),
    ("18.2", "prefix-matching", 0.44, 0.02, 0.01, 0.0, 0.02, 0.03),
    ("18.6", "induction", 0.91, 0.02, 0.01, 0.18, 2.11, 2.38),
    ("18.7", "induction", 0.63, 0.03, 0.01, 0.12, 1.73, 1.49),
    ("20.6", "induction", 0.61, 0.03, 0.01, 0.14, 0.35, 0.35),
    ("22.1", "previous-token", 0.02, 0.63, 0.01, 0.01, 0.10, 0.16),
    ("22.7", "induction", 0.36, 0.02, 0.01, 0.10, 0.21, 0.18),
    ("23.0", "copying", 0.31, 0.02, 0.01, 0.21, 0.07, -0.02),
    ("23.1", "copying", 0.45, 0.02, 0.01, 0.34, -0.02, -0.05),
    ("23.2", "induction", 0.58, 0.02, 0.01, 0.67, 0.05, 0.27),
    ("23.7", "induction", 0.64, 0.02, 0.01, 0.49, 0.46, 0.54),
    ("23.8", "induction", 0.41, 0.02, 0.01, 0.22, 0.28, 0.35),
    ("24.4", "anti-copying", 0.48, 0.02, 0.01, -0.38, -0.65, -0.24),
    ("25.3", "copying", 0.12, 0.02, 0.01, 0.18, 0.15, 0.11),
    ("26.5", "copying", 0.10, 0.02, 0.01, 0.14, 0.12, 0.09),
    ("27.0", "anti-copying", 0.08, 0.02, 0.01, -0.11, -0.20, -0.08),
    ("28.6", "copying", 0.05, 0.02, 0.01, 0.26, 0.31, 0.22),
]
LANGUAGE_MODEL_EDGES = """
16.0 17.3 K .78 .74, 16.0 17.4 K .81 .78, 16.0 17.5 K .76, 16.0 18.6 K .44 .71, 16.0 18.7 K .35 .52, 16.0 18.2 K .30,
16.0 20.6 K .24 .33, 16.0 22.7 K .08, 16.0 23.7 K .03, 16.0 23.2 K .05, 1.4 16.0 Q .12, 1.4 17.3 K .10, 1.4 17.4 K .09,
1.4 18.6 Q .12, 1.4 23.7 Q .18, 11.5 17.3 K .08, 11.5 17.4 K .09, 3.2 18.6 Q .06, 13.1 17.5 K .05, 17.8 18.6 Q .27,
17.8 18.7 Q .14, 17.8 20.6 Q -.09, 22.1 23.7 K .20 .18, 22.1 23.8 K .16, 22.1 23.2 K .15, 22.1 24.4 K .07,
18.7 23.7 Q .15, 18.6 20.6 Q .11, 18.6 23.7 V .20, 18.6 23.2 V .12, 18.6 24.4 V -.14, 18.7 25.3 V .10, 17.3 23.1 V .08,
17.3 23.0 V .06, 20.6 24.4 V -.08, 23.7 26.5 V .12, 23.7 24.4 V -.22, 23.2 28.6 V .16, 18.6 28.6 V .09, 24.4 27.0 V .07
"""


def circuit_of(nodes, edges, n_layers, n_heads, tokens=(), patterns=None, model="a model") -> InductionCircuit:
    """A circuit of nodes (head, role, figures...) and edges (from, to, side, share, measured)."""
    pairs = [tuple(map(int, name.split("."))) for name, *_ in nodes]
    index = pd.MultiIndex.from_tuples(pairs, names=["layer", "head"]) if pairs else pd.MultiIndex.from_arrays([[], []])
    table = pd.DataFrame([row[1:] for row in nodes], index=index, columns=["role", *NODE_FIGURES])
    ends = [(*map(int, f"{sender}.{to}".split(".")), *rest) for sender, to, *rest in edges]
    return InductionCircuit(model, n_layers, n_heads, table, pd.DataFrame(ends, columns=EDGE_COLUMNS), tokens, patterns)


def language_model_circuit(n_tokens: int = 24) -> InductionCircuit:
    edges = []
    for edge in LANGUAGE_MODEL_EDGES.replace("\n", " ").split(","):
        sender, to, side, share, *measured = edge.split()
        edges.append((sender, to, side, float(share), float(measured[0]) if measured else np.nan))
    half = [" the", " river", " ran", " under", " an", " old", " stone", " bridge", ",", " slow", " and", " green"]
    tokens = ["<s>", *((half * n_tokens)[: (n_tokens - 1) // 2] * 2)]
    patterns = np.stack([pattern_of(role, len(tokens)) for _, role, *_ in LANGUAGE_MODEL_NODES])
    return circuit_of(LANGUAGE_MODEL_NODES, edges, 30, 9, tokens, patterns, "a small language model")


def pattern_of(role: str, n_tokens: int) -> np.ndarray:
    """A pattern such as a head of that role has on a sequence that repeats after the first token."""
    query = np.arange(n_tokens)
    back = {"previous-token": 1, "duplicate-token": n_tokens // 2}.get(role, n_tokens // 2 - 1)
    target = np.where(query - back > 0, query - back, 0)
    pattern = np.zeros((n_tokens, n_tokens))
    pattern[query, target] = 0.8
    pattern[:, 0] += 0.2
    return pattern


def large_circuit(n_layers: int = 48, n_heads: int = 25, n_nodes: int = 60, n_edges: int = 120) -> InductionCircuit:
    """Nodes and edges drawn at random, many of them in neighbouring columns of the same layer."""
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.choice(n_layers * n_heads, n_nodes - 8, replace=False))
    crowded = 30 * n_heads + np.arange(8)  # side by side
    pairs = sorted({divmod(int(number), n_heads) for number in [*numbers, *crowded]})
    roles = ("previous-token", "duplicate-token", "prefix-matching", "induction", "copying", "anti-copying", "")
    nodes = [
        (f"{layer}.{head}", roles[index % 7], *rng.uniform(0, 1, 3), *rng.normal(0, 1, 2), 3 * rng.exponential())
        for index, (layer, head) in enumerate(pairs)
    ]
    edges = {}
    while len(edges) < n_edges:
        one, other = sorted(rng.choice(len(pairs), 2, replace=False))
        if pairs[one][0] < pairs[other][0]:
            ends = ("{}.{}".format(*pairs[one]), "{}.{}".format(*pairs[other]), "KQV"[rng.integers(3)])
            edges[ends] = (*ends, rng.uniform(-0.3, 1), np.nan)
    return circuit_of(nodes, list(edges.values()), n_layers, n_heads, model="a large model")


def assembling_circuits(steps=(0, 100, 200, 400, 800, 1600)) -> dict[int, InductionCircuit]:
    """The language model's circuit as it might form: the previous-token heads first, none at the first step."""
    whole = language_model_circuit()
    found = {}
    for index, step in enumerate(steps):
        share = index / (len(steps) - 1)
        first = whole.nodes["role"].isin(["previous-token", "duplicate-token", ""]) if share < 0.5 else True
        nodes = (
            whole.nodes[(whole.nodes["loss_effect"].abs() >= 2.5 * (1 - share)) & first] if share else whole.nodes[:0]
        )
        nodes = nodes.assign(**{name: nodes[name] * share for name in NODE_FIGURES})
        kept = [
            (row.from_layer, row.from_head) in nodes.index and (row.to_layer, row.to_head) in nodes.index
            for row in whole.edges.itertuples()
        ]
        edges = whole.edges[kept].assign(share=lambda table, share=share: table["share"] * share)
        rows = [whole.nodes.index.get_loc(pair) for pair in nodes.index]
        found[step] = InductionCircuit(whole.model, 30, 9, nodes, edges, whole.tokens, whole.patterns[rows])
    return found
