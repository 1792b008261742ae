"""PhaseExplorer in Python: the payload, the traits, the saved page's bytes. What it draws: tests/browser."""

import base64
import dataclasses
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from inductionkit.errors import HistoryError
from inductionkit.history import save_history
from inductionkit.phase import find_phase_change
from inductionkit.testing import synthetic_history
from inductionkit.widgets import PhaseExplorer, _page
from inductionkit.widgets._payload import ALIGNMENT, halved, pack_arrays, pack_lower, unpack_arrays, unpack_lower
from inductionkit.widgets._phase_data import MAX_LOG_POINTS, _thin

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202eevil", "\u2028", "x" * 500]


def payload(explorer: PhaseExplorer) -> dict[str, np.ndarray]:
    return unpack_arrays(explorer._header["arrays"], explorer._data)


def with_tokens(history: xr.Dataset, tokens: list[object]) -> xr.Dataset:
    """`history` whose first text begins with `tokens`."""
    token = history["token"].values.copy()
    token[0, : len(tokens)] = tokens
    return history.assign(token=(("text", "query"), token))


def script_text(page: str, name: str) -> str:
    return re.search(rf'<script type="[^"]*" id="inductionkit-{name}">(.*?)</script>', page, re.DOTALL)[1]


def test_arrays_come_back_exactly():
    rng = np.random.default_rng(0)
    arrays = {
        "odd": rng.integers(0, 255, (3, 5), dtype=np.uint8),
        "nan": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40], np.float32),
        "wide": rng.standard_normal((2, 1, 3)),
        "none": np.empty((0, 4), np.float32),
        "half": np.array([1.5, -np.inf, 6e-8, np.nan], np.float16),
        "strided": rng.standard_normal((4, 6))[::2, ::3],
        "big_endian": np.arange(3, dtype=">f8"),
    }
    table, buffer = pack_arrays(arrays)
    back = unpack_arrays(json.loads(json.dumps(table)), buffer)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert all(entry["offset"] % ALIGNMENT == 0 for entry in table)


def test_an_array_of_another_type_is_refused():
    with pytest.raises(TypeError, match="steps has dtype int64; the payload carries float16"):
        pack_arrays({"steps": np.arange(3, dtype=np.int64)})


def test_lower_triangle_comes_back_row_by_row():
    pattern = np.tril(np.arange(1, 2 * 16 + 1, dtype=np.uint8).reshape(2, 4, 4))
    packed = pack_lower(pattern)
    assert packed[0].tolist() == [1, 5, 6, 9, 10, 11, 13, 14, 15, 16]
    np.testing.assert_array_equal(unpack_lower(packed), pattern)


def test_payload_carries_the_history():
    history = synthetic_history()
    explorer = PhaseExplorer(history, control=synthetic_history(window=None))
    arrays = payload(explorer)
    all_series = unpack_lower(arrays["pattern"])  # one by one: head after head, the first text before the second
    by_text = history["pattern"].stack(series=("text", "layer", "head")).transpose("series", "step", "query", "key")
    heads_texts = explorer._header["series"]["heads_texts"]
    assert sorted(heads_texts) == [(head, text) for head in range(8) for text in range(2)]
    for series, (head, text) in zip(all_series, heads_texts):
        np.testing.assert_array_equal(series, by_text[text * 8 + head].values)
    for name in ("loss", "icl_score", "training_loss", "step", "tokens_seen", "text_loss"):
        np.testing.assert_array_equal(arrays[name], history[name].values)
    for name in ("prefix_matching", "copying", "previous_token"):
        np.testing.assert_array_equal(arrays[name], history[name].values.astype(np.float16))
    np.testing.assert_array_equal(arrays["control loss"], synthetic_history(window=None)["loss"].values)


def test_a_long_training_log_is_thinned_to_means():
    tokens = np.geomspace(1e3, 1e9, 50_000)
    thin_tokens, thin_loss = _thin(tokens, (3 + np.log(tokens)).astype(np.float32))
    assert MAX_LOG_POINTS / 2 < len(thin_tokens) <= MAX_LOG_POINTS
    np.testing.assert_allclose(thin_loss, 3 + np.log(thin_tokens), rtol=1e-6)
    assert (np.diff(thin_tokens) > 0).all()


def test_opens_at_the_last_step_with_the_strongest_head():
    history = synthetic_history()
    explorer = PhaseExplorer(history)
    assert explorer.step == int(history["step"][-1])
    assert explorer.head == (1, 0)
    assert explorer.text == "repeated words"


def test_head_labels_are_the_history_s_own():
    history = synthetic_history().isel(layer=[1]).assign_coords(layer=[7], head=[2, 4, 6, 8])
    explorer = PhaseExplorer(history)
    assert explorer.head == (7, 2)
    explorer.head = [7, 8]
    assert explorer.head == (7, 8)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("step", 3, r"step=3 is no checkpoint of this history, which has 24, 33"),
        ("step", None, r"step=None is no checkpoint"),
        ("step", True, r"step=True is no checkpoint"),
        ("head", (3, 1), r"head=\(3, 1\) names layer 3; this history has layers 0\.\.1"),
        ("head", (1, -1), r"head=\(1, -1\) names head -1; this history has heads 0\.\.3"),
        ("head", "L1H3", r"head='L1H3' is no \(layer, head\) pair"),
        ("head", 1, r"head=1 is no \(layer, head\) pair"),
        ("head", (0.5, 1), r"head=\(0\.5, 1\) is no \(layer, head\) pair"),
        ("heads", [(1, 0), (3, 1)], r"heads=\(3, 1\) names layer 3; this history has layers 0\.\.1"),
        ("heads", 3, r"heads=3 is no list of \(layer, head\) pairs"),
        ("heads", ["x"], r"heads='x' is no \(layer, head\) pair"),
        ("text", "nope", r"text='nope' is no text of this history, which has 0 'repeated words', 1 'again'"),
        ("text", 2, r"text=2 is no text"),
        ("text", -1, r"text=-1 is no text"),
    ],
)
def test_what_the_history_lacks_is_refused(trait, value, message):
    explorer = PhaseExplorer(synthetic_history())
    before = getattr(explorer, trait)
    with pytest.raises(HistoryError, match=message):
        setattr(explorer, trait, value)
    assert getattr(explorer, trait) == before


def test_a_text_is_set_by_name_or_index():
    explorer = PhaseExplorer(synthetic_history())
    explorer.text = 1
    assert explorer.text == "again"
    explorer.text = "repeated words"
    assert explorer.text == "repeated words"


def test_a_phase_may_be_a_pair_in_the_unit_of_the_history():
    history = synthetic_history()
    assert PhaseExplorer(history, phase=(8e6, 2e7))._header["window"] == [8e6, 2e7]
    bare = history.drop_vars("tokens_seen")
    assert PhaseExplorer(bare, phase=(2000, 4000))._header["window"] == [2000, 4000]


@pytest.mark.parametrize("found", [False, None])
def test_a_phase_change_that_was_not_found_is_not_shown(found):
    history = synthetic_history(n_steps=48)
    phase = find_phase_change(history, n_resamples=8)
    assert phase and PhaseExplorer(history, phase=phase)._header["window"]
    explorer = PhaseExplorer(history, phase=dataclasses.replace(phase, found=found))
    assert [explorer._header[name] for name in ("window", "intervals", "bump")] == [None, None, None]
    assert explorer.heads == ()


@pytest.mark.parametrize("phase", [(2e7, 8e6), (0, np.inf), (np.nan, 1), 3, "ab", (1, 2, 3), (None, 2)])
def test_what_is_no_phase_change_is_refused(phase):
    with pytest.raises(HistoryError, match="phase="):
        PhaseExplorer(synthetic_history(), phase=phase)


@pytest.mark.parametrize("known", [[], [0, 1, 2]])
def test_a_history_without_its_tokens_is_shown_in_steps(known):
    """Its training log is drawn where it says at which steps it was written."""
    history = synthetic_history(n_steps=48).drop_vars("log_step", errors="ignore")
    phase = find_phase_change(history.drop_vars("tokens_seen"), n_resamples=8)
    tokens = np.full(48, np.nan)
    tokens[known] = history["tokens_seen"].values[known]
    bare = history.assign_coords(tokens_seen=("step", tokens))
    explorer = PhaseExplorer(bare, phase=phase)
    arrays = payload(explorer)
    assert explorer._header["window"] == list(phase.window) and explorer._header["bump"]
    assert all(end[0] in history["step"].values.round() for end in np.round(explorer._header["bump"]["ends"]))
    np.testing.assert_array_equal(arrays["step"], history["step"].values)
    assert not {"tokens_seen", "log elapsed", "training_loss"} & set(arrays)
    logged = np.arange(1, history.sizes["log"] + 1)
    in_steps = PhaseExplorer(bare.assign_coords(log_step=("log", logged)))
    np.testing.assert_array_equal(payload(in_steps)["log elapsed"], logged)


def test_any_score_of_the_heads_is_shown_and_its_null_is_not():
    history = synthetic_history()
    own = history["copying"].variable
    only = history.drop_vars([name for name, one in history.items() if one.dims == own.dims])
    null = xr.Variable(("null", "layer", "head"), np.zeros((3, 2, 4), np.float32))
    explorer = PhaseExplorer(only.assign(my_score=own, my_score_null=null, once=own[0]), views=["grid"])
    assert explorer._header["scores"] == [{"name": "my_score", "units": "", "noPreference": None}]
    np.testing.assert_array_equal(payload(explorer)["my_score"], own.values.astype(np.float16))
    assert PhaseExplorer(history.assign(a_score=own))._header["scores"][0]["name"] == "prefix_matching"
    with pytest.raises(HistoryError, match="the view 'grid' needs a score of each head at each step"):
        PhaseExplorer(only.assign(once=own[0]), views=["grid"])


def test_misspelt_arguments_and_other_objects_are_refused():
    with pytest.raises(TypeError, match="fase"):
        PhaseExplorer(synthetic_history(), fase=(1, 2))
    with pytest.raises(HistoryError, match=r"xarray\.Dataset"):
        PhaseExplorer({"loss": [1, 2]})
    with pytest.raises(HistoryError, match=r"xarray\.Dataset"):
        PhaseExplorer(synthetic_history(), control=3)


@pytest.mark.parametrize(
    "missing",
    [["pattern", "token"], ["token"], ["training_loss"], ["copying"], ["prefix_matching"], ["loss", "icl_score"]],
)
def test_a_history_may_lack_variables(missing, tmp_path):
    explorer = PhaseExplorer(synthetic_history().drop_vars(missing))
    assert not set(missing) & set(payload(explorer))
    assert explorer.save(tmp_path / "page.html").stat().st_size > 10_000


def test_a_history_may_have_nothing_per_head():
    explorer = PhaseExplorer(synthetic_history()[["loss"]].drop_dims(["layer", "head"], errors="ignore"))
    assert (explorer.head, explorer.text) == (None, None)
    with pytest.raises(HistoryError, match="no variable per head"):
        explorer.head = (0, 0)


def test_missing_values_stay_missing(tmp_path):
    history = synthetic_history()
    history["loss"][3] = np.nan
    history["icl_score"][4] = np.inf
    history["prefix_matching"][-1] = np.nan
    explorer = PhaseExplorer(history)
    arrays = payload(explorer)
    assert np.isnan(arrays["loss"][3]) and np.isinf(arrays["icl_score"][4])
    assert explorer.head == (1, 0), "the last checkpoint with scores decides"
    explorer.save(tmp_path / "page.html")


def test_one_checkpoint_one_head():
    explorer = PhaseExplorer(synthetic_history(n_steps=1, n_layers=1, n_heads=1))
    assert explorer.head == (0, 0)


def test_tokens_missing_at_the_end_of_a_text_are_left_out():
    history = synthetic_history(n_text_tokens=4)
    token = history["token"].values.copy()
    token[1, 2:] = np.nan
    explorer = PhaseExplorer(history.assign(token=(("text", "query"), token)))
    assert [len(tokens) for tokens in explorer._header["tokens"]] == [4, 2]


def test_texts_of_one_name_are_numbered():
    explorer = PhaseExplorer(synthetic_history().assign_coords(text=["same", "same"]))
    assert explorer._header["texts"] == ["text 0", "text 1"]


def test_saved_page_is_whole_and_inert(tmp_path):
    history = with_tokens(synthetic_history(), HOSTILE)
    history.attrs["model"] = "</title><script>alert(2)</script>"
    explorer = PhaseExplorer(history)
    path = explorer.save(tmp_path / "page.html")
    page = path.read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 3
    assert page.count("<title>") == page.count("</title>") == 1
    assert "<img" not in page and "\u2028" not in page
    state = json.loads(script_text(page, "state"))
    assert state["_header"]["tokens"][0][: len(HOSTILE)] == HOSTILE
    assert gzip.decompress(base64.b64decode(script_text(page, "data"))) == explorer._data
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_saved_page_allows_its_own_script_and_no_network(tmp_path):
    page = PhaseExplorer(synthetic_history()).save(tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:(?!//www\.w3\.org/)", policy + script)


def test_save_opens_where_the_explorer_stands_and_is_reproducible(tmp_path):
    explorer = PhaseExplorer(synthetic_history())
    explorer.step, explorer.head, explorer.text = explorer._steps[3], (0, 2), 1
    page = explorer.save(tmp_path / "page.html").read_bytes()
    state = json.loads(script_text(page.decode(), "state"))
    assert (state["step"], state["head"], state["text"]) == (explorer._steps[3], [0, 2], "again")
    assert explorer.save(str(tmp_path / "again.html")).read_bytes() == page


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        PhaseExplorer(synthetic_history()).save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_script_ends_only_where_the_page_ends_it():
    page = _page.render_page("t", {}, b"", "a = '</script>' + '</SCRIPT' + '<!-- <script'")
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    assert script == r"a = '<\/script>' + '<\/SCRIPT' + '\x3C!-- <script'"


def test_text_that_is_no_unicode_can_be_saved():
    assert json.loads(script_text(_page.render_page("t", {"token": "\ud800"}, b"", ""), "state")) == {"token": "\ud800"}


def test_a_missing_bundle_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(_page, "STATIC", tmp_path)
    with pytest.raises(FileNotFoundError, match="npm ci && npm run build"):
        PhaseExplorer(synthetic_history())


def test_sizes(tmp_path):
    """A real pattern is no noise; these are, so that the page is at its largest."""
    rng = np.random.default_rng(0)
    history = synthetic_history(n_steps=40, n_text_tokens=64)
    logits = rng.standard_normal(history["pattern"].shape) * 1.5
    weights = np.exp(logits) * np.tril(np.ones((64, 64)))
    weights /= weights.sum(-1, keepdims=True)
    history["pattern"].values[:] = np.round(255 * weights)
    path = PhaseExplorer(history).save(tmp_path / "page.html")
    assert path.stat().st_size < 2_000_000
    assert (_page.STATIC / "phase_explorer.js").stat().st_size < 140_000, "140 KB"


def test_half_precision_is_for_what_it_can_hold():
    small = np.array([0.1234, -3.0, np.nan, np.inf], np.float32)
    assert halved(small).dtype == np.float16
    np.testing.assert_allclose(halved(small), small, rtol=5e-4)
    large = np.array([1.0, 70_000.0], np.float32)
    assert halved(large).dtype == np.float32 and halved(large).tolist() == large.tolist()


def test_the_phase_change_brings_its_intervals_its_bump_and_its_heads():
    history = synthetic_history(n_steps=48)
    phase = find_phase_change(history, n_resamples=8)
    explorer = PhaseExplorer(history, phase=phase)
    assert explorer._header["window"] == list(phase.window)
    assert explorer._header["intervals"] == [list(phase.start_interval), list(phase.end_interval)]
    bump = explorer._header["bump"]
    assert bump["nats"] == phase.bump_nats > 0
    for tokens, loss in bump["ends"]:  # the chord of the envelope ends on the curve, at checkpoints
        at = np.abs(history["tokens_seen"].values - tokens).argmin()
        assert history["tokens_seen"].values[at] == pytest.approx(tokens)
        assert loss == pytest.approx(float(history["loss"][at]))
    assert explorer.heads == phase.heads == ((1, 0), (1, 1))


def test_heads_are_a_trait_of_pairs():
    explorer = PhaseExplorer(synthetic_history())
    assert explorer.heads == ()
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), "heads")
    explorer.heads = [[1, 0], (0, 3), (1, 0)]
    assert explorer.heads == ((1, 0), (0, 3)) and seen == [explorer.heads]


def test_importing_the_widgets_brings_no_torch():
    code = "import sys, inductionkit.widgets; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_explorer_grows_with_its_history():
    whole = synthetic_history()
    steps = whole["step"].values.tolist()
    explorer = PhaseExplorer(whole.isel(step=slice(0, 4)))
    explorer.head, explorer.text = (0, 2), 1
    explorer.history = whole.isel(step=slice(0, 6))
    assert explorer.step == steps[5] and explorer.head == (0, 2) and explorer.text == explorer._texts[1]
    explorer.step = steps[2]
    explorer.history = whole
    assert explorer.step == steps[2]
    np.testing.assert_array_equal(payload(explorer)["step"], steps)
    with pytest.raises(HistoryError):
        explorer.history = whole.isel(step=slice(0, 0))
    assert explorer.history is whole


def test_an_explorer_follows_a_store_that_another_process_fills(tmp_path):
    whole, store = synthetic_history(), tmp_path / "live.zarr.zip"
    save_history(whole.isel(step=slice(0, 3)), store)
    explorer = PhaseExplorer(whole.isel(step=slice(0, 1))).follow(store, seconds=0.05)
    assert explorer.step == whole["step"][2]
    save_history(whole, tmp_path / "next.zarr.zip")
    os.replace(tmp_path / "next.zarr.zip", store)
    until = time.monotonic() + 20
    while explorer.step != whole["step"][-1] and time.monotonic() < until:
        time.sleep(0.05)
    assert explorer.step == whole["step"][-1]
    explorer.close()
