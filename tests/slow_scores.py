"""The scores once more, from a checkpoint's arrays, written out loop by loop as paper and docstrings say.

Shares no code with the package: an own forward pass, no tricks, one token pair at a time.
"""

from __future__ import annotations

import numpy as np


def norm(x, weight, bias, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight + bias


def run(state, tokens, n_heads):
    """Patterns [layer][head][query, key], values [layer][head][position] without biases, logits, of one sequence;
    last, what the final norm divides each position by.
    """
    state = {name: np.asarray(array, dtype=np.float64) for name, array in state.items()}
    n_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks"))
    x = state["embed.weight"][tokens] + state["pos_embed.weight"][: len(tokens)]
    patterns, values = [], []
    for layer in range(n_layers):
        own = {name.split(".", 2)[2]: array for name, array in state.items() if name.startswith(f"blocks.{layer}.")}
        y = norm(x, own["ln1.weight"], own["ln1.bias"])
        unbiased = norm(x, own["ln1.weight"], 0.0)
        d_head = own["attn.q.weight"].shape[0] // n_heads
        patterns.append([])
        values.append([])
        out = np.zeros_like(x)
        for head in range(n_heads):
            rows = slice(head * d_head, (head + 1) * d_head)
            q, k, v = (y @ own[f"attn.{n}.weight"][rows].T + own[f"attn.{n}.bias"][rows] for n in "qkv")
            pattern = np.zeros((len(tokens), len(tokens)))
            for i in range(len(tokens)):
                scores = np.array([q[i] @ k[j] for j in range(i + 1)]) / np.sqrt(d_head)
                weights = np.exp(scores - scores.max())
                pattern[i, : i + 1] = weights / weights.sum()
            patterns[layer].append(pattern)
            w_o = own["attn.o.weight"][:, rows]
            values[layer].append(unbiased @ own["attn.v.weight"][rows].T @ w_o.T)
            out += pattern @ v @ w_o.T
        x = x + out + own["attn.o.bias"]
    logits = norm(x, state["ln_final.weight"], state["ln_final.bias"]) @ state["unembed.weight"].T
    return patterns, values, logits, np.sqrt(x.var(-1) + 1e-5)


def prefix_matching(pattern, tokens):
    per_query = []
    for i in range(len(tokens)):
        targets = [j for j in range(1, i + 1) if tokens[j - 1] == tokens[i] and j - 1 < i]
        if targets:
            per_query.append(sum(pattern[i, j] for j in targets))
    return per_query


def duplicate_token(pattern, tokens):
    per_query = []
    for i in range(len(tokens)):
        copies = [j for j in range(i) if tokens[j] == tokens[i]]
        if copies:
            per_query.append(sum(pattern[i, j] for j in copies))
    return per_query


def copying_terms(pattern, written, tokens, state, sigma):
    """(raised on the attended token, raised on the whole sample, lift per query) of one sequence of distinct tokens.

    `sigma` is what the final norm divides each query by.
    """
    scale = np.asarray(state["ln_final.weight"], dtype=np.float64)
    w_u = np.asarray(state["unembed.weight"], dtype=np.float64)
    attended = sample = 0.0
    lifts = np.zeros((len(tokens), len(tokens)))
    for j in range(len(tokens)):
        direction = (written[j] - written[j].mean()) * scale
        u = w_u @ direction
        lift = u - u.mean()
        rise = np.maximum(lift, 0)
        for i in range(len(tokens)):
            attended += pattern[i, j] * rise[tokens[j]]
            sample += pattern[i, j] * sum(rise[t] for t in tokens)
            lifts[i, j] = pattern[i, j] * lift[tokens[j]] / sigma[i]
    return attended, sample, [lifts[i].sum() / pattern[i].sum() for i in range(len(tokens))]
