"""Models and histories whose right answers are known, for tests, doctests and trying things out."""

from __future__ import annotations

import numpy as np
import xarray as xr

from .history import labelled


def synthetic_history(
    n_steps: int = 24,
    n_layers: int = 2,
    n_heads: int = 4,
    n_text_tokens: int = 24,
    window: tuple[float, float] | None = (8e6, 2e7),
    noise: float = 0.0,
    seed: int = 0,
) -> xr.Dataset:
    """A history with a known phase window, in tokens: two heads of the last layer form inside it.

    With `window=None` nothing forms, the loss is convex in log tokens and in-context learning stays
    at its early value. Checkpoints lie evenly in log tokens between 0.1M and 100M tokens.
    """
    rng = np.random.default_rng(seed)
    tokens_seen = np.geomspace(1e5, 1e8, n_steps)
    log_tokens = np.log(tokens_seen)

    def rise(at: np.ndarray) -> np.ndarray:
        """0 before the window, 1 after it, 10 % and 90 % at its ends."""
        if window is None:
            return np.zeros_like(at)
        low, high = np.log(window)
        return 1 / (1 + np.exp(-4.394 * (at - (low + high) / 2) / (high - low)))

    formed = rise(log_tokens)
    per_head = (n_steps, n_layers, n_heads)
    prefix = 0.02 + 0.01 * rng.random(per_head)
    copying = 0.3 * (rng.random(per_head) - 0.5)
    previous = 0.02 + 0.02 * rng.random(per_head)
    for head, top in zip(range(min(2, n_heads)), (0.85, 0.6)):
        prefix[:, -1, head] += top * formed
        copying[:, -1, head] += 0.8 * formed
    previous[:, 0, 0] += 0.7 * formed

    position = np.arange(1, 128)
    context_gain = np.log1p(position / 8) / np.log1p(16)
    base = 3.0 + 5.5 * np.exp(-0.45 * (log_tokens - log_tokens[0]))
    by_position = (
        base[:, None] - (0.15 + 0.6 * formed[:, None]) * context_gain + noise * rng.standard_normal((n_steps, 127))
    )

    key, query = np.arange(n_text_tokens), np.arange(n_text_tokens)[:, None]
    half = max(1, n_text_tokens // 2)
    uniform = (key <= query) / (query + 1)
    target = np.where(query >= half, query - half + 1, 0)
    sharp = (key == target).astype(float)
    pattern = np.empty((n_steps, n_layers, n_heads, 2, n_text_tokens, n_text_tokens), dtype=np.uint8)
    strength = np.clip(prefix, 0, 1)[..., None, None, None]
    pattern[...] = np.round(255 * (strength * sharp + (1 - strength) * uniform))
    words = [f" w{i % half}" for i in range(n_text_tokens)]

    log = np.geomspace(1e5, 1e8, 400)
    training = 3.0 + 5.5 * np.exp(-0.45 * (np.log(log) - log_tokens[0])) - 0.5 * rise(np.log(log))
    return labelled(
        {
            "prefix_matching": prefix.astype(np.float32),
            "copying": copying.clip(-1, 1).astype(np.float32),
            "logit_lift": (3 * copying).astype(np.float32),
            "previous_token": previous.astype(np.float32),
            "duplicate_token": (0.02 + 0.02 * rng.random(per_head)).astype(np.float32),
            "loss": by_position.mean(1).astype(np.float32),
            "loss_by_position": by_position.astype(np.float32),
            "icl_score": (by_position[:, 119] - by_position[:, 11]).astype(np.float32),
            "pattern": pattern,
            "token": np.array([["<|bos|>", *words[1:]], ["<|bos|>", *words[1:]]], dtype=object),
            "training_loss": (training + 0.02 * rng.standard_normal(400)).astype(np.float32),
        },
        {
            "step": np.round(tokens_seen / 4096).astype(np.int64),
            "tokens_seen": ("step", tokens_seen.astype(np.int64)),
            "layer": np.arange(n_layers),
            "head": np.arange(n_heads),
            "position": position,
            "text": ["repeated words", "again"],
            "log_tokens_seen": ("log", log.astype(np.int64)),
        },
        {"model": "synthetic", "icl_early": 12, "icl_late": 120, "icl_half_width": 0},
    )


def perfect_induction_model(n_distinct_tokens: int = 40, n_ctx: int = 101):
    """A hand-built two-layer attention-only `TransformerBridge` whose induction head is perfect by construction.

    Head 0.0 attends to the previous token and writes that token's identity to a subspace of its own;
    head 1.0 attends to the position whose previous token is the current one and copies what stands
    there. By construction: previous_token 1.0 for 0.0; prefix_matching 1.0 and copying +1.0 for 1.0.
    Heads 0.1 and 1.1 are zero: they attend evenly and write nothing. No norm, no biases.
    """
    import torch

    from .lens import build_model

    n = n_distinct_tokens
    d_model, d_head, sharp = 2 * n + n_ctx, max(n, n_ctx), 200.0
    identity, previous, position = slice(0, n), slice(n, 2 * n), slice(2 * n, d_model)
    model = build_model(
        {
            "n_layers": 2, "d_model": d_model, "n_heads": 2, "d_head": d_head, "n_ctx": n_ctx, "d_vocab": n,
            "eps": 1e-5, "d_mlp": None,
        },
        normalization=None,
    )  # fmt: skip
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    state["embed.weight"][:, identity] = torch.eye(n)
    state["pos_embed.weight"][:, position] = torch.eye(n_ctx)
    state["unembed.weight"][:, identity] = torch.eye(n)
    scale = sharp * d_head**0.5

    # Head 0.0: the query at position i looks for the key at i - 1 (position 0 has only itself).
    state["blocks.0.attn.q.weight"][:n_ctx, position] = scale * torch.diag(torch.ones(n_ctx - 1), 1)
    state["blocks.0.attn.k.weight"][:n_ctx, position] = torch.eye(n_ctx)
    state["blocks.0.attn.v.weight"][:n, identity] = torch.eye(n)
    state["blocks.0.attn.o.weight"][previous, :n] = torch.eye(n)
    # Head 1.0: the query's token is matched with the token before the key, the key's token is copied.
    state["blocks.1.attn.q.weight"][:n, identity] = scale * torch.eye(n)
    state["blocks.1.attn.k.weight"][:n, previous] = torch.eye(n)
    state["blocks.1.attn.v.weight"][:n, identity] = torch.eye(n)
    state["blocks.1.attn.o.weight"][identity, :n] = torch.eye(n)
    model.load_state_dict(state)
    return model
