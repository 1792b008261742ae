"""Smeared keys (Olsson et al. 2022, "Smeared keys" architecture): induction in a model of one layer.

A key is a mix of its own and the one before it, so a head can match on the token before the one it
attends to without a previous-token head in a layer below.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SmearedKeys(nn.Linear):
    """A key projection, `k_j <- s k_j + (1 - s) k_(j-1)` with `s = sigmoid(alpha)` learned for each head.

    `alpha` (head,) starts at 0, half and half; the first position keeps its key. Maps (batch, position,
    d_model) to (batch, position, head x d_head), as the `nn.Linear` does that it stands in for.
    """

    def __init__(self, d_model: int, n_heads: int, d_head: int):
        super().__init__(d_model, n_heads * d_head)
        self.alpha = nn.Parameter(torch.zeros(n_heads))

    def forward(self, x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position width"]:
        keys: Tensor = super().forward(x).unflatten(-1, (len(self.alpha), -1))
        own = torch.sigmoid(self.alpha)[:, None]
        before = torch.cat([keys[:, :1], keys[:, :-1]], dim=1)
        return (own * keys + (1 - own) * before).flatten(-2)
