"""CircuitView and the explorer's circuit: what travels to the browser, where it is drawn, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from drawn_circuits import (
    assembling_circuits,
    circuit_of,
    language_model_circuit,
    large_circuit,
)
from matplotlib.text import Annotation

from inductionkit.errors import HistoryError
from inductionkit.scores.roles import ROLES
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer, _circuit_data
from inductionkit.widgets._circuit_layout import CAPACITIES, place_nodes
from inductionkit.widgets._payload import unpack_arrays, unpack_lower
from inductionkit.widgets.circuit_view import CircuitView

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e"


def payload(widget) -> dict[str, np.ndarray]:
    return unpack_arrays(widget._header["arrays"], widget._data)


def some_circuit(roles=("previous-token", "induction"), share=0.5):
    """Head 0.1 serves 1.0 of two layers of two heads."""
    nodes = [("0.1", roles[0], 0, 0.9, 0, 0, 1.0, 3.0), ("1.0", roles[1], 0.8, 0, 0, 0.5, 2.0, 1.5)]
    return circuit_of(nodes, [("0.1", "1.0", "K", share, np.nan)], 2, 2)


class TestPayload:
    def test_carries_roles_figures_and_shares(self):
        circuit = language_model_circuit()
        view = CircuitView(circuit)
        arrays, about = payload(view), view._header["circuit"]
        nodes = [tuple(node) for node in about["nodes"]]
        assert nodes == sorted(circuit.nodes.index)
        roles = [ROLES[role] for role in arrays["circuit role"][0]]
        assert roles == circuit.nodes["role"].tolist()
        for name in ("loss_effect", "prefix_matching"):
            np.testing.assert_allclose(arrays[f"circuit {name}"][0], circuit.nodes[name], rtol=1e-6)
        ends = {
            (*nodes[sender], *nodes[to], "KQV"[side]): edge for edge, (sender, to, side) in enumerate(about["edges"])
        }
        assert len(ends) == len(circuit.edges)
        for row in circuit.edges.itertuples():
            edge = ends[(row.from_layer, row.from_head, row.to_layer, row.to_head, row.side)]
            assert arrays["circuit share"][0, edge] == pytest.approx(row.share)
            assert arrays["circuit measured"][0, edge] == pytest.approx(row.measured, nan_ok=True)

    def test_carries_the_attention_of_each_node(self):
        circuit = language_model_circuit()
        view = CircuitView(circuit)
        series = view._header["series"]["heads_texts"]
        for number, (layer, head) in enumerate(circuit.nodes.index):
            sent = unpack_lower(payload(view)["pattern"][series.index([9 * layer + head, 0]), 0])
            np.testing.assert_allclose(sent / 255, np.tril(circuit.patterns[number]), atol=0.5 / 255 + 1e-9)
        assert view._header["tokens"] == [list(circuit.tokens)]

    def test_sends_the_patterns_of_the_largest_heads_if_all_are_too_many(self, monkeypatch):
        circuit = language_model_circuit()
        n_values = len(circuit.tokens) * (len(circuit.tokens) + 1) // 2
        monkeypatch.setattr(_circuit_data, "BUDGET_BYTES", 3 * n_values)
        sent = CircuitView(circuit)._header["series"]["heads_texts"]
        assert sent == [[16 * 9, 0], [18 * 9 + 6, 0], [18 * 9 + 7, 0]]

    def test_total_lift_says_the_size_where_no_effect_on_the_loss_is_known(self):
        circuit = some_circuit()
        lifted = replace(circuit, nodes=circuit.nodes.assign(loss_effect=np.nan))
        assert [CircuitView(one)._header["circuit"]["size"] for one in (circuit, lifted)] == [
            "loss_effect",
            "total_lift",
        ]
        bare = replace(circuit, nodes=circuit.nodes[["role"]])
        assert CircuitView(bare)._header["circuit"]["size"] is None

    def test_opens_at_the_largest_induction_head(self):
        assert CircuitView(language_model_circuit()).head == (18, 6)
        assert CircuitView(some_circuit(("copying", "copying"))).head == (0, 1)

    def test_a_circuit_of_no_heads_is_shown_as_such(self, tmp_path):
        view = CircuitView(circuit_of([], [], 2, 2))
        assert view.head is None and view.step is None
        assert view.save(tmp_path / "empty.html").stat().st_size > 10_000
        assert len(view.to_figure().axes) == 1

    def test_names_of_strangers_end_no_script(self, tmp_path):
        circuit = replace(language_model_circuit(3), tokens=[HOSTILE, "\ud800", "\n"], model=HOSTILE)
        text = CircuitView(circuit).save(tmp_path / "hostile.html").read_text(encoding="utf-8")
        assert "<img" not in text and text.count("</script>") == 3
        state = json.loads(re.search(r'id="inductionkit-state">(.*?)</script>', text)[1])
        assert state["_header"]["tokens"] == [[HOSTILE, "\ud800", "\n"]]


class TestSteps:
    def test_nodes_and_edges_are_those_of_any_step(self):
        circuits = assembling_circuits()
        view = CircuitView(circuits)
        arrays, nodes = payload(view), [tuple(node) for node in view._header["circuit"]["nodes"]]
        assert nodes == sorted(set().union(*(circuit.nodes.index for circuit in circuits.values())))
        for step, circuit in enumerate(circuits.values()):
            here = {nodes[node] for node in np.flatnonzero(arrays["circuit role"][step] != 255)}
            assert here == set(circuit.nodes.index)
            assert np.isfinite(arrays["circuit share"][step]).sum() == len(circuit.edges)
        assert view.step == max(circuits)

    def test_a_step_that_is_not_there_is_refused(self):
        view = CircuitView(assembling_circuits())
        view.step = 400
        with pytest.raises(HistoryError, match="step=401 is no step of this circuit, which has 0, 100, 200"):
            view.step = 401
        with pytest.raises(HistoryError, match="step=3 is no step of this circuit, which has none"):
            CircuitView(some_circuit()).step = 3

    def test_heads_that_take_no_part_cannot_be_chosen(self):
        view = CircuitView(some_circuit())
        view.head = "0.1"
        with pytest.raises(HistoryError, match=r"head names head 0\.0; this circuit has 0\.1, 1\.0"):
            view.head = (0, 0)


class TestLayout:
    @pytest.mark.parametrize("capacity", CAPACITIES)
    @pytest.mark.parametrize("make", [language_model_circuit, large_circuit])
    def test_layers_go_upwards_and_no_two_heads_share_a_place(self, make, capacity):
        circuit = make()
        layers = [layer for layer, _ in circuit.nodes.index]
        layout = _circuit_data.CircuitData(circuit).layout(capacity)
        assert (np.diff(layout.layers) > 0).all()
        assert (0 <= layout.x).all() and (layout.x <= capacity - 1).all()
        for one in range(len(layers)):
            for other in range(one):
                if abs(layout.y[one] - layout.y[other]) < 0.9 - 1e-9:
                    assert layout.y[one] == layout.y[other] and abs(layout.x[one] - layout.x[other]) >= 1
                assert layers[one] == layers[other] or layout.y[one] > layout.y[other]

    def test_an_edge_between_two_heads_goes_straight_up(self):
        layout = place_nodes([0, 0, 0, 5], 6, [(2, 3, 1.0)], 5)
        assert layout.x[2] == layout.x[3]

    def test_a_head_gives_way_to_an_edge(self):
        layout = place_nodes([0, 1, 2], 3, [(0, 2, 1.0)], 5)
        assert layout.x[0] == layout.x[2] and abs(layout.x[1] - layout.x[0]) >= 0.24

    def test_heads_of_a_layer_change_places_to_uncross_their_edges(self):
        layout = place_nodes([0, 0, 1, 1], 2, [(0, 3, 1.0), (1, 2, 1.0)], 2)
        assert layout.x[0] == layout.x[3] and layout.x[1] == layout.x[2]

    def test_layers_without_heads_take_little_room(self):
        layout = place_nodes([2, 40], 48, [], 4)
        assert layout.y[1] - layout.y[0] < 2


def without(name: str):
    return lambda circuit: replace(circuit, edges=circuit.edges.drop(columns=name))


def with_edge(**changed):
    return lambda circuit: replace(circuit, edges=circuit.edges.assign(**changed))


def with_index(*pairs):
    return lambda circuit: replace(circuit, nodes=circuit.nodes.set_axis(pd.MultiIndex.from_tuples(pairs)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("share"), "edges lack share"),
        (lambda circuit: replace(circuit, nodes=circuit.nodes.drop(columns="role")), "must have a role"),
        (lambda circuit: replace(circuit, nodes=circuit.nodes.reset_index(drop=True)), "must have a role"),
        (lambda circuit: replace(circuit, nodes=circuit.nodes.assign(role="boss")), "role 'boss' is not one of"),
        (with_edge(side="O"), "side 'O' is not one of 'K', 'Q', 'V'"),
        (with_edge(share=np.nan), "has share nan"),
        (with_edge(share=np.inf), "has share inf"),
        (with_edge(from_head=0), r"edge \(0, 0\) -> \(1, 0\) must go from a node of the circuit"),
        (with_edge(to_layer=0, to_head=1), "to one of a later layer"),
        (with_index((0, 1), (2, 0)), r"node \(2, 0\) is no head of a model of 2 x 2 heads"),
        (with_index((0, 1), (1, -1)), r"node \(1, -1\) is no head"),
        (with_index((0, 1), (0, 1)), r"head 0\.1 is given twice"),
        (lambda circuit: replace(circuit, edges=pd.concat([circuit.edges] * 2)), "the same heads and side twice"),
        (lambda circuit: replace(circuit, patterns=np.ones((2, 3, 3))), r"patterns have shape \(2, 3, 3\)"),
        (lambda circuit: {}, "there is no circuit to draw"),
        (lambda circuit: {0: circuit, 5: replace(circuit, n_layers=3)}, "must be of one model"),
        (lambda circuit: {"last": circuit}, "step='last' must be a whole number"),
        (lambda circuit: {0: circuit, 5: "nothing"}, "the circuit at step 5 must be an InductionCircuit; got str"),
        (lambda circuit: [circuit], "shows what induction_circuit returns, or a history; got list"),
        (lambda circuit: synthetic_history(), r"the history has no circuits \(edge_share by step\); it has"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_one_line(spoil, message):
    with pytest.raises(HistoryError, match=message) as caught:
        CircuitView(spoil(some_circuit()))
    assert "\n" not in str(caught.value)


@pytest.fixture
def history_with_circuits(monkeypatch) -> xr.Dataset:
    """A history whose circuit, of two heads, is there in the second half of its 6 steps."""
    history = synthetic_history(n_steps=6)
    layers, heads = history.sizes["layer"], history.sizes["head"]
    circuits = [replace(some_circuit(share=step / 5), n_layers=layers, n_heads=heads) for step in range(6)]
    none = [circuit_of([], [], layers, heads)] * 3
    monkeypatch.setattr("inductionkit.widgets._circuit_data.circuits_of", lambda history: [*none, *circuits[3:]])
    return history.assign(edge_share=(("step", "edge"), np.ones((6, 1))))


class TestHistories:
    def test_a_history_is_stepped_through(self, history_with_circuits):
        view = CircuitView(history_with_circuits)
        assert view._steps == history_with_circuits["step"].values.tolist()
        np.testing.assert_allclose(payload(view)["circuit share"].ravel(), [np.nan] * 3 + [0.6, 0.8, 1.0])

    def test_the_explorer_has_a_view_of_it(self, history_with_circuits):
        explorer = PhaseExplorer(history_with_circuits)
        assert "circuit" in explorer._header["views"]
        np.testing.assert_allclose(payload(explorer)["circuit share"].ravel(), [np.nan] * 3 + [0.6, 0.8, 1.0])
        assert explorer._header["circuit"]["nodes"] == [[0, 1], [1, 0]]
        titles = [ax.get_title() for ax in explorer.to_figure().axes]
        assert f"induction circuit at step {explorer.step:,}" in titles

    def test_an_explorer_without_circuits_leaves_it_out(self, history_with_circuits):
        bare = history_with_circuits.drop_vars("edge_share")
        assert "circuit" not in PhaseExplorer(bare)._header
        with pytest.raises(HistoryError, match="the view 'circuit' needs edge_share"):
            PhaseExplorer(bare, views=["circuit"])


class TestFigure:
    def test_names_each_head_and_draws_each_edge(self):
        circuit = language_model_circuit()
        (ax,) = CircuitView(circuit).to_figure().axes
        texts = [text.get_text() for text in ax.texts if isinstance(text, Annotation)]
        assert {text.split("\n")[0] for text in texts} == {f"{layer}.{head}" for layer, head in circuit.nodes.index}
        assert {"16.0\nprev .91", "18.6\n+2.4 nats", "17.4\nmatch .83", "24.4\n\N{MINUS SIGN}0.24 nats"} <= set(texts)
        assert len(ax.patches) == len(circuit.edges)
        assert [tick.get_text() for tick in ax.get_yticklabels()][:3] == ["1", "3", "11"]

    def test_is_of_the_current_step(self):
        circuits = assembling_circuits()
        view = CircuitView(circuits)
        view.step = 200
        (ax,) = view.to_figure().axes
        assert len(ax.texts) == len(circuits[200].nodes) and len(ax.patches) == len(circuits[200].edges)
