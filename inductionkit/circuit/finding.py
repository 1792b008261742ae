"""`induction_circuit`: the induction circuit of a model, found by gradients and proved by ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import Tensor

from ..errors import ModelError
from ..history import PATTERN_SCALE
from ..lens import DEFAULT_MAX_BYTES, Lens
from ..scan.circuit_tracing import MIN_SHARE, Edge, Head, TwoRepeats, trace_edges, two_repeats
from ..scan.heads import N_TEXT_SEQUENCES, head_scoring
from ..scan.held_out import held_out_rows
from ..scan.texts import N_DEFAULT_ROWS, default_text_rows
from ..scores.prompts import PromptSettings
from ..scores.roles import RoleRule
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.real_numbers import real_number
from .result import EDGE_COLUMNS, InductionCircuit, node_table
from .verifying import measured_shares

SCORED = ("prefix_matching", "previous_token", "duplicate_token", "direct_lift", "total_lift")


@undisturbed()
def induction_circuit(
    model: Any,
    held_out: Any = None,
    prompts: PromptSettings = PromptSettings(),
    min_share: float = MIN_SHARE,
    verify: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: bool = True,
) -> InductionCircuit:
    """The induction circuit of a model: the heads that match prefixes, what makes them do so, and what reads them.

    A head matches if its prefix matching is at least 0.3. Three kinds of edges are traced, on the second of two repeats
    of random tokens:

    - K and Q: for a head that matches, the gap is by how much its score of the follower exceeds its mean score, before
      the softmax. With its queries held, and the division of the norm before it, the gap is linear in what earlier
      heads, MLPs and the embedding wrote into the residual stream that its keys read: their shares add up to 1, biases
      aside. The share of an earlier head is that of an edge of side K; the same with keys held is side Q.
    - V: the share of a matching head's `total_lift` that goes through the values of a later head, which attends to what
      it wrote and moves it on.

    Edges of at least `min_share`, up or down, are kept, of side V those that move at least 0.1 nats. With `verify` each
    is also measured: what the one head wrote is taken from what the other's keys (queries, values) read, and from
    nothing else, and the model is run again; the column `measured` has the share of the gap or lift that is lost then.

    The nodes are all heads that match and those that edges join, each with its role and the figures behind it.

    `model`, `held_out` and `prompts` are as in `scan_heads`. `held_out`, on which `previous_token` is measured, is by
    default a text of this package where the model carries a tokenizer, else the first repeat of the prompts. Unlike
    there, it does not say which tokens the prompts are drawn from. Activations of all layers take about `max_bytes`.
    `progress` shows a bar.

    Raises ModelError if the model cannot be scored.

    >>> from inductionkit.testing import hand_built_model
    >>> induction_circuit(hand_built_model([["previous-token", "idle"], ["idle", "induction"]]), progress=False)
    TransformerLensNative: 0.0 writes the previous token; 1.1 matches on it; 1.1 raises the token by 1.0 nats
    """
    min_share = real_number(min_share, "min_share", "(0, 1]", ModelError)
    max_bytes = int(real_number(max_bytes, "max_bytes", "[1, inf)", ModelError))
    lens = model if isinstance(model, Lens) else Lens(model)
    scoring = head_scoring(lens, SCORED, prompts=prompts, max_bytes=max_bytes)
    repeats = two_repeats(lens, prompts)
    scores = replace(scoring, text=_text(lens, held_out, repeats)).measure(lens)
    rule = RoleRule()
    matches = scores["prefix_matching"].values >= rule.min_prefix_matching
    matching = [(int(layer), int(head)) for layer, head in np.argwhere(matches)]
    edges, reasons = trace_edges(lens, repeats, matching, max_bytes, min_share)
    with progress_bar(progress and verify and bool(edges)) as bar:
        task = bar.add_task(f"edges of {lens.name}", total=len(edges), at="")
        measured = measured_shares(lens, repeats, edges, max_bytes, lambda n: bar.advance(task, n)) if verify else {}
    heads = sorted({*matching, *(head for edge in edges for head in edge[:2])})
    return InductionCircuit(
        lens.label,
        lens.n_layers,
        lens.n_heads,
        node_table({head: {name: float(scores[name].values[head]) for name in SCORED} for head in heads}, rule),
        _table(edges, measured),
        *_shown(lens, repeats.tokens[:1], heads),
        untraced=reasons,
    )


def _text(lens: Lens, held_out: Any, repeats: TwoRepeats) -> Int[np.ndarray, "sequence position"]:
    if held_out is not None:
        return held_out_rows(held_out, lens, min_length=2)[:N_TEXT_SEQUENCES]
    own = default_text_rows(lens)
    return repeats.tokens[:, : repeats.second.start].numpy() if own is None else own[:N_DEFAULT_ROWS]


def _table(edges: Sequence[Edge], measured: dict[Edge, float]) -> pd.DataFrame:
    rows = [(*edge.sender, *edge.receiver, edge.side, edge.share, measured.get(edge, np.nan)) for edge in edges]
    ends, figures = EDGE_COLUMNS[:4], EDGE_COLUMNS[5:]
    table = pd.DataFrame(rows, columns=EDGE_COLUMNS)
    return table.astype({**dict.fromkeys(ends, int), **dict.fromkeys(figures, float)})


def _shown(lens: Lens, tokens: Tensor, heads: Sequence[Head]) -> tuple[list[str], np.ndarray]:
    """The strings of a prompt's tokens, and each head's attention on it (node, query, key), as a history has it."""
    patterns: dict[int, Tensor] = {}
    lens.visit_attention(tokens, lambda layer, pattern, _: patterns.update({layer: pattern[0].float().cpu()}))
    tokenizer = getattr(lens.model, "tokenizer", None)
    strings = [str(token) if tokenizer is None else tokenizer.decode([token]) for token in tokens[0].tolist()]
    length = tokens.shape[1]
    rows = [patterns[layer][head].numpy() for layer, head in heads]
    quantised = np.round(np.array(rows, np.float32).reshape(-1, length, length) / PATTERN_SCALE) * PATTERN_SCALE
    return strings, quantised
