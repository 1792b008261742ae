"""One engine for all scans: the same numbers by every executor, nothing mixed up, nothing taken for something else."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from listed_runs import D_VOCAB, N_CTX, STEPS, held_out, listed_run, nan_weights, tiny_gpt2, weights_of

from inductionkit import (
    Behaviour,
    PromptSettings,
    open_history,
    open_run,
    save_history,
    scan_ablations,
    scan_behaviours,
    scan_fuzzy,
    scan_heads,
    scan_run,
)
from inductionkit.errors import HistoryError, ModelError, RunError
from inductionkit.history import PER_HEAD, head_scores
from inductionkit.lens import Lens
from inductionkit.runs.folder import open_folder
from inductionkit.scan.measurement import identity
from inductionkit.scores.fuzzy import fuzzy_prompts
from inductionkit.scores.on_prompts import Share
from inductionkit.scores.score import SCORES, head_score

QUICK = {"n_evaluation": 4, "progress": False}
PROMPTS = PromptSettings(n_sequences=3, n_distinct=10, n_repeats=3)


@contextmanager
def dask_threads():
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=4, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client.get_executor()


EXECUTORS = {
    "four threads": lambda: ThreadPoolExecutor(4),
    "two processes": lambda: ProcessPoolExecutor(2, get_context("spawn")),
    "Dask, two workers of four threads": dask_threads,
}


def both_runs():
    """Two listed runs that differ in layer norm's eps alone."""
    return [listed_run(), listed_run(layer_norm_epsilon=1.0)]


def scanned(run, executor: Executor | None = None, **options) -> xr.Dataset:
    return scan_run(run, held_out(), prompts=PROMPTS, executor=executor, **QUICK, **options)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_every_executor_gives_the_same_history_to_the_last_bit(kind, run_path):
    alone = [scanned(run, n_nulls=1) for run in both_runs()]
    assert abs(alone[0]["loss"] - alone[1]["loss"]).max() > 0.01  # eps matters
    project = open_run(run_path)
    expected = scan_run(project, scores="all", n_nulls=2, **QUICK)
    with EXECUTORS[kind]() as executor:
        for _ in range(3 if kind == "four threads" else 1):
            # One after the other in the same workers: neither may be measured with the other's model.
            for run, right in zip(both_runs(), alone):
                xr.testing.assert_identical(scanned(run, executor, n_nulls=1), right)
            xr.testing.assert_identical(
                scan_run(project, scores="all", n_nulls=2, executor=executor, **QUICK), expected
            )


def plain(found: xr.Dataset) -> xr.Dataset:
    """What `scan_heads` found, as the plain data set that others give."""
    return xr.Dataset(found.data_vars, found.coords, found.attrs)


ALL_SCANS = {
    "run": partial(scan_run, held_out=held_out(), prompts=PROMPTS, n_evaluation=4),
    "heads": partial(scan_heads, held_out=held_out(), prompts=PROMPTS, n_nulls=1),
    "ablations": partial(scan_ablations, held_out=held_out(), n_evaluation=4),
    "behaviours": partial(scan_behaviours, behaviours=[Behaviour("count", [[5, 6, 7], [8, 9]])]),
    "fuzzy": partial(scan_fuzzy, prompts=fuzzy_prompts("translation", D_VOCAB, 0, n_sequences=2), n_nulls=1),
}


@pytest.mark.parametrize("what", ALL_SCANS)
def test_every_scan_takes_a_store_an_executor_and_skips(what, tmp_path):
    scan, run = ALL_SCANS[what], listed_run()
    alone = plain(scan(run, progress=False))
    assert alone["step"].values.tolist() == list(STEPS)
    with ThreadPoolExecutor(3) as executor:
        stored = scan(run, store=tmp_path / "a", executor=executor, progress=False)
    xr.testing.assert_identical(plain(stored), alone)
    xr.testing.assert_identical(open_history(tmp_path / "a"), alone)
    last = (30, partial(nan_weights, 3))
    broken = open_run([*[(s, partial(weights_of, s)) for s in STEPS], last], model=tiny_gpt2())
    with pytest.raises(ModelError, match=r"step 30: .*NaN"):
        scan(broken, progress=False)
    skipping = scan(broken, on_error="skip", progress=False)
    assert list(json.loads(skipping.attrs["skipped"])) == ["30"]
    xr.testing.assert_identical(plain(skipping).drop_attrs(), alone.drop_attrs())
    told = "takes a run, not a GPT2LMHeadModel" if what == "run" else "leave them out for a model"
    with pytest.raises((ModelError, RunError), match=told):
        scan(tiny_gpt2(), store=tmp_path / "b")


@pytest.mark.parametrize("what", ALL_SCANS)
def test_a_run_is_measured_as_its_models_one_by_one(what):
    run = listed_run(seeds=(3, 4), steps=(1, 2))
    along = ALL_SCANS[what](run, progress=False).isel(step=1)
    if what == "run":
        return
    alone = ALL_SCANS[what](run.load_model(2), progress=False)
    for name in alone.data_vars:
        if not str(name).endswith("_null"):
            np.testing.assert_allclose(along[name], alone[name], atol=1e-6, err_msg=name)


def test_a_store_refuses_what_would_give_other_numbers(tmp_path):
    store, run = tmp_path / "a.zarr", listed_run()
    texts = {"text": [0, 5, 6, 5, 6]}
    first = scanned(run, store=store, texts=texts)
    xr.testing.assert_identical(scanned(run, store=store, texts=texts), first)

    def refused(what: str, run=run, **changes):
        options = {"held_out": held_out(), "texts": texts, "prompts": PROMPTS} | changes
        with pytest.raises(HistoryError, match=what):
            scan_run(run, store=store, **QUICK, **options)

    refused("held_out_fingerprint", held_out=held_out(1))
    refused("prompts_bos: stored 0, now 7", prompts=dataclasses.replace(PROMPTS, bos=7))
    refused("prompts_pool", prompts=dataclasses.replace(PROMPTS, pool=range(1, 50)))
    refused("architecture", run=listed_run(layer_norm_epsilon=1.0))
    refused("tokenizer", run=dataclasses.replace(run, tokenizer_json=lambda: TOKENIZER), texts=texts)
    refused("texts", texts={"text": [0, 5, 6, 5, 7]})
    refused("n_nulls", n_nulls=1)
    refused("scan of other weights: at step 0", run=listed_run(seeds=(7, 8, 9, 10, 11, 12)))
    xr.testing.assert_identical(open_history(store), first)


TOKENIZER = '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}'


def test_identity_is_of_everything_that_changes_a_number():
    one, same, other = (
        scanned(listed_run(seeds=(1,), steps=(1,), **config)).attrs["identity"]
        for config in ({}, {}, {"layer_norm_epsilon": 1.0})
    )
    assert one == same != other
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1}) != identity({"a": 1, "b": "2"})


def test_more_checkpoints_go_into_the_same_store(tmp_path):
    half = listed_run(seeds=STEPS[::2], steps=STEPS[::2])
    scanned(half, store=tmp_path / "a")
    xr.testing.assert_identical(scanned(listed_run(), store=tmp_path / "a"), scanned(listed_run()))
    xr.testing.assert_identical(scanned(half, store=tmp_path / "a"), scanned(half))


def truncated(run_path, tmp_path, which: int):
    copy = tmp_path / "copy"
    shutil.copytree(run_path, copy)
    file = sorted((copy / "checkpoints").iterdir())[which]
    file.write_bytes(file.read_bytes()[:100])
    return open_folder(copy)


@pytest.mark.parametrize("which", [0, -1])
def test_no_checkpoint_is_privileged(which, run_path, tmp_path):
    run, whole = truncated(run_path, tmp_path, which), open_run(run_path)
    rest = [step for step in whole.steps if step != whole.steps[which]]
    expected = scan_run(dataclasses.replace(whole, checkpoints=[whole.checkpoint(s) for s in rest]), n_nulls=1, **QUICK)
    skipping = scan_run(run, on_error="skip", n_nulls=1, **QUICK)
    assert list(json.loads(skipping.attrs["skipped"])) == [str(whole.steps[which])]
    xr.testing.assert_identical(skipping.drop_attrs(), expected.drop_attrs())
    chosen = dataclasses.replace(run, checkpoints=[run.checkpoint(s) for s in rest])
    xr.testing.assert_identical(scan_run(chosen, n_nulls=1, **QUICK), expected)


def test_a_run_of_which_nothing_can_be_measured(tmp_path):
    run = open_run([(0, partial(nan_weights, 1)), (1, partial(nan_weights, 2))], model=tiny_gpt2())
    for store in (None, tmp_path / "store"):
        with pytest.raises(RunError, match=r"no checkpoint of GPT2LMHeadModel could be measured: step 0: .*; step 1: "):
            scanned(run, on_error="skip", store=store)
    assert not (tmp_path / "store").exists()


def test_identical_weights_at_different_steps_are_reported():
    run = listed_run(seeds=(1, 2, 1, 2, 3), steps=(0, 1, 2, 3, 4))
    with pytest.warns(RuntimeWarning, match=r"identical weights: \[\[0, 2\], \[1, 3\]\]"):
        history = scanned(run)
    assert json.loads(history.attrs["identical_weights"]) == [[0, 2], [1, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "identical_weights" not in scanned(listed_run()).attrs


def test_checkpoints_of_unknown_tokens_are_marked_as_such():
    history = scanned(listed_run())
    assert np.isnan(history["tokens_seen"]).all() and history["tokens_seen"].dtype == float


class Listed:
    """A data set's column: lists by row, nothing more."""

    def __init__(self, rows):
        self._rows = rows

    def __iter__(self):
        return iter(self._rows)

    def __len__(self):
        return len(self._rows)


class TestHeldOut:
    run = staticmethod(lambda: listed_run(seeds=(1,), steps=(1,)))

    @pytest.mark.parametrize(
        "form", ["array", "tensor", "lists", "column", "unsigned", "stream", "list stream", "column of arrays"]
    )
    def test_what_people_have_is_taken(self, form):
        tokens = held_out(n_rows=5)
        given = {
            "array": tokens,
            "tensor": torch.from_numpy(tokens),
            "lists": tokens.tolist(),
            "column": Listed(tokens.tolist()),
            "unsigned": tokens.astype(np.uint16),
            "stream": np.append(tokens.ravel(), [1, 2, 3]),  # what is left of the last row is dropped
            "list stream": tokens.ravel().tolist(),
            "column of arrays": Listed(list(tokens)),
        }[form]
        expected = scan_run(self.run(), tokens, prompts=PROMPTS, **QUICK)
        xr.testing.assert_identical(scan_run(self.run(), given, prompts=PROMPTS, **QUICK), expected)
        assert len(expected["example"]) == 4 and np.isfinite(expected["icl_score"]).all()

    def test_a_data_set_and_its_column(self):
        datasets = pytest.importorskip("datasets")
        data = datasets.Dataset.from_dict({"input_ids": held_out(n_rows=5).tolist()})
        expected = scan_run(self.run(), held_out(n_rows=5), prompts=PROMPTS, **QUICK)
        xr.testing.assert_identical(scan_run(self.run(), data["input_ids"], prompts=PROMPTS, **QUICK), expected)
        with pytest.raises(ModelError, match=r"data set with the columns \['input_ids'\]; pass the column"):
            scan_run(self.run(), data, **QUICK)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ([[1, 2, 3] * 10, [1, 2] * 10], "rows of 20 to 30 tokens; cut them to one length, or join them"),
            ("some text", "is a str; tokenise the text"),
            ({"input_ids": [[1]]}, "is a dict"),
            (np.full((2, 30), -100), "token ids -100 to -100; the vocabulary has 0 to 119"),
            (np.full((2, 30), D_VOCAB), "token ids 120 to 120"),
            (np.full((2, 30), 2**63 - 1), "the vocabulary has 0 to 119"),
            (np.empty((0, 30), int), r"shape \(0, 30\)"),
            ([], r"shape \(0, 0\)"),
            (np.ones((2, 21), int), "rows of 21 tokens; rows of at least 22"),
            (np.ones((2, N_CTX + 1), int), "rows of 65 tokens; the model's context takes 64"),
            (np.ones((2, 30)), "holds float64 values"),
            (np.ones((2, 30), bool), "holds bool values"),
            (np.ones((2, 3, 30), int), r"shape \(2, 3, 30\)"),
            ([1, 2, 3], "stream of 3 tokens; it takes at least one row of 64"),
            (torch.ones(2, 30, device="meta"), "without values"),
            (7, "is a int; give token ids"),
            ([["a"] * 30], "holds <U1 values"),
        ],
    )
    @pytest.mark.parametrize("scan", [scan_run, scan_ablations])
    def test_the_rest_is_refused_by_name(self, given, told, scan):
        with pytest.raises(ModelError, match=f"held_out .*{told}"):
            scan(self.run(), given, **QUICK)

    def test_a_run_without_any(self):
        for scan in (scan_run, scan_ablations):
            with pytest.raises(ModelError, match="comes without held-out text; pass held_out="):
                scan(self.run(), **QUICK)

    def test_rows_are_taken_evenly(self):
        from inductionkit.system.spread import evenly

        assert evenly(255, 128)[[0, 1, -1]].tolist() == [0, 1, 253]  # not rows 0 to 127
        for n_all, n in [(255, 128), (10, 3), (5, 5), (3, 8), (1, 1), (1000, 999)]:
            taken = evenly(n_all, n)
            assert len(taken) == len(set(taken.tolist())) == min(n_all, n)
            assert set(np.diff(taken).tolist()) <= {n_all // min(n, n_all), n_all // min(n, n_all) + 1}
        tokens = held_out(n_rows=255)
        history = scan_run(self.run(), tokens, prompts=PROMPTS, n_evaluation=128, progress=False)
        losses = Lens(tiny_gpt2(1)).token_losses(torch.from_numpy(tokens[evenly(255, 128)])).mean(1)
        np.testing.assert_allclose(history["example_loss"][0], losses, atol=1e-5)


class TestPromptPool:
    """Rows of the embedding that no text used must not hide what a head does."""

    @pytest.fixture(scope="class")
    def padded(self):
        """The bundled model with 1,024 rows that were never trained."""
        from inductionkit.lens import build_model, load_weights

        run = open_run("bundled")
        weights = {name: torch.as_tensor(w).float() for name, w in run.checkpoints[-1].read().items()}
        generator = torch.Generator().manual_seed(0)
        for name in ("embed.weight", "unembed.weight"):
            more = torch.randn(1024, weights[name].shape[1], generator=generator) * 0.02
            weights[name] = torch.cat([weights[name], more])
        if "unembed.bias" in weights:
            weights["unembed.bias"] = torch.cat([weights["unembed.bias"], torch.zeros(1024)])
        model = build_model({**run.model, "d_vocab": 2048 + 1024})
        load_weights(model, weights)
        return run, model

    def test_prompts_are_drawn_from_the_tokens_of_the_text(self, padded):
        run, model = padded
        text = run.held_out()[:64]
        right = scan_heads(run.load_model(), text)
        found = scan_heads(model, text)
        np.testing.assert_allclose(found.prefix_matching, right.prefix_matching, atol=1e-5)
        assert float(found.prefix_matching.max()) > 0.5 > float(scan_heads(model).prefix_matching.max())
        assert found.attrs["prompts_pool"].startswith("held-out text, ")
        assert scan_heads(model).attrs["prompts_pool"] == f"vocabulary, {3072 - 2 * 61} tokens"

    def test_the_pool_can_be_given(self, padded):
        run, model = padded
        pool = np.unique(run.held_out())[50:400]
        found = scan_heads(model, prompts=PromptSettings(pool=pool))
        assert found.attrs["prompts_pool"] == f"given, {len(pool)} tokens"
        np.testing.assert_allclose(
            found.prefix_matching,
            scan_heads(run.load_model(), prompts=PromptSettings(pool=pool)).prefix_matching,
            atol=1e-5,
        )
        for pool, told in [
            ([5000], "token 5000; this vocabulary has 0 to 3071"),
            (range(9), "given leaves"),
            ([], "must list token ids"),
            (5, "must list token ids"),
            ("12", "a token of the pool='1'"),
            ([1.5], "a token of the pool=1.5 must be a whole number"),
        ]:
            with pytest.raises(ModelError, match=told):
                scan_heads(model, prompts=PromptSettings(pool=pool))

    def test_too_few_different_tokens_in_the_text_leave_the_vocabulary(self, padded):
        run, _ = padded
        found = scan_heads(run.load_model(), np.tile(np.arange(1, 101), (4, 1)))
        assert found.attrs["prompts_pool"].startswith("vocabulary, ")

    def test_bos_is_recorded_and_can_be_set(self, padded):
        run, _ = padded
        model = run.load_model()
        assert scan_heads(model).attrs["prompts_bos"] == 0
        without = scan_heads(model, prompts=PromptSettings(bos=None))
        assert without.attrs["prompts_bos"] == "none"
        other = scan_heads(model, prompts=PromptSettings(bos=7))
        assert other.attrs["prompts_bos"] == 7
        assert not np.allclose(other.prefix_matching, without.prefix_matching, atol=1e-4)


def test_a_score_is_one_function_with_its_row():
    """It is scanned, stored, labelled and listed without another line anywhere."""
    try:

        @head_score("text", of=lambda score, pattern: score(pattern), long_name="self")
        def self_attention(pattern):
            diagonal = pattern.diagonal(dim1=-2, dim2=-1)
            return Share(diagonal.sum(dim=(0, 2)), torch.full((pattern.shape[1],), diagonal[:, 0].numel()))

        history = scanned(listed_run(), scores=["self_attention", "prefix_matching"])
    finally:
        del SCORES["self_attention"]
    assert history["self_attention"].dims == PER_HEAD and history["self_attention"].attrs["long_name"] == "self"
    assert head_scores(history) == ("self_attention", "prefix_matching")


def test_bad_options_are_refused():
    with pytest.raises(RunError, match="on_error='ignore': there are 'stop' and 'skip'"):
        scanned(listed_run(), on_error="ignore")
    with pytest.raises(RunError, match="scan_run takes a run, not a GPT2LMHeadModel"):
        scan_run(tiny_gpt2())
    with pytest.raises(ModelError, match="n_nulls=-1 must be a whole number of at least 0"):
        scanned(listed_run(), n_nulls=-1)
    with pytest.raises(ModelError, match="names no text"):
        scanned(listed_run(), texts={})
    with pytest.raises(ModelError, match="text 'far' has token ids 0 to 500; the vocabulary has 0 to 119"):
        scanned(listed_run(), texts={"far": [0, 500]})


class TestWhatAStoreIsOf:
    """Each of these once gave results of other data, or nulls of another checkpoint, without a word."""

    def test_runs_that_share_their_first_checkpoint(self, tmp_path):
        scanned(listed_run(seeds=(1, 2, 3), steps=(0, 1, 2)), store=tmp_path / "a")
        with pytest.raises(HistoryError, match="other weights: at step 1 "):
            scanned(listed_run(seeds=(1, 5, 3, 4), steps=(0, 1, 2, 3)), store=tmp_path / "a")

    def test_runs_of_which_the_first_checkpoint_is_gone(self, tmp_path):
        scanned(listed_run(seeds=(1, 2), steps=(0, 1)), store=tmp_path / "a")
        other = open_run([(0, partial(broken, 0)), (1, partial(weights_of, 5))], model=tiny_gpt2())
        with pytest.raises(HistoryError, match="other weights: at step 1 "):
            scanned(other, store=tmp_path / "a")

    def test_weights_in_each_others_places(self, tmp_path):
        scanned(listed_run(seeds=(1,), steps=(0,)), store=tmp_path / "a")
        other = open_run([(0, partial(with_layers_swapped, 1))], model=tiny_gpt2())
        with pytest.raises(HistoryError, match="other weights: at step 0 "):
            scanned(other, store=tmp_path / "a")

    def test_another_count_of_tokens(self, tmp_path):
        pairs = [(step, partial(weights_of, step)) for step in (1, 2)]
        scanned(open_run(pairs, model=tiny_gpt2(), tokens_per_step=10), store=tmp_path / "a")
        with pytest.raises(HistoryError, match="store says that 10 tokens were seen at step 1, the run says 1000"):
            scanned(open_run(pairs, model=tiny_gpt2(), tokens_per_step=1000), store=tmp_path / "a")

    def test_heads_from_an_iterator(self, tmp_path):
        run = listed_run(seeds=(1,), steps=(0,))
        first = scan_heads(run, heads=iter([(1, 0)]), prompts=PROMPTS, store=tmp_path / "a", progress=False)
        assert np.isfinite(first.prefix_matching.sel(layer=1, head=0)).all()
        with pytest.raises(HistoryError, match="heads: stored"):
            scan_heads(run, heads=iter([(0, 1)]), prompts=PROMPTS, store=tmp_path / "a", progress=False)

    def test_a_model_with_a_hook_of_the_users(self, tmp_path):
        pairs, hooked = [(1, partial(weights_of, 1))], tiny_gpt2()
        scanned(open_run(pairs, model=tiny_gpt2()), store=tmp_path / "a")
        hooked.transformer.wte.register_forward_hook(lambda module, inputs, output: 2 * output)
        with pytest.raises(HistoryError, match="architecture: stored"):
            scanned(open_run(pairs, model=hooked), store=tmp_path / "a")

    def test_nulls_are_those_of_the_last_checkpoint_also_after_more_came(self, tmp_path):
        half = listed_run(seeds=STEPS[:3], steps=STEPS[:3])
        scanned(half, store=tmp_path / "a", n_nulls=1)
        xr.testing.assert_identical(
            scanned(listed_run(), store=tmp_path / "a", n_nulls=1), scanned(listed_run(), n_nulls=1)
        )

    def test_numbers_of_numpy_are_numbers(self, tmp_path):
        run = listed_run(seeds=(1,), steps=(0,))
        first = scan_heads(run, prompts=dataclasses.replace(PROMPTS, n_repeats=np.int64(3)), store=tmp_path / "a")
        xr.testing.assert_identical(plain(scan_heads(run, prompts=PROMPTS, store=tmp_path / "a")), plain(first))

    @pytest.mark.parametrize("kind", ["zip", "copy", "foreign", "file", "url"])
    def test_what_no_scan_fills_is_refused_and_stays(self, kind, tmp_path):
        run, place = listed_run(seeds=(1,), steps=(0,)), tmp_path / "place"
        if kind == "zip":
            save_history(scanned(run), place)
        elif kind == "copy":
            scanned(run).to_zarr(place, zarr_format=2)
        elif kind == "foreign":
            place.mkdir()
            (place / "precious.partial").write_text("mine")
        elif kind == "file":
            place.write_text("mine")
        else:
            place = "memory://foreign"
            files = fsspec.filesystem("memory")
            files.pipe("/foreign/.zattrs", b'{"schema_version": 1, "mine": 1}')
        before = contents(place)
        with pytest.raises(HistoryError, match="choose another"):
            scanned(run, store=place)
        assert contents(place) == before != {}


def broken(seed):
    raise ValueError("no such file")


def with_layers_swapped(seed):
    weights = weights_of(seed)
    names = [f"transformer.h.{layer}.attn.c_proj.weight" for layer in (0, 1)]
    return weights | dict(zip(names, [weights[name] for name in reversed(names)]))


def contents(place) -> dict:
    if isinstance(place, str):
        files = fsspec.filesystem("memory")
        return {name: files.cat_file(name) for name in files.find(place)}
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in found}


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor])
def test_a_loader_that_fails_is_skipped_with_and_without_an_executor(executor):
    pairs = [(0, partial(weights_of, 1)), (1, partial(broken, 0)), (2, partial(weights_of, 2))]
    run = open_run(pairs, model=tiny_gpt2())
    with ThreadPoolExecutor(2) as pool:
        options = {"executor": pool if executor else None}
        with pytest.raises(RunError, match=r"step 1 could not be read: ValueError\('no such file'\)"):
            scanned(run, **options)
        assert scanned(run, on_error="skip", **options)["step"].values.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_sequences": 0}, "n_sequences=0 must be a whole number of at least 1"),
        ({"n_distinct": 2.0}, "n_distinct=2.0 must be"),
        ({"n_repeats": 1}, "n_repeats=1 must be a whole number of at least 2"),
        ({"seed": None}, "seed=None must be"),
        ({"skip_common": -0.5}, "skip_common=-0.5, skip_rare=0.02: shares of at least 0"),
        ({"skip_common": 0.6, "skip_rare": 0.4}, "below 1 together"),
        ({"skip_rare": np.nan}, "shares of at least 0"),
        ({"bos": -1}, "bos=-1 must be"),
        ({"bos": "x"}, "bos='x' must be"),
        ({"bos": 10**9}, "bos=1000000000 is no token of this vocabulary"),
    ],
)
def test_prompts_that_make_no_sense(settings, told):
    with pytest.raises(ModelError, match=told):
        scan_heads(tiny_gpt2(), prompts=PromptSettings(**settings))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heads": "ab"}, "pairs of whole numbers"),
        ({"heads": [("1", "0")]}, "pairs of whole numbers"),
        ({"heads": [(True, False)]}, "pairs of whole numbers"),
        ({"heads": 5}, "pairs of whole numbers"),
        ({"scores": None}, "scores=None: there are"),
        ({"scores": [["copying"]]}, "there are prefix_matching"),
        ({"scores": []}, "names no score"),
        ({"prompts": None}, "must be a PromptSettings"),
        ({"n_nulls": 0.5}, "n_nulls=0.5 must be a whole number"),
    ],
)
def test_options_that_make_no_sense(options, told):
    with pytest.raises(ModelError, match=told):
        scan_heads(tiny_gpt2(), **options)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ("ab", "must map names to token ids"),
        ({"a": 5}, "'a' is 5; give one list"),
        ({"a": [1.5, 2]}, "give one list of token ids"),
        ({"a": "bc"}, "give one list"),
        ({"a": [[1, 2], [1, 2]]}, "'a' holds 2 sequences of tokens; give one"),
        ({1: [1, 2]}, "must map names"),
    ],
)
def test_texts_that_make_no_sense(texts, told):
    with pytest.raises(ModelError, match=told):
        scanned(listed_run(seeds=(1,), steps=(0,)), texts=texts)


def test_a_data_frame_is_not_a_stream_of_its_column_numbers():
    with pytest.raises(ModelError, match="data set with the columns"):
        scan_run(listed_run(seeds=(1,), steps=(1,)), pd.DataFrame(held_out()), **QUICK)


@pytest.mark.parametrize("n", [0, -1, 1.5, "a"])
def test_numbers_of_examples_that_make_no_sense(n):
    with pytest.raises(ModelError, match=r"n_evaluation=.* must be a whole number of at least 1"):
        scan_run(listed_run(seeds=(1,), steps=(1,)), held_out(), n_evaluation=n, progress=False)
