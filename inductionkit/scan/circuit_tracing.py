"""The edges of a model's induction circuit: who makes the heads that match look there, and who reads what they write.

All is measured on two repeats of random tokens, at the queries of the second, where a query's token occurred once
before: its follower there is what the heads that match look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ModelError
from ..history import Variable, labelled
from ..lens import DEFAULT_MAX_BYTES, Lens
from ..lens.readings import Readings
from ..lens.tape import Tape, taped_batches
from ..scores.on_gradients import moved_from_followers
from ..scores.on_prompts import Share, attention_to, followers
from ..scores.prompts import PromptSettings, repeated_random_tokens
from ..scores.roles import SIDES, RoleRule
from .heads import prompt_settings
from .measurement import Advance, Measurement, fingerprint, silently

MIN_LIFT = 0.1  # nats: edges of side V move at least this much
MIN_SHARE = 0.1
N_EDGES = 128  # of a history; the weakest beyond are left out
EDGE_VARIABLES = {
    "edge_from": Variable(("step", "edge"), "int32", "", "head that writes, layer * n_heads + head; -1 for no edge"),
    "edge_to": Variable(("step", "edge"), "int32", "", "head that reads, layer * n_heads + head"),
    "edge_side": Variable(("step", "edge"), "int8", "", "what reads: 0 keys, 1 queries, 2 values"),
    "edge_share": Variable(
        ("step", "edge"), "float32", "1", "share of the reader's score gap (K, Q) or of the writer's total lift (V)"
    ),
}

Head = tuple[int, int]
Key = tuple[str, Head]  # a side, and the matching head


class Edge(NamedTuple):
    """One head's part in another: `share` of the `whole`, the reader's score gap per query (sides K and Q), or the
    writer's total lift in nats (V)."""

    sender: Head
    receiver: Head
    side: str
    share: float
    whole: float


@dataclass(frozen=True)
class TwoRepeats:
    """Two repeats of random tokens; `second` is where the second stands, `attended` (sequence, query, key) says which
    key holds each of its queries' follower, and `targets` (sequence, query) which token that is."""

    tokens: Int[Tensor, "sequence position"]
    second: slice

    @property
    def attended(self) -> Bool[Tensor, "sequence query key"]:
        return followers(self.tokens)[:, self.second]

    @property
    def targets(self) -> Int[Tensor, "sequence query"]:
        return self.tokens.gather(1, self.attended.int().argmax(2))

    def batches(self, lens: Lens, max_bytes: int) -> list[TwoRepeats]:
        return [TwoRepeats(part, self.second) for part in taped_batches(lens, self.tokens, max_bytes)]


def two_repeats(
    lens: Lens, prompts: PromptSettings, held_out: Int[np.ndarray, "sequence position"] | None = None
) -> TwoRepeats:
    """The first two repeats of the prompts that heads are scored on. Raises ModelError if they do not fit."""
    bos = prompts.bos_for(lens.bos)
    start = int(bos is not None) + prompts.n_distinct
    drawn = repeated_random_tokens(lens.d_vocab, bos, prompts, held_out)[:, : start + prompts.n_distinct]
    return TwoRepeats(lens.check_tokens(drawn), slice(start, start + prompts.n_distinct))


@dataclass(frozen=True)
class CircuitTracing(Measurement):
    """The edges at a checkpoint, strongest first. `scored` are the prompts that say which heads match."""

    prompts: TwoRepeats
    scored: Int[Tensor, "sequence position"]
    max_bytes: int
    about: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        least = f"prefix matching {RoleRule().min_prefix_matching}, shares {MIN_SHARE}, lifts {MIN_LIFT}"
        tokens = fingerprint(self.scored.numpy())
        return {**self.about, "circuit": f"{N_EDGES} edges from {least}, on prompts {tokens}"}

    def measure(self, lens: Lens, advance: Advance = silently) -> xr.Dataset:
        matching = heads_that_match(lens, self.scored, self.max_bytes)
        edges, reasons = trace_edges(lens, self.prompts, matching, self.max_bytes, advance=advance)
        rows = [
            (*(layer * lens.n_heads + head for layer, head in edge[:2]), SIDES.index(edge.side), edge.share)
            for edge in edges[:N_EDGES]
        ]
        columns = np.array([*rows, *[(-1, -1, 0, np.nan)] * (N_EDGES - len(rows))]).T
        if len(edges) > N_EDGES:
            reasons.append(f"{len(edges) - N_EDGES} weaker edges are left out")
        values = {n: column.astype(EDGE_VARIABLES[n].dtype) for n, column in zip(EDGE_VARIABLES, columns)}
        return labelled(values, EDGE_VARIABLES, None, {"untraced": "; ".join(reasons)} if reasons else {})


def circuit_tracing(
    lens: Lens,
    prompts: PromptSettings,
    held_out: Int[np.ndarray, "sequence position"] | None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> CircuitTracing:
    """The tracing of edges, made ready for a model."""
    scored = repeated_random_tokens(lens.d_vocab, prompts.bos_for(lens.bos), prompts, held_out)
    about = prompt_settings(lens, prompts, held_out)
    return CircuitTracing(two_repeats(lens, prompts, held_out), scored, max_bytes, about)


def heads_that_match(lens: Lens, tokens: Int[Tensor, "sequence position"], max_bytes: int) -> list[Head]:
    """The heads that match prefixes on repeated random tokens, by the rule of their roles."""
    shares: dict[int, Share] = {}
    for batch in lens.batches(tokens.to(lens.device), max_bytes):
        of = attention_to(followers(batch)[None])

        def add(layer: int, pattern: Tensor, _: Tensor | None, of: Any = of) -> None:
            shares[layer] = shares[layer] + of(pattern)[0] if layer in shares else of(pattern)[0]

        lens.visit_attention(batch, add)
    least = RoleRule().min_prefix_matching
    return [(at, head) for at in sorted(shares) for head in (shares[at].value >= least).nonzero()[:, 0].tolist()]


def trace_edges(
    lens: Lens,
    prompts: TwoRepeats,
    matching: Sequence[Head],
    max_bytes: int = DEFAULT_MAX_BYTES,
    min_share: float = MIN_SHARE,
    advance: Advance = silently,
) -> tuple[list[Edge], list[str]]:
    """The edges of at least `min_share`, up or down, strongest first, and what could not be traced, with the reason."""
    traced = traced_parts(lens, prompts, matching, max_bytes, advance)
    n_queries, reasons = prompts.targets.numel(), traced.reasons
    edges = []
    for (side, head), sums in traced.parts.items():
        total = traced.whole[side, head]
        if side == "V" and abs(total) < MIN_LIFT * n_queries:
            continue
        if side != "V" and total <= 0:
            reasons.append(f"{head[0]}.{head[1]}: its score of the followers is not above its mean score")
            continue
        for layer, row in enumerate((sums / total).tolist()):
            for other, share in enumerate(row):
                if abs(share) >= min_share and (side != "V" or abs(share * total) >= MIN_LIFT * n_queries):
                    ends = ((layer, other), head) if side != "V" else (head, (layer, other))
                    edges.append(Edge(*ends, side, share, total / n_queries))
    return sorted(edges, key=lambda edge: -abs(edge.share)), [*dict.fromkeys(reasons)]


@dataclass
class Traced:
    """Sums over queries and batches, by side and matching head.

    `whole` is its gap (sides K and Q) or its total lift (V); `parts` (layer, head) is how much of it goes with what
    each earlier head wrote, or through the values of each later one. `reasons` say what could not be traced.
    """

    whole: dict[Key, float] = field(default_factory=dict)
    parts: dict[Key, Float[Tensor, "layer head"]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def add_whole(self, key: Key, amount: float) -> None:
        self.whole[key] = self.whole.get(key, 0.0) + amount

    def add_parts(self, lens: Lens, parts: Mapping[Key, Tensor], layer: int, head: int | slice = slice(None)) -> None:
        for key, part in parts.items():
            if key not in self.parts:
                self.parts[key] = torch.zeros(lens.n_layers, lens.n_heads, device=lens.device)
            self.parts[key][layer, head] += part


def traced_parts(
    lens: Lens, prompts: TwoRepeats, matching: Sequence[Head], max_bytes: int, advance: Advance = silently
) -> Traced:
    """The gaps and lifts of the matching heads, and the parts that other heads have in them."""
    traced = Traced()
    for batch in prompts.batches(lens, max_bytes) if matching else ():
        _add_reading(lens, batch, matching, traced)
        advance(1)
        try:
            _add_moving_on(lens, batch, matching, traced)
        except ModelError as error:
            traced.reasons.append(f"what reads the values of later heads: {error}")
        advance(1)
    return traced


@torch.no_grad()
def _add_reading(lens: Lens, batch: TwoRepeats, matching: Sequence[Head], traced: Traced) -> None:
    """Sides K and Q: the gap of each matching head, and the part of it that goes with what each earlier head wrote."""
    readings = Readings(lens, batch.tokens, {layer for layer, _ in matching})
    fields: dict[Key, Tensor] = {}
    for layer, head in matching:
        gradients = None
        if (reading := readings.of.get(layer)) is not None:
            gap = reading.gap(head, batch.attended, batch.second)
            gradients = reading.gap_gradients(gap)
        if gradients is None:
            traced.reasons.append(f"layer {layer}: queries and keys are not shown on their way to the scores")
            continue
        for side, gradient in gradients.items():
            fields[side, (layer, head)] = gradient
            traced.add_whole((side, (layer, head)), gap.item())
    for layer in readings.layers_that_wrote:
        readers = [key for key in fields if key[1][0] > layer]
        if readers:
            written = readings.written(layer).transpose(0, 2).flatten(1)  # head, (position, sequence, d_model)
            shares = torch.stack([fields[key].transpose(0, 1).flatten() for key in readers]) @ written.T
            traced.add_parts(lens, dict(zip(readers, shares)), layer)


def _add_moving_on(lens: Lens, batch: TwoRepeats, matching: Sequence[Head], traced: Traced) -> None:
    """Side V: each matching head's total lift, and the part of it that later heads move on by their values."""
    later = range(min(layer for layer, _ in matching) + 1, lens.n_layers)
    tape = Tape(lens, batch.tokens)
    gradients = tape.gradients(tape.lift(batch.second, batch.targets))
    indirect = lens.indirect(gradients)
    traced.reasons += [f"values of layer {layer}: {why}" for layer, why in indirect.items()]
    readings = Readings(lens, batch.tokens, gradients.keys() & set(later))
    senders = [head for head in matching if head[0] in gradients and head[0] not in indirect and readings.of]
    rows: dict[Head, Tensor] = {}
    with torch.no_grad():
        for layer in {layer for layer, _ in senders}:
            chosen = [head for at, head in senders if at == layer]
            pattern, values = tape.patterns[layer].detach(), tape.unbiased_values(layer)
            moved = moved_from_followers(pattern[:, :, batch.second], values, batch.attended)
            written = written_from_followers(readings, layer, pattern, values, batch)
            for head in chosen:
                rows[layer, head] = written[:, :, head].flatten()
                lift = (moved[:, :, head] * gradients[layer][:, batch.second, head]).sum().item()
                traced.add_whole(("V", (layer, head)), lift)
    for layer in sorted(readings.of):
        below = [sender for sender in rows if sender[0] < layer]
        if not below or layer in indirect:
            continue
        stack = torch.stack([rows[sender] for sender in below])
        for head in range(lens.n_heads):
            # What a later head's values are worth: its own total effect, at every query that attends to them.
            pattern = readings.patterns[layer][:, head].float()
            worth = torch.einsum("sqk,sqd->skd", pattern, gradients[layer][:, :, head])
            field = readings.of[layer].value_gradient(head, worth)
            if field is None:
                traced.reasons.append(
                    f"values of layer {layer}: they are not shown on their way to what its heads write"
                )
                break
            shares = stack @ field.flatten()
            traced.add_parts(lens, {("V", sender): share for sender, share in zip(below, shares)}, layer, head)


def written_from_followers(
    readings: Readings, layer: int, pattern: Tensor, values: Tensor, batch: TwoRepeats
) -> Float[Tensor, "sequence position head d_model"]:
    """The writing of each head of a layer that comes from the followers alone; 0 at queries of the first repeat."""
    z = torch.zeros(values.shape, device=values.device)
    z[:, batch.second] = moved_from_followers(pattern[:, :, batch.second], values, batch.attended)
    return readings.written(layer, z)
