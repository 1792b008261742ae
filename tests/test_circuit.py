"""Roles of heads, the sentence about a circuit, and the circuits that a history holds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from drawn_circuits import circuit_of

from inductionkit.circuit.along_run import circuits_of
from inductionkit.errors import HistoryError
from inductionkit.phase import induction_heads
from inductionkit.phase.heads import head_roles
from inductionkit.scores.roles import ROLES, RoleRule
from inductionkit.testing import synthetic_history


@pytest.mark.parametrize(
    ("scores", "role"),
    [
        # Heads of a language model of 135M parameters, as measured on repeated random tokens.
        (dict(prefix_matching=0.91, direct_lift=0.18, total_lift=2.11), "induction"),
        (dict(prefix_matching=0.81, direct_lift=0.02, total_lift=1.35), "induction"),
        (dict(prefix_matching=0.81, direct_lift=0.00, total_lift=-0.22), "prefix-matching"),
        (dict(prefix_matching=0.48, direct_lift=-0.38, total_lift=-0.65), "anti-copying"),
        (dict(prefix_matching=0.45, direct_lift=0.34, total_lift=-0.02), "copying"),
        (dict(prefix_matching=0.02, previous_token=0.91), "previous-token"),
        (dict(prefix_matching=0.02, previous_token=0.1, duplicate_token=0.8), "duplicate-token"),
        (dict(prefix_matching=np.nan, previous_token=np.nan, total_lift=3.0), ""),
    ],
)
def test_roles(scores, role):
    assert RoleRule().role_of(scores) == role
    assert role in ROLES


def test_the_sentence_names_who_writes_who_matches_and_who_raises():
    nodes = [
        ("16.0", "previous-token", 0, 0.91, 0, 0, 0.1, 5),
        ("17.3", "induction", 0.81, 0, 0, 0.02, 1.35, 1.3),
        ("17.4", "prefix-matching", 0.83, 0, 0, 0, -0.08, 0),
        ("18.6", "induction", 0.91, 0, 0, 0.18, 2.11, 2.4),
    ]
    edges = [("16.0", "17.3", "K", 0.9, np.nan), ("16.0", "17.4", "K", 0.9, np.nan), ("16.0", "18.6", "Q", 0.9, np.nan)]
    assert repr(circuit_of(nodes, edges, 30, 9, model="a model")) == (
        "a model: 16.0 writes the previous token; 17.3, 17.4 match on it; 18.6 matches by other ways; "
        "18.6, 17.3 raise the token by 2.1, 1.4 nats"
    )
    assert repr(circuit_of([], [], 2, 2, model="a model")) == "a model: no induction circuit"


def with_edges(history, **changed):
    n = history.sizes["step"]
    columns = {"edge_from": 0, "edge_to": 4, "edge_side": 0, "edge_share": 0.7} | changed
    rows = {name: (("step", "edge"), np.full((n, 2), value)) for name, value in columns.items()}
    found = history.assign(rows)
    for name in ("edge_from", "edge_to", "edge_side"):
        found[name][0, :] = -1  # no edge at the first step
        found[name][:, 1] = -1
    return found


def test_a_history_holds_a_circuit_for_each_step():
    history = with_edges(synthetic_history(n_steps=3))
    first, _, last = circuits_of(history)
    assert first.nodes.empty and first.edges.empty
    assert [*last.nodes.index] == [(0, 0), (1, 0), (1, 1)]  # the ends of edges, and a head that matches alone
    assert last.edges.to_dict("records")[0] == pytest.approx(
        dict(from_layer=0, from_head=0, to_layer=1, to_head=0, side="K", share=0.7, measured=np.nan), nan_ok=True
    )
    assert last.nodes.loc[(1, 0), "prefix_matching"] == pytest.approx(float(history.prefix_matching[2, 1, 0]))
    assert last.nodes.loc[(0, 0), "role"] == "previous-token"


@pytest.mark.parametrize("changed", [{"edge_to": 99}, {"edge_side": 3}])
def test_edges_of_heads_that_are_not_there_are_refused(changed):
    with pytest.raises(HistoryError, match="name heads or sides that the history does not have"):
        circuits_of(with_edges(synthetic_history(n_steps=3), **changed))


def test_a_history_without_edges_says_so():
    with pytest.raises(HistoryError, match="lacks edge_from"):
        circuits_of(synthetic_history(n_steps=3))


def test_induction_heads_of_a_language_model_copy_by_any_path():
    """As measured on repeated random tokens, with what zeroing each head costs in nats."""
    measured = {  # prefix matching, copying, direct lift, total lift: 18.6 costs 2.4 nats, 23.1 none
        "18.6": (0.91, -0.72, 0.18, 2.11), "17.3": (0.81, -0.84, 0.02, 1.35), "17.5": (0.81, -0.85, 0.00, -0.22),
        "18.7": (0.63, -0.90, 0.12, 1.73), "23.7": (0.64, -0.27, 0.49, 0.46), "24.4": (0.48, -1.00, -0.38, -0.65),
        "23.1": (0.45, -0.08, 0.34, -0.02), "16.0": (0.01, -0.86, 0.00, 0.00),
    }  # fmt: skip
    values = {name: np.full((25, 9), np.nan) for name in ("prefix_matching", "copying", "direct_lift", "total_lift")}
    for head, figures in measured.items():
        at = tuple(map(int, head.split(".")))
        for name, figure in zip(values, figures):
            values[name][at] = figure
    scores = xr.Dataset(
        {name: (("layer", "head"), array) for name, array in values.items()},
        {"layer": np.arange(25), "head": np.arange(9)},
    )
    found = {f"{layer}.{head}": path for (layer, head), path in induction_heads(scores)["path"].items()}
    assert found == {
        "18.6": "later layers", "17.3": "later layers", "18.7": "later layers", "23.7": "direct",
        "23.1": "direct, undone",
    }  # fmt: skip
    by_copying = induction_heads(scores.drop_vars(["direct_lift", "total_lift"]))
    assert [*by_copying.index] == [(23, 7), (23, 1)] and set(by_copying["path"]) == {"unknown path"}
    roles = head_roles(scores)["role"]
    assert roles[17, 5] == "prefix-matching" and roles[24, 4] == "anti-copying" and roles[23, 1] == "copying"


def test_beside_nulls_what_most_null_lifts_stay_below_is_the_measure():
    values = {"prefix_matching": [[0.9, 0.9, 0.9]], "copying": [[0.5, 0.5, 0.5]], "direct_lift": [[0.04, 0.048, 0.3]]}
    values["total_lift"] = [[0.0, 0.0, 0.0]]
    scores = xr.Dataset(
        {name: (("layer", "head"), rows) for name, rows in values.items()}, {"layer": [0], "head": range(3)}
    )
    assert [*induction_heads(scores).index] == [(0, 2)]
    scores["direct_lift_null"] = (("null", "layer", "head"), [[[0.01, -0.05, 0.02]]])  # 95 %: 0.047
    assert {*induction_heads(scores).index} == {(0, 1), (0, 2)}
    assert induction_heads(scores)["direct_lift_p"].tolist() == [0.25, 0.25]
