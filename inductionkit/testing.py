"""Models and histories whose right answers are known, for tests, doctests and trying things out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .errors import HistoryError, ModelError
from .history import PER_HEAD, SCHEMA_VERSION, VARIABLES, Variable, labelled
from .system.process_state import undisturbed
from .system.real_numbers import real_number, real_numbers
from .system.whole_numbers import whole_number

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Rows = Float[Tensor, "row d_model"]

SHARP = 200.0  # an attention score that is large enough that all other keys get zero attention
HEAD_ROWS = {
    name: Variable(PER_HEAD, "float32", "nats" if name == "logit_lift" else "1", name.replace("_", " "))
    for name in ("prefix_matching", "copying", "logit_lift", "previous_token", "duplicate_token")
}


def synthetic_history(
    n_steps: int = 24,
    n_layers: int = 2,
    n_heads: int = 4,
    n_text_tokens: int = 24,
    window: tuple[float, float] | None = (8e6, 2e7),
    noise: float = 0.0,
    seed: int = 0,
    n_examples: int = 32,
    linear_steps: bool = False,
) -> xr.Dataset:
    """A history with a known phase window, in tokens: two heads of the last layer form inside it.

    It has `n_steps` checkpoints of `n_layers` layers of `n_heads` heads, the losses of `n_examples` held-out examples
    and a text of `n_text_tokens` tokens; `seed` sets what is drawn. With `window=None` nothing forms, the loss is
    convex in log tokens and in-context learning stays at its early value. Checkpoints lie evenly in log tokens
    between 0.1M and 100M tokens, or evenly in tokens with `linear_steps`. `noise`, in nats: of the loss at each
    position and checkpoint, and of each example. The losses of the examples and of four tokens of each follow the
    mean loss.
    """
    sizes = {"n_steps": n_steps, "n_layers": n_layers, "n_heads": n_heads, "n_text_tokens": n_text_tokens}
    for name, size in sizes.items():
        whole_number(size, name, 1, HistoryError)
    seed, n_examples = (
        whole_number(seed, "seed", 0, HistoryError),
        whole_number(n_examples, "n_examples", 0, HistoryError),
    )
    noise = real_number(noise, "noise", "[0, inf)", HistoryError)
    if window is not None and real_numbers(window, "window", "(0, inf)", HistoryError).shape != (2,):
        raise HistoryError(f"window={window!r} must be two numbers of tokens, from and to")
    rng = np.random.default_rng(seed)
    tokens_seen = (np.linspace if linear_steps else np.geomspace)(1e5, 1e8, n_steps)
    log_tokens = np.log(tokens_seen)

    def rise(at: np.ndarray) -> np.ndarray:
        """0 before the window, 1 after it, 10 % and 90 % at its ends."""
        if window is None:
            return np.zeros_like(at)
        low, high = np.log(window)
        risen: np.ndarray = 1 / (1 + np.exp(-4.394 * (at - (low + high) / 2) / (high - low)))
        return risen

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
    loss, icl = by_position.mean(1), by_position[:, 119] - by_position[:, 11]
    single = _single_losses(loss, icl, base, formed, noise, n_examples, np.random.default_rng([seed, 1]))
    text_loss = np.repeat((base - 2 * formed)[:, None], n_text_tokens, axis=1)
    text_loss[:, : half + 1] = base[:, None]
    text_loss[:, 0] = np.nan

    log = np.geomspace(1e5, 1e8, 400)
    training = 3.0 + 5.5 * np.exp(-0.45 * (np.log(log) - log_tokens[0])) - 0.5 * rise(np.log(log))
    return labelled(
        {
            "prefix_matching": prefix.astype(np.float32),
            "copying": copying.clip(-1, 1).astype(np.float32),
            "logit_lift": (3 * copying).astype(np.float32),
            "previous_token": previous.astype(np.float32),
            "duplicate_token": (0.02 + 0.02 * rng.random(per_head)).astype(np.float32),
            "loss": loss.astype(np.float32),
            "loss_by_position": by_position.astype(np.float32),
            "icl_score": icl.astype(np.float32),
            **single,
            "text_loss": np.stack([text_loss, text_loss], axis=1).astype(np.float32),
            "pattern": pattern,
            "ov_lift": np.broadcast_to(3 * copying[..., None, None], pattern.shape[:-1]).astype(np.float32),
            "token": np.array([["<|bos|>", *words[1:]], ["<|bos|>", *words[1:]]], dtype=object),
            "training_loss": (training + 0.02 * rng.standard_normal(400)).astype(np.float32),
        },
        VARIABLES | HEAD_ROWS,
        {
            "step": np.round(tokens_seen / 4096).astype(np.int64),
            "tokens_seen": ("step", tokens_seen.astype(np.int64)),
            "layer": np.arange(n_layers),
            "head": np.arange(n_heads),
            "position": position,
            "sample_example": ("sample", np.repeat(np.arange(n_examples), 4)),
            "sample_position": ("sample", np.tile([16, 48, 80, 112], n_examples)),
            "text": ["repeated words", "again"],
            "log_step": ("log", np.round(log / 4096).astype(np.int64)),
            "log_tokens_seen": ("log", log.astype(np.int64)),
        },
        {"schema_version": SCHEMA_VERSION, "model": "synthetic", "icl_early": 12, "icl_late": 120, "icl_half_width": 0},
    )


def _single_losses(
    loss: np.ndarray,
    icl: np.ndarray,
    base: np.ndarray,
    formed: np.ndarray,
    noise: float,
    n_examples: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Losses by step of examples, whose means are `loss` and `icl`, and of tokens, half of which induction helps."""

    def around(mean: np.ndarray) -> np.ndarray:
        of_example = 0.3 * rng.standard_normal(n_examples) + noise * rng.standard_normal((len(mean), n_examples))
        losses: np.ndarray = mean[:, None] + of_example - of_example.mean(1, keepdims=True)
        return losses.astype(np.float32)

    easy, helped = rng.uniform(0.5, 1.5, 4 * n_examples), 6.0 * (rng.random(4 * n_examples) < 0.5)
    single = base[:, None] * easy - formed[:, None] * helped
    single += noise * rng.standard_normal(single.shape)
    return {
        "example_loss": around(loss),
        "example_icl_score": around(icl),
        "token_loss": single.astype(np.float32),
    }


@undisturbed()
def hand_built_model(
    heads: Sequence[Sequence[str]], n_distinct_tokens: int = 40, n_ctx: int = 101, seed: int | None = None
) -> Any:
    """A `TransformerBridge` of attention heads built by hand, whose scores follow from how they are built.

    `heads` names the heads of each layer, as many in each. No norm, no biases, no MLPs. A head attends evenly
    to the keys that suit its query best, to any other with less than 1e-30, and writes what it makes of each
    attended token. With `V` for `n_distinct_tokens`, a head that copies has copying 1, ov_copying 1 and logit
    lift `1 - 1/V`; one that suppresses has the same with a minus sign. The context is `n_ctx` tokens long.

    - `"previous-token"` attends to the token before, and writes which one that is where only keys of heads like
      the next three read it: previous_token 1, logit lift 0, copying and ov_copying undefined (NaN).
    - `"induction"` attends to the keys after earlier copies of the current token, and copies: prefix_matching 1.
    - `"anti-induction"` attends as an induction head does, and suppresses: prefix_matching 1 too.
    - `"follower-avoiding"` attends to all keys but those, and copies: prefix_matching 0.
    - `"duplicate-token"` attends to earlier copies of the current token, and copies: duplicate_token 1.
    - `"copier"`, `"suppressor"` attend to all keys alike, and copy or suppress.
    - `"partial-copier"` attends to all keys alike, copies three tokens of four and suppresses every fourth.
    - `"successor"` attends to all keys alike, and raises the token after the attended one, in a circle: copying
      -1, logit lift `-1/V`, ov_copying `-1 / (V - 1)`.
    - `"idle"` attends to all keys alike and writes nothing: logit lift 0, copying and ov_copying undefined.

    A head that finds no key of its kind attends to all alike, so an induction head needs a previous-token head
    below; together they have k_composition `1 / sqrt(V)` before the baseline is taken off, and qk_trace
    `200 V sqrt(d_head)`. The first position has only itself to attend to and so counts as its own follower:
    start prompts with a token that does not come back. Weight scores hold in any stack, the others above layers
    of previous-token and idle heads alone, for every other head writes where those above it read tokens.

    With a `seed` the axes of the residual stream are shuffled and some flipped: no score changes, but no matrix
    is an identity that would hide a transpose. Raises ModelError if there is no such head, or if layers differ in
    their number of heads.

    >>> from inductionkit import scan_heads
    >>> scan_heads(hand_built_model([["copier", "suppressor"]])).copying.values
    array([[ 1., -1.]], dtype=float32)
    """
    import torch

    from .lens import build_model

    n_distinct_tokens = whole_number(n_distinct_tokens, "n_distinct_tokens", 1, ModelError)
    n_ctx = whole_number(n_ctx, "n_ctx", 1, ModelError)
    d_model = 2 * n_distinct_tokens + n_ctx
    axes = torch.eye(d_model)
    if seed is not None:
        generator = torch.Generator().manual_seed(whole_number(seed, "seed", 0, ModelError))
        flips = torch.randint(2, (d_model, 1), generator=generator) * 2 - 1
        axes = flips * axes[torch.randperm(d_model, generator=generator)]
    token, previous, position = axes.split([n_distinct_tokens, n_distinct_tokens, n_ctx])
    circuits = _circuits(token, previous, position)
    _check_heads(heads, circuits)
    d_head = max(n_distinct_tokens, *(len(rows) for layer in heads for name in layer for rows in circuits[name]))
    model = build_model(
        {
            "n_layers": len(heads), "d_model": d_model, "n_heads": len(heads[0]), "d_head": d_head, "n_ctx": n_ctx,
            "d_vocab": n_distinct_tokens, "eps": 1e-5, "d_mlp": None,
        },
        normalization=None,
    )  # fmt: skip
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    state["embed.weight"], state["pos_embed.weight"], state["unembed.weight"] = token, position, token
    for layer, names in enumerate(heads):
        for head, name in enumerate(names):
            query, key, written = circuits[name]
            weights = {letter: state[f"blocks.{layer}.attn.{letter}.weight"] for letter in "qkvo"}
            first = head * d_head
            weights["q"][first : first + len(query)] = SHARP * d_head**0.5 * query
            weights["k"][first : first + len(key)] = key
            weights["v"][first : first + len(written)] = token[: len(written)]
            weights["o"][:, first : first + len(written)] = written.T
    model.load_state_dict(state)
    return model


def perfect_induction_model(n_distinct_tokens: int = 40, n_ctx: int = 101) -> Any:
    """A hand-built two-layer attention-only `TransformerBridge` whose induction head is perfect by construction.

    Head 0.0 attends to the previous token and writes that token's identity to a subspace of its own; head 1.0 attends
    to the position whose previous token is the current one and copies what stands there. By construction:
    previous_token 1.0 for 0.0; prefix_matching 1.0 and copying +1.0 for 1.0. Heads 0.1 and 1.1 are zero: they attend
    evenly and write nothing. No norm, no biases. `n_distinct_tokens` and `n_ctx` are as in `hand_built_model`.
    """
    return hand_built_model([["previous-token", "idle"], ["induction", "idle"]], n_distinct_tokens, n_ctx)


def _circuits(token: Rows, previous: Rows, position: Rows) -> dict[str, tuple[Rows, Rows, Rows]]:
    """By head, from the axes of token, previous token and position: query and key rows, and what each token writes.

    A query scores a key by the rows that both hit: by what the query has along row `i` of the first
    matrix times what the key has along row `i` of the second.
    """
    import torch

    nothing = token[:0]
    followers = (token, previous)
    # Its own position takes away what its own token adds: a query is no copy of itself.
    copies = (torch.cat([token, position]), torch.cat([token, -position]))
    sign = torch.ones(len(token), 1)
    sign[3::4] = -1
    return {
        # By the roll position 0 looks for the last one, which it never sees; it has only itself.
        "previous-token": (position.roll(-1, 0), position, previous),
        "induction": (*followers, token),
        "anti-induction": (*followers, -token),
        "follower-avoiding": (token, -previous, token),
        "duplicate-token": (*copies, token),
        "copier": (nothing, nothing, token),
        "suppressor": (nothing, nothing, -token),
        "partial-copier": (nothing, nothing, sign * token),
        "successor": (nothing, nothing, token.roll(-1, 0)),
        "idle": (nothing, nothing, nothing),
    }


def _check_heads(heads: Sequence[Sequence[str]], known: Collection[str]) -> None:
    sizes = {len(layer) for layer in heads}
    if len(sizes) != 1 or 0 in sizes:
        raise ModelError(f"layers have {[len(layer) for layer in heads]} heads; give each the same number, at least 1")
    unknown = sorted({name for layer in heads for name in layer} - set(known))
    if unknown:
        raise ModelError(f"there is no head named {unknown[0]!r}; there are {', '.join(known)}")
