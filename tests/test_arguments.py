"""Arguments in all forms in which people have them: taken where they are clear, else refused by name."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import random_model
from listed_runs import tiny_gpt2, weights_of

from inductionkit import (
    AblationView,
    AttentionView,
    HeadScan,
    PhaseExplorer,
    PromptSettings,
    TrainingWatch,
    example_history,
    find_phase_change,
    icl_score,
    open_run,
    phase,
    plots,
    scan_ablations,
    scan_heads,
    scan_run,
    superposition,
)
from inductionkit.ablation import compare_with_random_heads
from inductionkit.errors import HistoryError, InductionKitError, ModelError
from inductionkit.lens import Lens
from inductionkit.lens.fitting import check_fit, shapes
from inductionkit.phase import PhaseCriteria
from inductionkit.scores import fuzzy
from inductionkit.testing import hand_built_model, synthetic_history
from inductionkit.train import CheckpointSpec, CorpusSpec, ModelConfig, OptimiserSpec, Recipe

IDS = [1, 2, 3, 1, 2]
HELD_OUT = np.random.default_rng(0).integers(1, 60, (3, 40))
PROMPTS = PromptSettings(n_sequences=2, n_distinct=8, n_repeats=2)


@pytest.fixture(scope="module")
def model():
    return random_model()


# One sequence of tokens

ONE = {
    "list": IDS,
    "tuple": tuple(IDS),
    "array": np.array(IDS),
    "tensor": torch.tensor(IDS),
    "batch in a tensor": torch.tensor([IDS]),
    "batch in an array": np.array([IDS], np.uint16),
    "batch in a list": [IDS],
    "batch of a tensor": [torch.tensor(IDS)],
    "with gradients elsewhere": torch.tensor([IDS], dtype=torch.int32),
}
NONE = {
    "two": ([IDS, IDS], "holds 2 sequences of tokens; give one of them, such as tokens"),
    "two in a tensor": (torch.tensor([IDS, IDS, IDS]), "holds 3 sequences of tokens"),
    "of several lengths": ([[1, 2], [3]], "give one list of token ids"),
    "three dimensions": (np.array([[IDS]]), "give one list of token ids"),
    "fractions": (torch.tensor([IDS]) + 0.5, "give one list of token ids"),
    "truth values": ([True, False], "give one list of token ids"),
    "a number": (5, "give one list of token ids"),
    "a mapping": ({"input_ids": IDS}, "give one list of token ids"),
    "values nowhere": (torch.tensor([IDS], device="meta"), "give one list of token ids"),
}


@pytest.mark.parametrize("form", ONE)
def test_one_sequence_of_tokens_in_any_form(form, model, run_path):
    assert AttentionView(model, ONE[form])._header["tokens"] == [str(token) for token in IDS]
    run = open_run(run_path, checkpoints=1)
    options = {"texts": {"a": ONE[form]}, "prompts": PROMPTS, "n_evaluation": 2, "progress": False}
    assert scan_run(run, **options).attrs["texts"] == '{"a": [1, 2, 3, 1, 2]}'
    watch = TrainingWatch(HELD_OUT, texts={"a": ONE[form]}, prompts=PROMPTS)
    watch(model, 0)
    assert watch.history.attrs["texts"] == '{"a": [1, 2, 3, 1, 2]}'


@pytest.mark.parametrize("form", NONE)
def test_what_is_not_one_sequence_of_tokens_is_refused(form, model, run_path):
    tokens, message = NONE[form]
    with pytest.raises(ModelError, match=f"text .*{message}"):
        AttentionView(model, tokens)
    with pytest.raises(ModelError, match=f"text 'a' .*{message}"):
        scan_run(open_run(run_path, checkpoints=1), texts={"a": tokens}, progress=False)


def test_a_batch_of_tokens_for_a_lens(model):
    lens = Lens(model)
    for tokens in (IDS, [IDS], np.array(IDS), torch.tensor([IDS])):
        assert lens.as_tokens(tokens).tolist() == [IDS]
    for tokens in ([[1, 2], [3]], [0.5], torch.tensor([[True, False]]), torch.tensor([[1j]]), "words", None):
        with pytest.raises(ModelError, match=r"tokens must be a 2-D integer tensor \(sequence, position\); seen"):
            lens.as_tokens(tokens)


# Heads

HEADS = {
    "pairs": [(1, 2), (0, 1)],
    "labels": ["1.2", "0.1"],
    "labels with spaces": [" 1.2 ", "0.1"],
    "NumPy's labels": np.array(["1.2", "0.1"]),
    "an array": np.array([[1, 2], [0, 1]]),
    "a tensor": torch.tensor([[1, 2], [0, 1]]),
    "mixed": ("1.2", [np.int64(0), 1]),
}
NO_HEADS = {
    "another label": ["L1H2"],
    "texts in a pair": [("1", "2")],
    "a fraction": [1.2],
    "whole fractions": [(1.0, 2.0)],
    "truth values": [(True, False)],
    "a layer": ["1"],
    "three": ["1.2.3"],
    "negative": ["-1.2"],
    "a number": 5,
    "a word": "induction",
}


def scanned_heads(scores: xr.Dataset) -> set[tuple[int, int]]:
    return set(zip(*(places.tolist() for places in np.nonzero(np.isfinite(scores.prefix_matching.values)))))


@pytest.mark.parametrize("form", HEADS)
def test_heads_in_any_form(form, model):
    heads = HEADS[form]
    scored = scan_heads(model, heads=heads, scores=["prefix_matching"], prompts=PROMPTS)
    assert scanned_heads(scored) == {(1, 2), (0, 1)}
    options = {"n_evaluation": 2, "progress": False}
    assert scan_ablations(model, HELD_OUT, heads, **options)["ablation"].values.tolist() == ["1.2", "0.1"]
    compared = compare_with_random_heads(model, HELD_OUT, heads, n_draws=1, progress=False)
    assert compared.attrs["heads"] == "0.1 + 1.2"


def test_sets_of_heads_by_the_labels_of_a_result(model):
    options = {"n_evaluation": 2, "progress": False}
    first = scan_ablations(model, HELD_OUT, [[(1, 2), (0, 1)], (1, 0)], **options)
    again = scan_ablations(model, HELD_OUT, first["ablation"].values, **options)
    assert first["ablation"].values.tolist() == ["0.1 + 1.2", "1.0"]
    xr.testing.assert_identical(again.drop_attrs(), first.drop_attrs())


@pytest.mark.parametrize("form", NO_HEADS)
def test_what_names_no_heads_is_refused(form, model):
    heads = NO_HEADS[form]
    message = r"heads=.*: give (a list of )?\(layer, head\) pairs .*labels such as '1\.3'"
    for call in (
        lambda: scan_heads(model, heads=heads, prompts=PROMPTS),
        lambda: scan_ablations(model, HELD_OUT, heads, progress=False),
        lambda: compare_with_random_heads(model, HELD_OUT, heads, progress=False),
    ):
        with pytest.raises(ModelError, match=message):
            call()
    for view in views(model):
        with pytest.raises(HistoryError, match=r"heads.* (no|names)"):
            view.heads = heads


def views(model) -> list:
    return [PhaseExplorer(example_history()), HeadScan(scan_heads(model, prompts=PROMPTS))]


def test_heads_of_widgets(model):
    ablated = scan_ablations(model, HELD_OUT, n_evaluation=2, progress=False)
    for view in (*views(model), AttentionView(model, IDS), AblationView(ablated)):
        view.head = "0.1"
        assert view.head == (0, 1)
        view.head = np.array([1, 0])
        assert view.head == (1, 0)
        for wrong in ("L0H1", ("0", "1"), 0.1, (0.5, 1), (float("inf"), 0), "9.9", (True, False)):
            with pytest.raises(HistoryError, match=r"head"):
                view.head = wrong
            assert view.head == (1, 0)
    for view in views(model):
        view.heads = ["1.1", (0, 1)]
        assert set(view.heads) == {(1, 1), (0, 1)}
        view.heads = "1.0"
        assert view.heads == ((1, 0),)


def test_one_label_is_a_list_of_one(model):
    options = {"n_evaluation": 2, "progress": False}
    assert scanned_heads(scan_heads(model, heads="1.2", scores=["prefix_matching"], prompts=PROMPTS)) == {(1, 2)}
    assert scan_ablations(model, HELD_OUT, "1.2", **options)["ablation"].values.tolist() == ["1.2"]
    compared = compare_with_random_heads(model, HELD_OUT, "1.2 + 0.1", n_draws=1, progress=False)
    assert compared.attrs["heads"] == "0.1 + 1.2"


# Numbers

TOY = superposition.ToyModels(4, 2, density=0.3)
SCORES_AT_END = synthetic_history().isel(step=-1)
HISTORY = synthetic_history()
QUICK_TRAINING = {"n_steps": 2, "batch_size": 4}
COUNT = [0, -1, 1.5, math.nan, math.inf, "x", None, True, [], [0.5, "a"], np.float64(0.5)]
COUNT_OR_NONE = [value for value in COUNT if value is not None]
SEED = [value for value in COUNT if value != 0 or value is True]
SHARE = [-0.1, 1.1, math.nan, math.inf, "x", None, True, [], [0.5, "a"]]
POSITIVE = [0, -1, math.nan, "x", None, True, [], [0.5, "a"]]
NUMBER = [math.nan, "x", None, True, [], [0.5, "a"]]
DENSITY = [0, -1, 1.5, math.nan, "x", [], [0.5, "a"], [[0.1], [0.1, 0.2]]]


def toy_history():
    return superposition.train_toy_models(TOY, n_steps=4, batch_size=4, steps=[0, 1, 2, 3, 4], progress=False)


def trained(**options):
    return superposition.train_toy_models(**{"models": TOY, **QUICK_TRAINING, "progress": False, **options})


def diagram(**options):
    cell = {"sparsity": [0.5], "relative_importance": [1.0], "n_starts": 1, "training": QUICK_TRAINING}
    return superposition.phase_diagram(**{**cell, "progress": False, **options})


def polygons(**options):
    few = {"relative_density": [0.5], "n_starts": 1, "training": QUICK_TRAINING, "progress": False}
    return superposition.train_polygons(**{**few, **options})


def descent(**options):
    few = {"n_points": [3], "seeds": [0], "n_features": 4, "training": {"n_steps": 2}, "progress": False}
    return superposition.double_descent(**{**few, **options})


def compared(**options):
    few = {"heads": [(0, 0)], "n_draws": 1, "progress": False}
    return compare_with_random_heads(random_model(), HELD_OUT, **{**few, **options})


def ablated(**options):
    return scan_ablations(
        random_model(), HELD_OUT, **{"heads": [(0, 0)], "n_evaluation": 2, "progress": False, **options}
    )


def scanned(**options):
    return scan_heads(random_model(), **{"prompts": PROMPTS, **options})


def recipe_of(**options):
    return Recipe(**{"name": "a", "model": ModelConfig(n_layers=1), **options})


NUMBERS = [
    (trained, "n_steps", COUNT),
    (trained, "batch_size", COUNT),
    (trained, "learning_rate", [*POSITIVE, math.inf]),
    (trained, "warmup_steps", SEED),
    (trained, "weight_decay", [-1, *NUMBER]),
    (trained, "data_seed", SEED),
    (trained, "steps", [-1, 0.5, math.nan, math.inf, "x", [], [0.5, "a"], True, [[1]], 3]),
    (partial(superposition.log_spaced_steps, n_recorded=3), "n_steps", COUNT),
    (partial(superposition.log_spaced_steps, 10), "n_recorded", COUNT),
    (partial(superposition.ToyModels, n_hidden=2), "n_features", COUNT),
    (partial(superposition.ToyModels, 4), "n_hidden", COUNT),
    (partial(superposition.ToyModels, 4, 2), "density", DENSITY),
    (partial(superposition.ToyModels, 4, 2), "importance", [-1, math.nan, math.inf, "x", [], [0.5, "a"]]),
    (partial(superposition.ToyModels, 4, 2), "seed", [-1, 0.5, math.nan, "x", None, [], True]),
    (partial(superposition.draw_points, TOY), "n_points", COUNT),
    (partial(superposition.candidate_solutions, sparsity=0.5, relative_importance=1.0), "n_hidden", [*COUNT, 3]),
    (diagram, "sparsity", [-1, 1, 1.5, math.nan, "x", [], [0.5, "a"], True, [0.5, 1.0]]),
    (diagram, "relative_importance", [0, -1, math.nan, math.inf, "x", [], [0.5, "a"], True]),
    (diagram, "n_starts", COUNT),
    (diagram, "training", [5, "x", {"n_step": 5}, {"models": TOY}]),
    (lambda n_steps: diagram(training={"n_steps": n_steps}), "n_steps", COUNT),
    (superposition.polygon_losses, "relative_density", [0, -1, math.nan, math.inf, "x", [], [0.5, "a"], 21.0]),
    (superposition.polygon_losses, "density", [*POSITIVE, 1.5]),
    (polygons, "density", [*POSITIVE, 1.5]),
    (polygons, "n_starts", COUNT),
    (polygons, "training", [5, {"n_step": 5}]),
    (descent, "n_points", [0, -1, 1.5, math.nan, "x", None, [], True, [3, 3], [6, 3]]),
    (descent, "seeds", [-1, 1.5, math.nan, "x", None, [], True]),
    (descent, "n_features", COUNT),
    (descent, "n_hidden", COUNT),
    (descent, "density", DENSITY),
    (descent, "training", [5, {"n_step": 5}]),
    (partial(superposition.interference_graph, np.eye(2)), "min_norm", [-1, math.inf, *NUMBER]),
    (partial(superposition.interference_graph, np.eye(2)), "min_cosine", SHARE),
    (partial(superposition.find_polytopes, np.eye(2)), "min_goodness", SHARE),
    (lambda instance: superposition.find_jumps(toy_history(), instance), "instance", [1, *SEED[:-6], "x", True]),
    *((superposition.JumpCriteria, name, [-1, *NUMBER]) for name in ("min_change", "min_rate", "min_drop")),
    *((superposition.JumpCriteria, name, SHARE) for name in ("beginning", "min_share", "max_p_value")),
    (partial(superposition.feature_states, np.eye(2)), "feature", [2, -3, *COUNT[2:]]),
    *((PhaseCriteria, name, [-1, *NUMBER]) for name in ("min_rise", "min_icl_gain", "min_bump", "min_pivot")),
    (PhaseCriteria, "max_ratio", [0.5, *NUMBER]),
    (PhaseCriteria, "onset", SHARE),
    (PhaseCriteria, "end", [0.1, *SHARE]),
    (partial(find_phase_change, HISTORY), "n_resamples", SEED),
    (partial(find_phase_change, HISTORY), "seed", SEED),
    (partial(phase.induction_heads, SCORES_AT_END), "min_prefix_matching", NUMBER),
    (partial(phase.induction_heads, SCORES_AT_END), "min_copying", NUMBER),
    (partial(phase.induction_heads, SCORES_AT_END), "min_lift", NUMBER),
    (partial(HeadScan, SCORES_AT_END), "min_copying", NUMBER),
    (partial(phase.icl_score_at, HISTORY, late=100), "early", [*COUNT, 100, 200]),
    (partial(phase.icl_score_at, HISTORY, 10), "late", [*COUNT, 10, 200]),
    (partial(phase.icl_score_at, HISTORY, 10, 100), "half_width", [*SEED, 10]),
    (partial(phase.icl_sensitivity, HISTORY), "early", [0, -1, 1.5, "x", [], [200]]),
    (partial(phase.icl_sensitivity, HISTORY), "late", [0, -1, 1.5, "x", [], [200]]),
    (partial(phase.loss_slope_map, HISTORY), "n_indices", COUNT),
    (partial(phase.loss_slopes_around, HISTORY, find_phase_change(HISTORY)), "split", COUNT_OR_NONE),
    (partial(phase.token_loss_pca, {"a": HISTORY}), "n_components", COUNT),
    (partial(phase.token_loss_change, HISTORY, 0, to_step=int(HISTORY.step[-1])), "from_step", [1, *SEED]),
    (partial(phase.token_loss_change, HISTORY, 0, int(HISTORY.step[0])), "to_step", [1, *SEED]),
    (partial(phase.token_loss_change, HISTORY, from_step=24, to_step=24), "text", [2, -1, True, None, "x", []]),
    (partial(plots.plot_loss_slopes, HISTORY), "limit", [*POSITIVE, math.inf]),
    (partial(plots.plot_head_scores, HISTORY), "step", [1, *SEED]),
    (scanned, "n_nulls", SEED),
    (scanned, "max_bytes", POSITIVE),
    (ablated, "max_bytes", POSITIVE),
    (ablated, "n_evaluation", COUNT_OR_NONE),
    (compared, "n_draws", COUNT),
    (compared, "seed", SEED),
    (compared, "icl_before", [*NUMBER, math.inf]),
    (compared, "max_bytes", POSITIVE),
    (lambda layers: AttentionView(random_model(), IDS, layers=layers), "layers", [-1, 2, 0.5, "x", [], True, [[0]]]),
    (partial(icl_score, np.ones((2, 60)), icl_late=50, icl_half_width=0), "icl_early", [*COUNT, 61]),
    (partial(icl_score, np.ones((2, 60)), 10, icl_half_width=0), "icl_late", [*COUNT, 61]),
    (partial(icl_score, np.ones((2, 60)), 10, 50), "icl_half_width", [*SEED, 10, 11]),
    *((synthetic_history, name, COUNT) for name in ("n_steps", "n_layers", "n_heads", "n_text_tokens")),
    *((synthetic_history, name, SEED) for name in ("seed", "n_examples")),
    (synthetic_history, "noise", [-1, math.inf, *NUMBER]),
    (synthetic_history, "window", [5, (1, 2, 3), (0, 1), "x", [], (math.nan, 1)]),
    *((partial(hand_built_model, [["copier"]]), name, COUNT) for name in ("n_distinct_tokens", "n_ctx")),
    (partial(hand_built_model, [["copier"]]), "seed", [value for value in SEED if value is not None]),
    (partial(open_run, "bundled"), "checkpoints", [0, -1, 1.5, "x", True, [], [0.5, "a"], [[1]], math.nan]),
    (partial(open_run, "bundled"), "tokens_per_step", COUNT_OR_NONE),
    (partial(open_run, "bundled"), "max_bytes", [value for value in POSITIVE if value is not None]),
    *(
        (partial(function, 2000, 0), name, COUNT)
        for function, names in (
            (fuzzy.token_class_prompts, ("n_distinct", "n_repeats", "n_sequences")),
            (fuzzy.template_prompts, ("n_repeats", "n_sequences")),
            (fuzzy.translation_prompts, ("n_words", "n_sequences")),
        )
        for name in names
    ),
    (partial(fuzzy.token_class_prompts, bos=0), "d_vocab", COUNT),
    (partial(fuzzy.token_class_prompts, 2000), "bos", [value for value in SEED if value is not None]),
    (partial(fuzzy.token_class_prompts, 2000, 0), "seed", SEED),
    (partial(fuzzy.token_class_prompts, 2000, 0), "pool", [0, -1, 1.5, "x", [], True, [3, 4]]),
    (partial(fuzzy.translation_prompts, 2000, 0), "separator", [value for value in SEED if value is not None]),
    *((recipe_of, name, COUNT) for name in ("n_tokens", "batch_size")),
    (recipe_of, "seed", SEED),
    *(
        (partial(ModelConfig, **({} if name == "n_layers" else {"n_layers": 1})), name, COUNT)
        for name in ("n_layers", "d_model", "n_heads", "d_head", "n_ctx", "d_vocab")
    ),
    (partial(ModelConfig, 1), "d_mlp", COUNT_OR_NONE),
    (partial(ModelConfig, 1), "eps", [-1, math.inf, *NUMBER]),
    (CorpusSpec, "n_held_out", COUNT),
    (CorpusSpec, "seed", SEED),
    (CheckpointSpec, "first", COUNT),
    *((CheckpointSpec, name, SEED) for name in ("n_log", "n_dense")),
    (CheckpointSpec, "dense", [5, (1, 2, 3), (-1, 2), "x", [], (0.5, 1)]),
    *((OptimiserSpec, name, [-1, math.inf, *NUMBER]) for name in ("muon_lr", "adamw_lr", "weight_decay")),
    (OptimiserSpec, "muon_momentum", [1, *SHARE]),
    (OptimiserSpec, "adamw_betas", [0.9, (0.9,), (0.9, 1.0), "x", None]),
    (OptimiserSpec, "max_gradient_norm", POSITIVE),
    (OptimiserSpec, "warmup_steps", SEED),
    (OptimiserSpec, "decay_fraction", SHARE),
]


@pytest.mark.parametrize(
    ("call", "name", "values"), NUMBERS, ids=[f"{i} {name}" for i, (_, name, _) in enumerate(NUMBERS)]
)
def test_numbers_outside_their_range_are_refused_by_name(call, name, values):
    for value in values:
        with pytest.raises(InductionKitError) as raised:
            call(**{name: value})
        assert name in str(raised.value), (value, str(raised.value))


def test_numbers_of_numpy_are_taken():
    n, half = np.int64(3), np.float32(0.5)
    models = superposition.ToyModels(n, np.int32(2), density=half, importance=np.float64(1), seed=np.uint8(3))
    history = superposition.train_toy_models(
        models, n, np.int16(4), half, steps=np.geomspace(1, 3, 2).round(), progress=False
    )
    assert history["step"].values.tolist() == [1, 3] and history.attrs["learning_rate"] == 0.5
    assert superposition.candidate_solutions(np.int64(1), half, 1).sizes["sparsity"] == 1
    assert PhaseCriteria(min_rise=half, max_ratio=np.inf).max_ratio == np.inf
    assert find_phase_change(HISTORY, n_resamples=np.int64(2), seed=np.int32(1)).n_resamples == 2


def test_numbers_of_a_scan_of_a_run(run_path):
    run = open_run(run_path, checkpoints=1)
    for options, named in (({"n_evaluation": 0}, "n_evaluation=0"), ({"n_nulls": -1}, "n_nulls=-1")):
        with pytest.raises(ModelError, match=named):
            scan_run(run, progress=False, **options)


# Weights under other names


def renamed(weights: dict, old: str, new: str) -> dict:
    return {new + name.removeprefix(old): weight for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("other_names", "told"),
    [
        (
            lambda weights: renamed(weights, "", "net."),
            r"and 26 more; not in the model: net\.lm_head.*\. The checkpoint's names begin with 'net\.'",
        ),
        (
            lambda weights: {f"weight{i}": weight for i, weight in enumerate(weights.values())},
            r"missing: lm_head\.weight .*; not in the model: weight0 \(120, 32\), .* and 26 more\. Check that",
        ),
        (
            lambda weights: {name: weights[name] for name in weights if "ln_f.bias" not in name},
            r"missing: transformer\.ln_f\.bias \(32,\)\. Check that the checkpoint is one of this model$",
        ),
    ],
    ids=["a prefix", "others", "one is missing"],
)
def test_weights_under_other_names_than_those_of_the_model_given(other_names, told):
    weights = weights_of(0)
    run = open_run([(0, lambda: other_names(weights))], model=tiny_gpt2())
    with pytest.raises(ModelError, match=told) as raised:
        run.load_model()
    assert "manifest" not in str(raised.value)


def test_weights_without_the_prefix_of_the_model():
    wrapped = torch.nn.ModuleDict({"body": torch.nn.ModuleDict({"head": torch.nn.Linear(2, 3)})})
    expected = shapes(wrapped.state_dict())
    with pytest.raises(ModelError) as raised:
        check_fit(shapes(wrapped["body"].state_dict()), expected)
    assert str(raised.value).endswith(
        "The model's names begin with 'body.', the checkpoint's do not: add it to the names"
    )
    with pytest.raises(ModelError, match=r"names begin with 'body\.head\.'"):
        check_fit(shapes(wrapped["body"]["head"].state_dict()), expected)
    check_fit(expected, expected)
