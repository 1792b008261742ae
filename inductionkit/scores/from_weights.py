"""Scores that need weights alone: what a head's circuits do to any input, and how heads compose.

Each function takes one layer's heads in the canonical form of `lens.Circuits` (norms folded, residual stream as rows).
E21 is Elhage et al. 2021, O22 Olsson et al. 2022. `@head_score` registers a function as a score. No score forms a
matrix of the vocabulary's or the residual stream's square: all of them are traces and Frobenius norms of low-rank
products.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from .on_prompts import PerHead
from .score import head_score

Reading = Float[Tensor, "head d_model d_head"]
Writing = Float[Tensor, "head d_head d_model"]
PerPair = Float[Tensor, "head earlier"]


class LayerWeights(Protocol):
    """The weights of one layer's heads and of the heads below it, as a scan shows them to the scores.

    `gram` is `W_U W_E` and `embedding_gram` is `W_E^T W_E`; `earlier_factors` are the `write_factors` of the heads
    below that write anything. `random_composition` is what a matrix rotated at random gives. A score is asked for only
    where weights say what heads write, where there are heads below, if it needs them, and where queries and keys pass
    no norm of their own, if it needs those.
    """

    value: Reading
    output: Writing
    query: Reading
    key: Reading
    gram: Float[Tensor, "d_model d_model"]
    embedding_gram: Float[Tensor, "d_model d_model"]
    earlier_values: Reading
    earlier_outputs: Writing
    earlier_factors: Writing
    earlier_previous_token: Float[Tensor, " earlier"]
    random_composition: float


@head_score(
    "weights",
    of=lambda score, layer: score(layer.value, layer.output, layer.gram),
    long_name="share of positive eigenvalues of the OV circuit, -1 to 1",
    reference="E21",
    needs=("direct path",),
)
def ov_copying(value: Reading, output: Writing, gram: Float[Tensor, "d_model d_model"]) -> PerHead:
    """Whether the OV circuit raises the token it reads: `sum(lambda) / sum(|lambda|)`, -1 to 1 (E21).

    `value` is `W_V` and `output` is `W_O` of each head. `lambda` are the eigenvalues of `W_E W_V W_O W_U`; those that
    are not zero are the eigenvalues of the `d_head x d_head` matrix `W_O gram W_V` with `gram = W_U W_E`. 1: every
    eigenvalue is positive, the circuit copies; -1: it suppresses; 0: neither prevails. NaN for a circuit that writes
    nothing. A high value shows neither that single tokens are told apart (see `copying`) nor what the head attends
    to.
    """
    small = (output @ gram @ value).cpu().double()  # as small as it is, precision costs nothing
    eigenvalues = torch.linalg.eigvals(small)
    share: Tensor = small.diagonal(dim1=-2, dim2=-1).sum(-1) / eigenvalues.abs().sum(-1)
    return share.float().to(value.device)


@head_score(
    "weights",
    of=lambda score, layer: score(
        layer.query,
        layer.key,
        layer.earlier_values,
        layer.earlier_outputs,
        layer.earlier_previous_token,
        layer.embedding_gram,
    ),
    long_name="K-composition with previous-token heads to match the same token",
    reference="O22, eq. 4",
    needs=("direct path", "earlier heads", "queries without a norm"),
)
def qk_trace(
    query: Reading,
    key: Reading,
    earlier_values: Reading,
    earlier_outputs: Writing,
    earlier_previous_token: Float[Tensor, " earlier"],
    embedding_gram: Float[Tensor, "d_model d_model"],
) -> PerHead:
    """How much a head matches a token with what previous-token heads say stood before the key (O22, eq. 4).

    Trace of `sum_e p_e W_E W_Q W_K^T (W_V W_O)_e^T W_E^T` over earlier heads `e`, `p_e` their `previous_token` score;
    any real number, in units of attention scores summed over the vocabulary (before the division by `sqrt(d_head)`).
    `query` and `key` are of the heads that are scored; `earlier_values`, `earlier_outputs` and
    `earlier_previous_token` of those below; `embedding_gram` is `W_E^T W_E`. A high value does not show that the head
    attends so: positions and other terms have their say.
    """
    # sum_e p_e (W_V W_O)_e, applied to the embeddings and to the keys in turn, never formed.
    read = torch.einsum("emd,mn,hnq->ehdq", earlier_values, embedding_gram, query)
    matched = torch.einsum("edm,hmq->ehdq", earlier_outputs, key)
    return torch.einsum("e,ehdq,ehdq->h", earlier_previous_token, read, matched)


def write_factors(value: Reading, output: Writing) -> Writing:
    """`R_V W_O` with `W_V = Q R_V`: the OV circuit up to a rotation on its reading side, so with the same norms."""
    return _triangular(value) @ output


@head_score(
    "weights",
    of=lambda score, layer: strongest(score(layer.query, layer.key, layer.earlier_factors), layer),
    long_name="strongest K-composition with an earlier head, less the random baseline",
    reference="E21",
    needs=("direct path", "earlier heads", "queries without a norm"),
)
def k_composition(query: Reading, key: Reading, earlier: Writing) -> PerPair:
    """How much keys read what earlier heads wrote: `||W_QK W_OV^T|| / (||W_QK|| ||W_OV||)`, 0 to 1 (E21).

    `query` and `key` are `W_Q` and `W_K` of each head, `earlier` the `write_factors` of heads below. A matrix rotated
    at random gives `1 / sqrt(d_model)` in the mean square, which `scan_heads` subtracts. A high value does not show
    that the composition matters for any prompt.
    """
    return _composition(key @ _triangular(query).mT, earlier)


@head_score(
    "weights",
    of=lambda score, layer: strongest(score(layer.query, layer.key, layer.earlier_factors), layer),
    long_name="strongest Q-composition with an earlier head, less the random baseline",
    reference="E21",
    needs=("direct path", "earlier heads", "queries without a norm"),
)
def q_composition(query: Reading, key: Reading, earlier: Writing) -> PerPair:
    """How much queries read what earlier heads wrote: `||W_OV W_QK|| / (||W_OV|| ||W_QK||)`, 0 to 1 (E21).

    `query`, `key` and `earlier` are as in `k_composition`.
    """
    return _composition(query @ _triangular(key).mT, earlier)


@head_score(
    "weights",
    of=lambda score, layer: strongest(score(layer.value, layer.output, layer.earlier_factors), layer),
    long_name="strongest V-composition with an earlier head, less the random baseline",
    reference="E21",
    needs=("direct path", "earlier heads"),
)
def v_composition(value: Reading, output: Writing, earlier: Writing) -> PerPair:
    """How much values read what earlier heads wrote: `||W_OV' W_OV|| / (||W_OV'|| ||W_OV||)`, 0 to 1 (E21).

    `value` and `output` are `W_V` and `W_O` of each head; `earlier`, of which W_OV' is one, is as in `k_composition`.
    """
    return _composition(value @ _triangular(output.mT).mT, earlier)


def strongest(composition: PerPair, layer: LayerWeights) -> PerHead:
    """Each head's strongest composition with one head below, less what a random rotation gives."""
    return composition.amax(dim=1) - layer.random_composition


def _triangular(tall: Reading) -> Float[Tensor, "head d_head d_head"]:
    """`R` of `tall = Q R`; on the CPU, for not every device has a QR decomposition."""
    triangular: Tensor = torch.linalg.qr(tall.cpu(), mode="r").R
    return triangular.to(tall.device)


def _composition(reading: Reading, earlier: Writing) -> PerPair:
    n_heads, _, d_head = reading.shape
    n_earlier, d_earlier, _ = earlier.shape
    product = earlier.flatten(0, 1) @ reading.permute(1, 0, 2).flatten(1)
    squares = product.square().view(n_earlier, d_earlier, n_heads, d_head).sum(dim=(1, 3))
    strength: Tensor = squares.sqrt() / (earlier.flatten(1).norm(dim=1)[:, None] * reading.flatten(1).norm(dim=1))
    return strength.T
