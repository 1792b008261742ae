"""HeadScan, AttentionView and AblationView: what travels to the browser, what is refused, what is saved."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from ipywidgets import Widget
from tokenizers import Tokenizer, models

from inductionkit.ablation import compare_with_random_heads, scan_ablations
from inductionkit.errors import HistoryError, ModelError
from inductionkit.lens import Lens
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens
from inductionkit.testing import hand_built_model, perfect_induction_model, synthetic_history
from inductionkit.widgets import _circuitsvis
from inductionkit.widgets._ablation_data import MAX_POSITIONS
from inductionkit.widgets._payload import unpack_arrays, unpack_lower
from inductionkit.widgets.ablation_view import AblationView
from inductionkit.widgets.attention_view import AttentionView
from inductionkit.widgets.head_scan_view import HeadScan

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e"
PER_HEAD = ("layer", "head")


def some_scores(n_layers: int = 2, n_heads: int = 3, n_nulls: int = 2) -> xr.Dataset:
    """Head 1.0 has both properties, 1.1 matches without copying; nulls lie below 0.1 and around -0.8."""
    rng = np.random.default_rng(0)
    prefix, copying = rng.uniform(0, 0.1, (n_layers, n_heads)), rng.uniform(-0.9, -0.7, (n_layers, n_heads))
    prefix[-1, 0], copying[-1, 0] = 0.9, 0.5
    prefix[-1, 1] = 0.7
    null = (n_nulls, n_layers, n_heads)
    data = {
        "prefix_matching": (PER_HEAD, prefix),
        "copying": (PER_HEAD, copying),
        "logit_lift": (PER_HEAD, rng.normal(size=(n_layers, n_heads)), {"units": "nats"}),
    }
    if n_nulls:
        data["prefix_matching_null"] = (("null", *PER_HEAD), rng.uniform(0, 0.1, null))
        data["copying_null"] = (("null", *PER_HEAD), rng.uniform(-0.9, -0.7, null))
    return xr.Dataset(data, {"layer": range(n_layers), "head": range(n_heads)}, {"model": "some model"})


def payload(widget) -> dict[str, np.ndarray]:
    return unpack_arrays(widget._header["arrays"], widget._data)


def pattern(view: AttentionView, head: tuple[int, int]) -> np.ndarray:
    """The pattern that a browser would read for a head, 0 to 1."""
    offset, length = view._header["places"][view._header["names"].index(list(head))]
    packed = gzip.decompress(view._data[offset : offset + length])
    return unpack_lower(np.frombuffer(packed, np.uint8)) * view._header["patternScale"]


@pytest.fixture(scope="module")
def model():
    return perfect_induction_model()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return repeated_random_tokens(40, 0, PromptSettings(4))


@pytest.fixture(scope="module")
def full(model, tokens) -> xr.Dataset:
    return scan_ablations(model, tokens, progress=False)


@pytest.fixture(scope="module")
def preserving(model, tokens) -> xr.Dataset:
    return scan_ablations(model, tokens, kind="pattern_preserving", progress=False)


class TestHeadScan:
    def test_carries_scores_and_nulls(self):
        scores = some_scores()
        scan = HeadScan(scores)
        arrays = payload(scan)
        names = [score["name"] for score in scan._header["scores"]]
        assert names == ["prefix_matching", "copying", "logit_lift"]
        for index, name in enumerate(names):
            np.testing.assert_array_equal(arrays[f"score {index}"], scores[name].values.astype("f4"))
        np.testing.assert_array_equal(arrays["null 1"], scores["copying_null"].values.astype("f4").ravel())
        assert "null 2" not in arrays

    def test_marks_the_heads_that_meet_both_thresholds(self):
        scan = HeadScan(some_scores())
        assert (scan.head, scan.heads) == ((1, 0), ((1, 0),))
        # 1.1 matches as well and copies nothing.
        assert scan._header["roles"] == ["", "", "", "induction", "prefix-matching", ""]
        assert scan._header["paths"][3] == "unknown path"
        assert (scan.x, scan.y) == ("prefix_matching", "copying")
        assert HeadScan(some_scores(), min_copying=-1).heads == ((1, 0), (1, 1))
        assert HeadScan(some_scores(), min_prefix_matching=0.95).heads == ()

    def test_surprise_is_the_share_of_the_null_that_is_as_high(self):
        arrays = payload(HeadScan(some_scores(n_nulls=4)))
        assert arrays["p 0"][1, 0] == pytest.approx(1 / (1 + 4 * 6))

    def test_takes_one_step_of_a_history(self):
        history = synthetic_history()
        scan = HeadScan(history.isel(step=-1))
        np.testing.assert_array_equal(payload(scan)["score 0"], history["prefix_matching"].values[-1])

    def test_missing_scores_stay_missing_and_say_why(self):
        scores = some_scores()
        scores["logit_lift"][:] = np.nan
        scores["copying"][0, 1] = np.inf
        scores.attrs["unscored"] = json.dumps({"layer 0": "no attention pattern here"})
        scan = HeadScan(scores)
        assert np.isnan(payload(scan)["score 2"]).all()
        assert scan._header["unscored"] == ["layer 0: no attention pattern here"]
        with pytest.raises(HistoryError, match="x='logit_lift' is no score with values here"):
            scan.x = "logit_lift"

    def test_one_score_has_no_pair(self):
        scan = HeadScan(some_scores()[["logit_lift"]])
        assert (scan.x, scan.y, scan.heads) == (None, None, ())

    def test_layers_and_heads_keep_their_numbers(self):
        scan = HeadScan(some_scores().assign_coords(layer=[3, 7], head=[2, 4, 6]))
        assert (scan.head, scan.heads) == ((7, 2), ((7, 2),))

    @pytest.mark.parametrize(
        ("trait", "value", "message"),
        [
            ("head", (2, 0), r"head names head 2\.0; these scores have 0\.0, 0\.1"),
            ("head", "L1H0", r"head='L1H0' holds no \(layer, head\) pair, such as \(1, 2\)"),
            ("head", None, "head=None holds no"),
            ("heads", 3, "heads=3 is no list"),
            ("heads", [(1, 0), (0, 9)], r"heads names head 0\.9"),
            ("y", "nope", "y='nope' is no score"),
            ("y", None, "y=None is no score"),
        ],
    )
    def test_what_the_scores_lack_is_refused(self, trait, value, message):
        scan = HeadScan(some_scores())
        before = getattr(scan, trait)
        with pytest.raises(HistoryError, match=message):
            setattr(scan, trait, value)
        assert getattr(scan, trait) == before

    def test_heads_are_sorted_and_distinct(self):
        scan = HeadScan(some_scores())
        scan.heads = [[1, 1], (0, 2), (1, 1)]
        assert scan.heads == ((0, 2), (1, 1))

    @pytest.mark.parametrize("wrong", [xr.Dataset(), xr.Dataset({"loss": ("step", [1.0])}), {"prefix_matching": [[1]]}])
    def test_what_is_no_scan_is_refused(self, wrong):
        with pytest.raises(HistoryError):
            HeadScan(wrong)

    def test_names_of_strangers_are_data(self, tmp_path):
        scores = some_scores().rename({"logit_lift": HOSTILE})
        scores.attrs["model"] = HOSTILE
        page = HeadScan(scores).save(tmp_path / "scan.html").read_text(encoding="utf-8")
        assert page.count("<script") == page.count("</script>") == 3
        assert "<img" not in page


class TestAttentionView:
    def test_patterns_are_those_of_the_model(self, model, tokens):
        view = AttentionView(model, tokens[0])
        expected = {}
        Lens(model).visit_attention(tokens[:1], lambda layer, pattern, _: expected.update({layer: pattern[0].numpy()}))
        for layer, head in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            np.testing.assert_allclose(pattern(view, (layer, head)), expected[layer][head], atol=0.5 / 255 + 1e-6)
        assert view._header["tokens"] == [str(token) for token in tokens[0].tolist()]

    def test_it_opens_on_the_head_that_matches_what_repeats(self, model, tokens):
        assert AttentionView(model, tokens[0]).head == (1, 0)
        # Nothing repeats: the last head.
        assert AttentionView(model, list(range(9))).head == (1, 1)

    def test_layers_can_be_chosen(self, model, tokens):
        view = AttentionView(model, tokens[0].tolist(), layers=[0])
        assert view._header["names"] == [[0, 0], [0, 1]]
        with pytest.raises(ModelError, match=r"layers=\[2\]"):
            AttentionView(model, tokens[0], layers=[2])
        with pytest.raises(HistoryError, match=r"head names head 1\.0; this view has 0\.0, 0\.1"):
            view.head = (1, 0)

    def test_a_string_is_read_by_the_tokenizer_behind_a_bos_token(self, model):
        words = {"<bos>": 0, "a": 1, "b": 2}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
        tokenizer.pre_tokenizer = None
        view = AttentionView(model, "b", tokenizer=tokenizer.to_str())
        assert view._header["tokens"] == ["<bos>", "b"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("words", "has no tokenizer"),
            ([], "at least one"),
            ([[1, 2], [1, 2]], r"text holds 2 sequences of tokens; give one of them"),
            ([0.5], r"text is \[0\.5\]; give one list of token ids"),
            ([1, 99], "leave the vocabulary"),
            ([1] * 200, "do not fit the model's context"),
        ],
    )
    def test_what_is_no_text_is_refused(self, model, text, message):
        with pytest.raises(ModelError, match=message):
            AttentionView(model, text)

    def test_what_is_no_tokenizer_is_refused(self, model):
        with pytest.raises(ModelError, match="not a tokenizer in Hugging Face's JSON"):
            AttentionView(model, "a", tokenizer="{}")

    def test_circuitsvis_travels_once(self, model, tokens, monkeypatch):
        monkeypatch.setattr(_circuitsvis.CircuitsVisBundle, "_current", None)
        first, second = AttentionView(model, tokens[0]), AttentionView(model, tokens[0])
        assert first._circuitsvis is second._circuitsvis
        assert first.get_state()["_circuitsvis"] == f"IPY_MODEL_{first._circuitsvis.model_id}"
        first._circuitsvis.close()
        third = AttentionView(model, tokens[0])
        assert third._circuitsvis is not first._circuitsvis and third._circuitsvis.comm is not None
        first.close(), second.close()

    def test_circuitsvis_is_never_imported(self):
        code = (
            "import sys; from inductionkit.widgets._circuitsvis import circuitsvis_code; circuitsvis_code()\n"
            "sys.exit('circuitsvis' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_a_missing_circuitsvis_says_how_to_get_it(self, model, tokens, monkeypatch):
        _circuitsvis.circuitsvis_code.cache_clear()
        monkeypatch.setattr(_circuitsvis, "find_spec", lambda name: None)
        monkeypatch.setattr(_circuitsvis.CircuitsVisBundle, "_current", None)
        with pytest.raises(ModelError, match="pip install circuitsvis"):
            AttentionView(model, tokens[0])

    def test_a_notebook_stays_small(self):
        """Twelve heads on 512 tokens with attention at random: CircuitsVis takes 43 MB."""
        model = hand_built_model([["idle"] * 12], n_ctx=512)
        for name, parameter in model.named_parameters():
            if ".q." in name or ".k." in name:
                torch.nn.init.normal_(parameter, std=2.0)
        view = AttentionView(model, torch.randint(0, 40, (512,)))
        ids = {view.model_id, view._circuitsvis.model_id}
        states = Widget.get_manager_state(drop_defaults=False)["state"]
        size = sum(len(json.dumps(states[model_id])) for model_id in ids)
        assert size < 43e6 / 15

    def test_the_page_allows_its_own_script_and_no_network(self, model, tokens, tmp_path):
        page = AttentionView(model, tokens[0]).save(tmp_path / "page.html").read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
        script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
        assert "sourceMappingURL" not in page and "var CircuitsVis=" in script


class TestAblationView:
    def test_carries_changes_and_losses(self, full):
        view = AblationView(full)
        arrays = payload(view)
        np.testing.assert_array_equal(arrays["0 loss_change"], full["loss_change"].values.reshape(1, -1))
        assert arrays["0 losses"].shape == (1, 4, len(arrays["position"]))
        assert (view.head, view.ablation, view.step, view.metric) == ((1, 0), None, None, "icl_score_change")

    def test_losses_are_means_over_bins_of_positions(self):
        """Loss equal to the token index: the mean over a bin is the mean index there, as `position` says."""
        n = 2000
        loss = np.broadcast_to(np.arange(1.0, n + 1), (1, 1, n))
        changes = {name: (PER_HEAD, [[0.1]]) for name in ("icl_score_change", "loss_change")}
        ablations = xr.Dataset(
            {
                **changes,
                "loss_by_position": ((*PER_HEAD, "position"), loss),
                "baseline_loss_by_position": ("position", loss[0, 0]),
            },
            {"layer": [0], "head": [0], "position": np.arange(1, n + 1)},
        )
        arrays = payload(AblationView(ablations))
        assert len(arrays["position"]) <= MAX_POSITIONS and arrays["position"][0] == 1
        np.testing.assert_allclose(arrays["0 losses"][0, 0], arrays["position"], rtol=1e-6)
        np.testing.assert_allclose(arrays["baseline"], arrays["position"], rtol=1e-6)

    def test_both_kinds_beside_each_other(self, full, preserving):
        view = AblationView(full, preserving)
        assert view._header["kinds"] == ["full", "pattern_preserving"]
        expected = preserving["icl_score_change"].values.reshape(1, -1)
        np.testing.assert_array_equal(payload(view)["1 icl_score_change"], expected)
        with pytest.raises(HistoryError, match="both ablations are of kind 'full'"):
            AblationView(full, full)
        with pytest.raises(HistoryError, match="differ in head"):
            AblationView(full, preserving.isel(head=[0]))

    def test_sets_of_heads(self, model, tokens):
        view = AblationView(scan_ablations(model, tokens, [[(0, 0), (1, 0)], [(1, 1)]], progress=False))
        assert (view.head, view.ablation) == (None, "0.0 + 1.0")
        view.ablation = "1.1"
        with pytest.raises(HistoryError, match=r"ablation='1\.0' is not among these ablations, which have 0\.0"):
            view.ablation = "1.0"

    def test_steps(self, full):
        series = xr.concat([full, full * 2], dim="step").assign_coords(step=[0, 64], tokens_seen=("step", [0, 6400]))
        view = AblationView(series)
        assert view.step == 64 and view._header["elapsed"] == "tokens"
        arrays = payload(view)
        np.testing.assert_array_equal(arrays["elapsed"], [0, 6400])
        np.testing.assert_allclose(arrays["0 loss_change"][1], 2 * full["loss_change"].values.ravel(), rtol=1e-6)
        with pytest.raises(HistoryError, match="step=1 is not among these ablations, which have 0, 64"):
            view.step = 1
        unknown = series.assign_coords(tokens_seen=("step", [0, np.nan]))
        assert AblationView(unknown)._header["elapsed"] == "steps"

    def test_random_draws(self, tokens):
        model = hand_built_model([["previous-token", "idle"], ["induction", "idle"]])
        found = compare_with_random_heads(model, tokens, [(1, 0)], progress=False)
        view = AblationView(scan_ablations(model, tokens, progress=False), random=found)
        assert view._header["random"]["share"] == pytest.approx(float(found.share_lost))
        np.testing.assert_allclose(payload(view)["random"], found.random_share_lost, atol=1e-6)
        with pytest.raises(HistoryError, match="random lacks share_lost"):
            AblationView(scan_ablations(model, tokens, progress=False), random=xr.Dataset())

    def test_a_share_that_is_none_can_be_saved(self, full, model, tokens, tmp_path):
        found = compare_with_random_heads(model, tokens, [(1, 0)], progress=False)
        for name in ("share_lost", "share_lost_interval", "random_share_lost", "p"):
            found[name] = found[name] * np.nan
        view = AblationView(full, random=found)
        assert view._header["random"]["share"] is None
        view.save(tmp_path / "page.html")

    @pytest.mark.parametrize("wrong", [xr.Dataset(), {"loss": 1}, synthetic_history()])
    def test_what_is_no_ablation_is_refused(self, wrong):
        with pytest.raises(HistoryError, match="ablations lack"):
            AblationView(wrong)
