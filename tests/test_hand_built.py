"""Every score of hand-built heads against its closed form, to 1e-4."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import save
from transformers import LlamaConfig, LlamaForCausalLM

from inductionkit import induction_heads, scan_heads
from inductionkit.errors import ModelError
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model

WRITERS = (
    "previous-token", "induction", "anti-induction", "follower-avoiding", "duplicate-token", "copier", "suppressor",
    "partial-copier", "successor",
)  # fmt: skip
HEADS = (*WRITERS, "idle")
V, N_CTX = 40, 101
D_MODEL, D_HEAD = 2 * V + N_CTX, V + N_CTX

# Prompts: BOS, then 25 tokens four times. From position 26 on, position i has k earlier copies and k followers.
QUERIES = np.arange(26, N_CTX)
K = (QUERIES - 1) // 25
EVEN = np.mean(K / (QUERIES + 1))
DISTINCT = torch.stack([torch.arange(V), torch.arange(V).flip(0)])
EVEN_PREVIOUS = np.mean(1 / np.arange(2, V + 1))  # query i has i + 1 keys


def row_of(scores, name: str, layer: int) -> dict[str, float]:
    """Scores by head of one layer."""
    return dict(zip(HEADS, scores[name].sel(layer=layer).values.astype(float)))


def close(expected: float | list[float] | dict[str, float]):
    return pytest.approx(expected, abs=1e-4, rel=0, nan_ok=True)


@pytest.fixture(scope="module", params=[None, 0, 1], ids=["plain axes", "shuffled axes", "shuffled again"])
def above_previous_token(request):
    """All heads above one previous-token head, with idle ones beside it."""
    layers = [["idle"] * 9 + ["previous-token"], HEADS]
    return scan_heads(hand_built_model(layers, seed=request.param), held_out=DISTINCT, scores="all")


@pytest.fixture(scope="module")
def all_below():
    """All heads that write anything, in two layers."""
    return scan_heads(hand_built_model([WRITERS, WRITERS], seed=0), held_out=DISTINCT, scores="all")


def test_prefix_matching(above_previous_token):
    expected = dict.fromkeys(HEADS, EVEN) | {
        "previous-token": 0.0, "induction": 1.0, "anti-induction": 1.0, "follower-avoiding": 0.0, "duplicate-token": 0.0
    }  # fmt: skip
    assert row_of(above_previous_token, "prefix_matching", 1) == close(expected)


def test_duplicate_token(above_previous_token):
    expected = dict.fromkeys(HEADS, EVEN) | {
        "previous-token": 0.0, "induction": 0.0, "anti-induction": 0.0, "duplicate-token": 1.0,
        "follower-avoiding": np.mean(K / (QUERIES + 1 - K)),
    }  # fmt: skip
    assert row_of(above_previous_token, "duplicate_token", 1) == close(expected)


def test_previous_token_where_no_token_comes_back(above_previous_token):
    expected = dict.fromkeys(HEADS, EVEN_PREVIOUS) | {"previous-token": 1.0}
    assert row_of(above_previous_token, "previous_token", 1) == close(expected)


def test_previous_token_where_two_tokens_alternate():
    """BOS a b a b …: from position 3 on the token before is a follower, one of (i - 1) // 2, and never a copy."""
    text = torch.tensor([[0] + 25 * [1, 2]])
    model = hand_built_model([["idle"] * 9 + ["previous-token"], HEADS], seed=0)
    found = scan_heads(model, held_out=text, scores=["previous_token"])
    position = np.arange(1, 51)
    even = 1 / (position + 1)
    matching = np.mean(np.where(position >= 3, 1 / np.maximum(1, (position - 1) // 2), even))
    elsewhere = np.mean(np.where(position >= 3, 0.0, even))
    expected = dict.fromkeys(HEADS, np.mean(even)) | {
        "previous-token": 1.0, "induction": matching, "anti-induction": matching, "follower-avoiding": elsewhere,
        "duplicate-token": elsewhere,
    }  # fmt: skip
    assert row_of(found, "previous_token", 1) == close(expected)


def test_copying_and_logit_lift(above_previous_token):
    """A copier lifts the token by 1 - 1/V above the vocabulary's mean and raises none of the others."""
    partial = partial_copier()
    copying = {
        "previous-token": np.nan, "induction": 1.0, "anti-induction": -1.0, "follower-avoiding": 1.0,
        "duplicate-token": 1.0, "copier": 1.0, "suppressor": -1.0, "partial-copier": partial[0], "successor": -1.0,
        "idle": np.nan,
    }  # fmt: skip
    lift = {name: sign * (1 - 1 / V) for name, sign in copying.items()} | {
        "previous-token": 0.0, "partial-copier": partial[1], "successor": -1 / V, "idle": 0.0
    }  # fmt: skip
    assert row_of(above_previous_token, "copying", 1) == close(copying)
    assert row_of(above_previous_token, "logit_lift", 1) == close(lift)
    assert -0.9 < partial[0] < 0.9  # neither end of the scale, so that it can be missed


def partial_copier() -> tuple[float, float]:
    """Copying and logit lift of even attention over the prompt's first repeat, where every fourth token is suppressed.

    A copied token is raised by 1 - 1/V alone; for a suppressed one the 24 others of the sample are, by 1/V each.
    """
    tokens = repeated_random_tokens(V, 0, PromptSettings()).numpy()[:, 1:26]
    copied = tokens % 4 != 3
    position = np.arange(1, 26)
    attention_on = np.array([sum(1 / (i + 1) for i in range(j, 26)) for j in position])
    attended = (attention_on * copied).sum() * (1 - 1 / V)
    sample = attended + (attention_on * ~copied).sum() * 24 / V
    lift = np.where(copied, 1, -1).cumsum(1) / position * (1 - 1 / V)
    return 4 * attended / (attended + sample) - 1, lift.mean()


def test_ov_copying(above_previous_token):
    """Centring takes one eigenvalue of V: a copier keeps V - 1 ones, a cyclic shift all roots of unity but 1.

    Of m ones and V - m minus ones it leaves one fewer of each, a zero, and what the trace (2m - V)(1 - 1/V) lacks:
    (V - 2m) / V.
    """
    m = 3 * V // 4
    partial = (2 * m - V) * (1 - 1 / V) / (V - 2 + abs(V - 2 * m) / V)
    expected = {
        "previous-token": np.nan, "induction": 1.0, "anti-induction": -1.0, "follower-avoiding": 1.0,
        "duplicate-token": 1.0, "copier": 1.0, "suppressor": -1.0, "partial-copier": partial,
        "successor": -1 / (V - 1), "idle": np.nan,
    }  # fmt: skip
    assert row_of(above_previous_token, "ov_copying", 1) == close(expected)


def composition(shared: int, reading: int) -> float:
    """All singular values of a circuit are alike: `shared` of its `reading` ones meet what a head of V writes."""
    return np.sqrt(shared / (reading * V)) - 1 / np.sqrt(D_MODEL)


def test_compositions_find_the_strongest_head_below(all_below):
    found = {name: row_of(all_below, f"{name}_composition", 1) for name in "kqv"}
    matching = dict.fromkeys(("induction", "anti-induction", "follower-avoiding"), composition(V, V))
    of_queries = {"previous-token": composition(0, N_CTX), **matching, "duplicate-token": composition(V, V + N_CTX)}
    undefined = dict.fromkeys(("copier", "suppressor", "partial-copier", "successor"), np.nan)  # they match nothing
    assert found["k"] == close({**of_queries, **undefined})
    assert found["q"] == close({**of_queries, **undefined})
    assert found["v"] == close(dict.fromkeys(WRITERS, composition(V, V)))


@pytest.mark.parametrize(
    ("below", "k", "q", "v"), [("previous-token", V, 0, 0), ("copier", 0, V, V), ("suppressor", 0, V, V)]
)
def test_compositions_tell_what_a_head_reads_apart(below, k, q, v):
    """An induction head reads in its keys what a previous-token head writes, else the tokens that others write."""
    found = scan_heads(hand_built_model([[below], ["induction"]], seed=2), scores="all").sel(layer=1, head=0)
    assert found.k_composition == close(composition(k, V))
    assert found.q_composition == close(composition(q, V))
    assert found.v_composition == close(composition(v, V))


def test_an_idle_head_below_composes_with_nothing(above_previous_token):
    """Its ratios are undefined, and leave the other heads' as they are."""
    assert row_of(above_previous_token, "k_composition", 1)["induction"] == close(composition(V, V))
    assert row_of(above_previous_token, "q_composition", 1)["induction"] == close(composition(0, V))
    assert row_of(above_previous_token, "v_composition", 1)["induction"] == close(composition(0, V))


def test_qk_trace(all_below):
    """In units of V times the factor of queries: each head below adds its previous-token score times what it writes.

    An induction head matches a token with what the previous-token head below writes of it, V times 1. A
    duplicate-token head matches it with what all others write of it: five V times 1, two V times -1, the
    partial copier V/2 times 1, the successor another token. With no token that comes back and none but
    itself below, each of them attends evenly.
    """
    unit = 200 * np.sqrt(D_HEAD) * V
    expected = dict.fromkeys(WRITERS, 0.0) | {
        "induction": 1.0, "anti-induction": 1.0, "follower-avoiding": -1.0,
        "duplicate-token": (4 - 2 + 1 / 2) * EVEN_PREVIOUS,
    }  # fmt: skip
    found = {name: value / unit for name, value in row_of(all_below, "qk_trace", 1).items()}
    assert found == close(expected)
    assert np.isnan(all_below.qk_trace.sel(layer=0)).all()


def test_without_a_previous_token_head_below_an_induction_head_attends_evenly(all_below):
    assert all_below.prefix_matching.sel(layer=0, head=WRITERS.index("induction")) == close(EVEN)


def test_the_induction_head_is_found_and_no_other(above_previous_token):
    assert list(induction_heads(above_previous_token).index) == [(1, HEADS.index("induction"))]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([["copier", "coper"]], "no head named 'coper'; there are previous-token, induction"),
        ([["copier"], ["copier", "idle"]], r"layers have \[1, 2\] heads"),
        ([], r"layers have \[\] heads"),
    ],
)
def test_what_cannot_be_built_is_refused(layers, message):
    with pytest.raises(ModelError, match=message):
        hand_built_model(layers)


GROUPED = {"n_tokens": 32, "d_model": 64, "d_head": 34, "n_ctx": 101}
QUERY_FACTOR = 200 * np.sqrt(GROUPED["d_head"]) / GROUPED["d_model"]  # the norm multiplies queries and keys by 8


def by_group(head: int) -> int:
    return head // 2


def by_remainder(head: int) -> int:
    """The mistake: heads dealt out to groups in turn."""
    return head % 2


@pytest.fixture(scope="module")
def grouped_queries(tmp_path_factory):
    """Two layers of four heads in two groups: every key and value of one group differs from the other's.

    Layer 0: heads 0 and 1 see keys that tell their token and copy, 2 and 3 see keys that tell it with the
    sign flipped and suppress. Heads 0 and 2 ask for their token, 1 and 3 ask for nothing. All write along
    axes of their own. Layer 1, where all ask for their token: heads 0 and 1 read in keys what layer 0 wrote and
    copy, 2 and 3 read tokens in keys, and suppress the token and what layer 0 wrote.
    """
    n, d_model, d_head = GROUPED["n_tokens"], GROUPED["d_model"], GROUPED["d_head"]
    config = LlamaConfig(
        vocab_size=n, hidden_size=d_model, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=d_head, intermediate_size=8, max_position_embeddings=GROUPED["n_ctx"], bos_token_id=0,
        rms_norm_eps=1e-9, rope_parameters={"rope_type": "default", "rope_theta": 1e300},
    )  # fmt: skip
    token, written = torch.eye(d_model)[torch.randperm(d_model, generator=torch.Generator().manual_seed(0))].split(n)
    nothing = torch.zeros_like(token)
    state = {
        name: torch.ones_like(tensor) if "norm" in name else torch.zeros_like(tensor)
        for name, tensor in LlamaForCausalLM(config).state_dict().items()
    }
    state["model.embed_tokens.weight"], state["lm_head.weight"] = token, token + written
    # So long a period stops all rotations but that of the first pair, which is left out.
    still = [axis for axis in range(d_head) if axis % (d_head // 2)]

    def fill(layer: int, letter: str, *rows: torch.Tensor) -> None:
        weight = torch.zeros(len(rows), d_head, d_model)
        weight[:, still] = torch.stack(rows)
        weight = weight.flatten(0, 1)
        state[f"model.layers.{layer}.self_attn.{letter}_proj.weight"] = weight.T if letter == "o" else weight

    ask = QUERY_FACTOR * token
    fill(0, "q", ask, nothing, ask, nothing)
    fill(0, "k", token, -token)
    fill(0, "v", token, -token)
    fill(0, "o", written, written, written, written)
    fill(1, "q", ask, ask, ask, ask)
    fill(1, "k", written, token)
    fill(1, "v", token, -token - written)
    fill(1, "o", token, token, token, token)
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    folder = save(model, tmp_path_factory.mktemp("grouped_queries"))
    return scan_heads(folder, held_out=torch.arange(n)[None], scores="all")


def test_grouped_queries_attend_by_the_keys_of_their_group(grouped_queries):
    """Of k + 1 keys with its token, itself among them, head 0 sees nothing else and head 2 all else."""
    layer = grouped_queries.sel(layer=0)
    assert list(layer.duplicate_token) == close([np.mean(K / (K + 1)), EVEN, 0.0, EVEN])
    assert list(layer.prefix_matching) == close([0.0, EVEN, np.mean(K / (QUERIES - K)), EVEN])
    assert list(layer.previous_token) == close(grouped_previous_token())
    # Queries read tokens, of which layer 0 writes none.
    assert list(grouped_queries.q_composition.sel(layer=1)) == close([-1 / np.sqrt(GROUPED["d_model"])] * 4)


def grouped_previous_token() -> list[float]:
    """Where no token comes back head 0 sees itself alone, head 2 the i positions before, 1 and 3 all i + 1."""
    i = np.arange(1, GROUPED["n_tokens"])
    return [0.0, np.mean(1 / (i + 1)), np.mean(1 / i), np.mean(1 / (i + 1))]


def grouped_closed_forms(group_of) -> dict[str, list[float]]:
    """What heads score if their keys and values are those of the group `group_of` says."""
    n, d_model = GROUPED["n_tokens"], GROUPED["d_model"]
    group = np.array([group_of(head) for head in range(4)])
    sign = 1 - 2 * group
    previous_token = grouped_previous_token()

    def composition(shared: int, reading: int) -> float:
        return np.sqrt(shared / (reading * n)) - 1 / np.sqrt(d_model)

    # Keys of group 0 match the token that layer 0 wrote with the sign of its own group.
    trace = QUERY_FACTOR * n * np.dot(previous_token, sign)
    return {
        "copying": [*sign],
        "ov_copying": [*sign, *sign],
        "k_composition": [composition(0 if of_tokens else n, n) for of_tokens in group],
        "v_composition": [composition(n if of_both else 0, 2 * n if of_both else n) for of_both in group],
        "qk_trace": [0.0 if of_tokens else trace for of_tokens in group],
    }


@pytest.mark.parametrize("name", grouped_closed_forms(by_group))
def test_grouped_queries_score_by_their_own_group(grouped_queries, name):
    right, wrong = grouped_closed_forms(by_group)[name], grouped_closed_forms(by_remainder)[name]
    layers = {"ov_copying": [0, 1], "copying": [0]}.get(name, [1])
    found = grouped_queries[name].sel(layer=layers).values.flatten().tolist()
    assert found == close(right)
    assert np.abs(np.subtract(right, wrong)).max() > 0.1
