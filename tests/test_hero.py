"""What the explorer says first: the verdict on each kind of history, where it opens, and a page's name and origin."""

import dataclasses
import re

import numpy as np
import pytest
import transformers
import xarray as xr

import inductionkit as ik
from inductionkit import PhaseExplorer, find_phase_change
from inductionkit.lens import Lens
from inductionkit.phase.change import PhaseChange
from inductionkit.phase.criteria import PhaseCriteria
from inductionkit.phase.verdict import verdict
from inductionkit.report import write_report
from inductionkit.testing import synthetic_history
from inductionkit.widgets._phase_hero import induction_targets, opening

WINDOW = (8e6, 2e7)


def header(history: xr.Dataset, **how: object) -> dict[str, object]:
    return PhaseExplorer(history, **how)._header


def test_the_bundled_run_is_told_as_the_issue_tells_it():
    """Window and heads as the project's notes give them, the scores by hand from the history."""
    history = ik.example_history()
    phase = find_phase_change(history)
    seen, icl = history["tokens_seen"].values, history["icl_score"].values
    before, after = icl[seen <= phase.start][-1], icl[seen >= phase.end][0]
    scores = f"from {before:.2f} to {after:.2f} nats".replace("-", "\N{MINUS SIGN}")
    assert phase.verdict == (
        "Between 5.0M and 8.1M tokens this model learned to copy from its context; "
        f"two heads, 1.0 and 1.3, formed, and its in-context-learning score improved {scores}."
    )
    assert header(history, phase=phase)["verdict"] == phase.verdict


@pytest.mark.parametrize("found", [False, None])
def test_what_was_not_found_is_said_and_not_shaded(found):
    phase = dataclasses.replace(find_phase_change(synthetic_history()), found=found, reasons=("too little", "too late"))
    shown = header(synthetic_history(), phase=phase)
    assert shown["window"] is None and shown["hero"]["index"] == 23
    told = {
        False: r"Heads formed between 7\.\dM and 17M tokens, but no phase change was found in this model: ",
        None: r"Whether this model went through a phase change is unknown: ",
    }
    assert re.fullmatch(told[found] + r"too little; too late\.", shown["verdict"])


def test_a_run_in_which_nothing_forms_says_why():
    history = ik.example_history("one-layer")
    shown = header(history, phase=find_phase_change(history))
    highest = float(history["prefix_matching"].max())
    assert shown["verdict"] == (
        f"No phase change was found in this model: no head's prefix matching rises by 0.2 (highest {highest:.3f})."
    )
    assert shown["hero"] == {"index": 51, "first": 0, "last": 51}


def test_a_window_that_was_given_is_no_finding():
    assert header(synthetic_history(), phase=WINDOW)["verdict"].startswith("The window between 8.0M and 20M tokens was")
    assert header(synthetic_history())["verdict"] == "No phase change was looked for in this model."


def test_without_tokens_the_verdict_counts_steps():
    history = synthetic_history().drop_vars("tokens_seen")
    assert re.match(r"Between steps 1,\d{3} and 4,\d{3} this model", find_phase_change(history).verdict)


def test_too_few_checkpoints_are_no_verdict():
    history = synthetic_history(n_steps=1)
    shown = header(history, phase=find_phase_change(history))
    assert shown["verdict"].startswith("Whether this model went through a phase change is unknown: 1 checkpoint")
    assert shown["hero"] == {"index": 0, "first": 0, "last": 0}


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ((), "from its context; its in-context"),
        (((0, 1),), "; one head, 0.1, formed, and"),
        (((5, 1), (5, 5), (6, 9)), "; three heads, 5.1, 5.5 and 6.9, formed, and"),
        (tuple((4, head) for head in range(9)), "; nine heads formed, and"),
        (tuple((4, head) for head in range(31)), "; 31 heads formed, and"),
    ],
)
def test_heads_are_named_where_they_are_few(heads, said):
    phase = find_phase_change(synthetic_history())
    assert said in dataclasses.replace(phase, heads=heads).verdict


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((8.01e6, 8.04e6), "between 8.01M and 8.04M tokens"),
        ((1e8, 3e8), "between 100M and 300M tokens"),
        ((9.96e8, 2.5e9), "between 1.0B and 2.5B tokens"),
        ((0, 950), "between 0.0 and 950 tokens"),
        ((9.4e4, 1.06e5), "between 94k and 110k tokens"),
    ],
)
def test_a_window_has_as_many_digits_as_tell_its_ends_apart(window, said):
    assert said in verdict(PhaseChange(True, (), PhaseCriteria(), "tokens", *window))


def brute_target(tokens: list[str], query: int) -> int | None:
    """The definition, word by word."""
    best = None
    for copy in range(query - 1):
        if tokens[copy] != tokens[query]:
            continue
        same = 0
        while same <= copy and tokens[copy - same] == tokens[query - same]:
            same += 1
        if best is None or same >= best[0]:
            best = same, copy + 1
    return best and best[1]


@pytest.mark.parametrize("n_kinds", [1, 2, 5, 1000])
def test_induction_points_after_the_copy_with_most_in_common(n_kinds):
    tokens = [f"w{kind}" for kind in np.random.default_rng(n_kinds).integers(n_kinds, size=60)]
    assert induction_targets(tokens) == [brute_target(tokens, query) for query in range(60)]
    assert induction_targets(["", "a", "", "b", ""]) == [None] * 5, "unknown tokens are no copies of each other"


def test_opens_in_the_middle_of_the_window_at_a_token_that_is_copied():
    history = ik.example_history()
    phase = find_phase_change(history)
    explorer = PhaseExplorer(history, phase=phase)
    seen = history["tokens_seen"].values[history["step"].values.tolist().index(explorer.step)]
    assert phase.start < seen < phase.end
    text = history["text"].values.tolist().index(explorer.text)
    query = explorer._header["queries"][text]
    tokens = history["token"].values[text].tolist()
    assert explorer.text == "held-out text" and query >= len(tokens) / 2
    target = brute_target(tokens, query)
    assert tokens[target] == tokens[query + 1] == "args"
    probability = np.exp(-history["text_loss"].values[:, text, query + 1])
    hero = explorer._header["hero"]
    assert probability[hero["first"]] < 0.1 < 0.4 < probability[hero["index"]] < probability[hero["last"]]


def test_a_text_without_repeats_is_read_from_its_end():
    history = synthetic_history()
    tokens = np.array([[f"w{index}" for index in range(24)]] * 2, dtype=object)
    opens = opening(history.assign(token=(("text", "query"), tokens)), WINDOW)
    assert opens.queries == (23, 23) and opens.targets == ((None,) * 24,) * 2


@pytest.mark.parametrize(
    "missing", [["pattern"], ["text_loss"], ["token"], ["pattern", "text_loss", "token"], ["prefix_matching"]]
)
def test_opens_whatever_is_missing(missing, tmp_path):
    explorer = PhaseExplorer(synthetic_history().drop_vars(missing), phase=WINDOW)
    assert explorer.save(tmp_path / "page.html").exists()


def test_views_that_were_chosen_have_no_hero():
    assert header(synthetic_history(), views=["loss"])["hero"] is None


def test_a_saved_page_says_what_it_is_and_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    history, control = synthetic_history(), synthetic_history(window=None)
    history.attrs |= {"model": "<b>run</b>\u202e", "transformer_lens": "4.3.0"}
    page = PhaseExplorer(history, phase=WINDOW, control=control).save(tmp_path / "page.html").read_text()
    steps = history["step"].values
    assert re.search(r'<footer id="inductionkit-origin">(.*?)</footer>', page)[1] == (
        f"&lt;b&gt;run&lt;/b&gt;\ufffd · 24 checkpoints, steps {steps[0]:,} to {steps[-1]:,} · control: synthetic · "
        f"measured with TransformerLens 4.3.0 · inductionkit {ik.__version__} · 1970-01-02"
    )
    assert '<meta name="description" content="The window between 8.0M and 20M tokens was marked by hand' in page
    assert '<meta property="og:title" content="&lt;b&gt;run' in page


def test_models_go_by_their_own_names(tmp_path):
    """A run's name and step, the folder's name, and the architecture's for a model that has none."""
    assert Lens(ik.open_run("bundled").load_model(732)).label == "two-layer at step 732"
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=11)
    model = transformers.GPT2LMHeadModel(config).eval()
    assert Lens(model).label == "GPT2LMHeadModel"
    model.save_pretrained(tmp_path / "my-model")
    assert Lens(tmp_path / "my-model").label == "my-model"
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "my-model")
    assert Lens(loaded).label == "my-model"
    loaded.config._name_or_path = "someone/their-model"
    assert Lens(loaded).label == "someone/their-model"


def test_figure_and_report_say_the_same_sentence(tmp_path):
    history = synthetic_history()
    phase = find_phase_change(history)
    title = PhaseExplorer(history, phase=phase).to_figure().get_suptitle()
    assert " ".join(title.split()) == f"synthetic: {phase.verdict}"
    assert PhaseExplorer(history, phase=phase, views=["loss"]).to_figure().get_suptitle() == ""
    assert f"<p>{phase.verdict}</p>" in write_report({"run": history}, tmp_path / "report.html").read_text()
