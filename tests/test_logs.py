"""Training logs of other tools: steps and losses come out as they were written."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from foreign_logs import EVALUATED, WRITERS, json_list, nanogpt_output, plain_csv, wandb_chart, write_lines, write_table
from hypothesis import given, settings
from hypothesis import strategies as st
from listed_runs import held_out, listed_run, tiny_gpt2

from inductionkit import PromptSettings, open_run, scan_run
from inductionkit.errors import RunError
from inductionkit.runs.logs import LOG_NAMES, first_log, read_log

STEPS, LOSSES = (0, 10, 20, 1040, 2000), (10.9, 8.25, 4.0, 3.125, 2.75)

LOGGED = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 200_000).map(lambda number: number / 10_000)),
    min_size=1,
    max_size=12,
    unique_by=lambda pair: pair[0],
).map(sorted)


def read(file: Path, tokens_per_step: int | None = None) -> list[dict]:
    return read_log(file, file.parent, tokens_per_step)


def losses(records: Sequence[dict]) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in records if "loss" in record]


def table(folder: Path, *rows: dict) -> Path:
    return write_table(folder / "log.csv", rows)


def json_lines(folder: Path, *rows: dict) -> Path:
    return write_lines(folder / "log.jsonl", [json.dumps(row) for row in rows])


@pytest.mark.parametrize("name", WRITERS)
@given(LOGGED)
@settings(max_examples=30, deadline=None)
def test_logs_of_other_tools(name, logged):
    with tempfile.TemporaryDirectory() as folder:
        assert losses(read(WRITERS[name](Path(folder), *zip(*logged)))) == logged


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"lightning_csv"}))  # which begins another file
def test_a_resumed_training_replaces_what_it_repeats(name, tmp_path):
    steps, logged = (*STEPS, 1040, 2000, 3000, 1999, 2500), (*LOSSES, 3.0, 2.5, 2.0, 1.75, 1.5)
    kept = [(0, 10.9), (10, 8.25), (20, 4.0), (1040, 3.0), (1999, 1.75), (2500, 1.5)]
    assert losses(read(WRITERS[name](tmp_path, steps, logged))) == kept


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=20))
def test_the_later_of_two_records_wins(rows):
    """Against the rule as it is said: a loss whose step goes back removes all earlier records from its step on."""
    kept: list[tuple[int, int]] = []
    last = -1
    for index, (step, has_loss) in enumerate(rows):
        if has_loss and step < last:
            kept = [(at, known) for at, known in kept if at < step]
        last = step if has_loss else last
        kept.append((step, index))
    written = [
        {"step": step, "index": index} | ({"loss": 2.0} if has else {}) for index, (step, has) in enumerate(rows)
    ]
    trained = [step for step, has_loss in rows if has_loss]
    if not trained or trained == sorted(trained, reverse=True):
        return  # nothing to read, or the latest first
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = read(json_lines(Path(folder), *written))
    assert [(record["step"], record["index"]) for record in records] == sorted(kept, key=lambda pair: pair[0])


def test_a_log_that_starts_over_is_told(tmp_path):
    file = plain_csv(tmp_path, (5, 10, 15, 5, 10, 0, 5), (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0))
    with pytest.warns(RuntimeWarning, match="starts again from its first step .2×."):
        assert losses(read(file)) == [(0, 4.0), (5, 3.0)]


def test_the_latest_first(tmp_path):
    assert losses(read(plain_csv(tmp_path, STEPS[::-1], LOSSES[::-1]))) == list(zip(STEPS, LOSSES))


def test_several_records_of_a_step_are_kept(tmp_path):
    """As this project's own log has them."""
    own = [
        {"step": 0, "tokens_seen": 0, "held_out_loss": 8.0},
        {"step": 30, "tokens_seen": 1920, "loss": 7.5},
        {"step": 30, "tokens_seen": 1920, "held_out_loss": 7.4},
        {"step": 30, "tokens_seen": 1920, "loss": 7.25},
    ]
    assert read(json_lines(tmp_path, *own)) == own


@pytest.mark.parametrize("prefix", ["", "train/", "train_", "Training ", "lake-7 - train/", "metrics/train_", "TRAIN."])
@pytest.mark.parametrize(
    "name", ["loss", "Loss", "LOSS", "lm loss", "loss_step", "crossEntropyLoss", "nll", "avg_loss"]
)
def test_names_of_the_training_loss(prefix, name, tmp_path):
    assert losses(read(table(tmp_path, {"Step": 3, f"{prefix}{name}": 2.5}))) == [(3, 2.5)]


NO_TRAINING_LOSSES = """eval_loss val_loss valid/loss test_loss held_out_loss dev.loss loss_val evalLoss lr
    learning_rate grad_norm loss_scale time best_loss loss__MIN loss__MAX perplexity aux_loss z_loss accuracy value
    entropy tokens epoch train/throughput trainer""".split()


@pytest.mark.parametrize("name", NO_TRAINING_LOSSES)
def test_what_is_no_training_loss(name, tmp_path):
    beside = {"global_step": 3, name: 2.5, "more": 1}
    for file in (table(tmp_path, beside), json_lines(tmp_path, beside), json_list(tmp_path, [], [])):
        with pytest.raises(RunError, match=r"has no training loss.*train_loss"):
            read(file)
    with pytest.raises(RunError, match=f"'global_step', '{name}', 'more'"):
        read(table(tmp_path, beside))
    assert losses(read(table(tmp_path, beside | {"loss": 1.5}))) == [(3, 1.5)]


@pytest.mark.parametrize(
    ("preferred", "other"),
    [
        ("train_loss_step", "train_loss_epoch"),
        ("loss", "avg_loss"),
        ("loss", "total_loss"),
        ("train/loss", "loss"),
        ("loss", "train"),
    ],
)
def test_which_of_two_training_losses(preferred, other, tmp_path):
    for names in ((preferred, other), (other, preferred)):
        rows = [{"step": step} | {name: {preferred: 2.5, other: 3.5}[name] for name in names} for step in (1, 2)]
        assert losses(read(table(tmp_path, *rows))) == [(1, 2.5), (2, 2.5)]


def test_the_loss_with_more_numbers(tmp_path):
    rows = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}, {"step": 3, "train_loss": 9.0}]
    assert losses(read(table(tmp_path, *rows))) == [(1, 2.5), (2, 2.25)]


@pytest.mark.parametrize("name", ["json_list", "json_lines_with_blanks", "plain_csv", "llm_c_log"])
def test_a_byte_order_mark(name, tmp_path):
    file = WRITERS[name](tmp_path, STEPS, LOSSES)
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert losses(read(file)) == list(zip(STEPS, LOSSES))


def test_losses_of_several_runs(tmp_path):
    file = wandb_chart(tmp_path, STEPS, LOSSES, ("lake-7", "hill-8"))
    with pytest.raises(RunError, match=r"several runs, 'lake-7 - train/loss', 'hill-8 - train/loss'; leave one"):
        read(file)
    write_lines(file, ["step,loss,loss", "1,2.5,3.5"])
    with pytest.raises(RunError, match="several columns 'loss'"):
        read(file)


@pytest.mark.parametrize(
    ("step", "other"),
    [
        ({"global_step": 30}, {"step": 3}),
        ({"train/global_step": 30}, {"_step": 3, "step": 2}),
        ({"iter": 30}, {"_step": 3}),
        ({"num_updates": "30"}, {"update": 0.5}),
        ({"Step": 30.0}, {"global_step": None}),
        ({"iteration": 30}, {"steps_per_second": 3, "max_steps": 9, "eval_step": 2, "time_step": 1, "epoch": 4}),
    ],
)
def test_names_of_the_step(step, other, tmp_path):
    for row in (step | other, other | step):
        assert losses(read(json_lines(tmp_path, row | {"loss": 2.5}))) == [(30, 2.5)]
    with pytest.raises(RunError, match=r"no step beside its losses; seen the columns .*'loss'.*global_step"):
        read(json_lines(tmp_path, {"epoch": 1, "steps_per_second": 2, "update": 0.5, "loss": 2.5}))


def test_steps_that_are_counted_anew_in_each_epoch(tmp_path):
    rows = [{"epoch": epoch, "step": step, "loss": 2.5} for epoch in (0, 1) for step in (0, 1, 2)]
    with pytest.raises(RunError, match="counts 'step' anew in each epoch; add a column global_step"):
        read(table(tmp_path, *rows))
    rows = [row | {"global_step": 3 * row["epoch"] + row["step"]} for row in rows]
    assert [step for step, _ in losses(read(table(tmp_path, *rows)))] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "name",
    ["tokens_seen", "num_input_tokens_seen", "train/num_input_tokens_seen", "Tokens", "total_tokens", "n_tokens_seen"],
)
def test_tokens_seen(name, tmp_path):
    rows = [{"step": step, "loss": 2.5, name: seen} for step, seen in ((0, 0), (1, 64), (1, 64), (2, 2**40))]
    for file in (table(tmp_path, *rows), json_lines(tmp_path, *rows)):
        assert [record["tokens_seen"] for record in read(file, tokens_per_step=7)] == [0, 64, 64, 2**40]


@pytest.mark.parametrize(
    "beside",
    [
        {"tokens": 64},  # of each batch
        {"num_input_tokens_seen": 0},  # of a Trainer that does not count
        {"tokens_per_second": 3},
        {"tokens_seen": 1.5},
        {},
    ],
)
def test_tokens_that_are_not_known(beside, tmp_path):
    file = table(tmp_path, *({"step": step, "loss": 2.5} | beside for step in (1, 2)))
    assert [record["tokens_seen"] for record in read(file)] == [None, None]
    assert [record["tokens_seen"] for record in read(file, tokens_per_step=32)] == [32, 64]
    uncounted = table(tmp_path, {"step": 2, "loss": 2.5, "num_input_tokens_seen": 0})
    assert read(uncounted)[0]["tokens_seen"] is None


def test_what_is_not_a_number_costs_its_own_row_alone(tmp_path):
    cells = {1: "2.5", 2: "nan", 3: "-inf", 4: "diverged", 5: "", 6: "1.25"}
    rows = [{"step": step, "loss": loss, "note": "a, b"} for step, loss in cells.items()]
    rows[5:5] = [{"step": "step", "loss": "loss"}, {"step": "2.5", "loss": "3"}, {"step": "nan", "loss": "3"}]
    for file in (table(tmp_path, *rows), json_lines(tmp_path, *rows)):
        read_back = dict(losses(read(file)))
        assert math.isnan(read_back.pop(2))
        assert read_back == {1: 2.5, 3: -math.inf, 6: 1.25}


def test_other_entries_are_kept(tmp_path):
    row = {
        "global_step": 3,
        "step": 1,
        "loss": 2.5,
        "tokens": 64,
        "lr": 0.5,
        "eval_loss": 3.5,
        "note": "warm",
        "no": None,
    }
    kept = {"step": 3, "loss": 2.5, "tokens_seen": 64, "lr": 0.5, "eval_loss": 3.5, "note": "warm"}
    for file in (table(tmp_path, row), json_lines(tmp_path, row)):
        assert read(file) == [kept]


@pytest.mark.parametrize(
    "damage", ['{"step": 2, "lo', "null", "[1]", "\x00\x00", "[" * 10**5, '{"step": ' + "9" * 5000]
)
def test_damaged_lines(damage, tmp_path):
    first, last = '{"step": 1, "loss": 2.5}', '{"step": 3, "loss": 1.5}'
    file = write_lines(tmp_path / "log.jsonl", [first, damage, "", damage, last])
    with pytest.warns(RuntimeWarning, match="were skipped: 2"):
        assert losses(read(file)) == [(1, 2.5), (3, 1.5)]
    write_lines(file, [first, last, damage])
    assert losses(read(file)) == [(1, 2.5), (3, 1.5)]
    write_lines(file, [damage, first, last])
    with pytest.warns(RuntimeWarning, match="were skipped: 1"):
        assert losses(read(file)) == [(1, 2.5), (3, 1.5)]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("log.txt", "", "seen the columns none"),
        ("log.csv", "step,loss\n", "'step', 'loss'"),
        ("log.csv", "0,10.9\n10,8.1\n", "'0', '10.9'"),
        ("log.csv", "step,loss\n1," + "9" * 2**18, "field larger"),
        ("log.csv", "step,loss\n1,nan\n", "no training loss"),
        ("log.csv", "step,loss\n-1,2\n-2,2\n", "no step"),
        ("log.csv", "step,loss\n0.5,2\n1.5,2\n", "no step"),
        ("log.csv", f"step,loss\n{2**63},2\n", "no step"),
        ("log.json", '{"log_history": [1]}', "no training loss"),
        ("log.json", '{"log_history": 3}', "no training loss"),
        ("log.json", '{"log_history": [{"st', "not readable JSON"),
        ("log.json", "[" * 10**5, "not readable JSON"),
        ("out.txt", "the loss of step by step training is low\n", "no training loss"),
        ("out.txt", "eval step 100: loss 3.2\nstep 5 val loss 3.1\n", "'val loss'"),
        ("out.txt", "one\n" + "x" * 10**6 + " " * 10**6 + "1" * 10**6, "no training loss"),
    ],
)
def test_logs_without_losses(name, text, why, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=why) as refusal:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(refusal.value) and len(str(refusal.value)) < 1000
    if name not in LOG_NAMES:
        assert first_log([tmp_path]) == []
        return
    with pytest.warns(RuntimeWarning, match=why) as told:
        assert first_log([tmp_path]) == []
    assert len(told) == 1 and "\n" not in str(told[0].message)


def test_many_columns_are_told_in_short(tmp_path):
    file = table(tmp_path, {"step": 1} | {f"layer {index}/norm": 2.0 for index in range(500)})
    with pytest.raises(RunError, match="'layer 18/norm' and 481 more"):
        read(file)


@pytest.mark.parametrize("name", LOG_NAMES)
def test_the_first_log_with_losses(name, tmp_path):
    for folder in ("empty", "damaged", "without", "with"):
        (tmp_path / folder).mkdir()
    for other in LOG_NAMES:
        (tmp_path / "damaged" / other).write_text('{"log_history": [{"step": 1')
        (tmp_path / "without" / other).write_text(json.dumps({"log_history": [{"step": 1, "eval_loss": EVALUATED}]}))
    json_list(tmp_path / "with", STEPS, LOSSES).rename(tmp_path / "with" / name)
    folders = [tmp_path / folder for folder in ("gone", "empty", "damaged", "without", "with")]
    assert losses(first_log(folders)) == list(zip(STEPS, LOSSES))
    write_lines(tmp_path / "with" / name, ['{"step": 1, "loss": 2.5}', "damaged", '{"step": 2, "loss": 1.5}'])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses(first_log(folders)) == [(1, 2.5), (2, 1.5)]


def test_a_log_of_a_scan(tmp_path):
    """Also with a loss that diverged."""
    run = listed_run(seeds=(0, 5), steps=(0, 5))
    log = nanogpt_output(tmp_path, (0, 2, 4), (5.5, math.nan, 4.5))
    pairs = [(checkpoint.step, checkpoint.read) for checkpoint in run.checkpoints]
    logged = open_run(pairs, model=tiny_gpt2(), log=log, tokens_per_step=8)
    history = scan_run(logged, held_out(), prompts=PromptSettings(n_distinct=12), n_nulls=0, progress=False)
    assert history["log_step"].values.tolist() == [0, 2, 4]
    assert history["log_tokens_seen"].values.tolist() == [0, 16, 32]
    np.testing.assert_array_equal(history["training_loss"], [5.5, np.nan, 4.5])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_marks_of_encodings(encoding, tmp_path):
    text = "step,loss\n1,3.5\n2,3.25\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""  # which Python writes for the others
    (tmp_path / "log.csv").write_bytes((mark + text).encode(encoding))
    records = read_log(tmp_path / "log.csv", tmp_path)
    assert [(record["step"], record["loss"]) for record in records] == [(1, 3.5), (2, 3.25)]


def test_a_count_of_updates_comes_before_fractions_of_epochs_that_are_whole(tmp_path):
    written = WRITERS["strings_in_json"](tmp_path, [25_000, 50_000], [2.5, 2.0])
    assert losses(read(written)) == [(25_000, 2.5), (50_000, 2.0)]


TAGGED = {
    "run-.-tag-eval_loss": None,
    "run-.-tag-train_loss": 2.5,
    "run-lake-7-tag-train_learning_rate": None,
    "run-lake-7-tag-loss": 2.5,
    "run-.-tag-Loss_train (1)": 2.5,
    "run-.-tag-Loss%2Fval": None,
    "run-train-tag-epoch_loss": 2.5,
    "run-logs_validation-tag-epoch_loss": None,
    "run-test_3-tag-loss": 2.5,
    "run_1_tag_train_loss": 2.5,
    "run_1_tag_accuracy": None,
    "scalars": 2.5,  # without a tag, the one scalar is taken for the loss
}


@pytest.mark.parametrize("name", TAGGED)
def test_the_tag_in_the_name_of_an_export_of_tensorboard(name, tmp_path):
    for writer in ("tensorboard_csv", "tensorboard_json"):
        file = WRITERS[writer](tmp_path, [3], [2.5])
        file = file.rename(tmp_path / f"{name}{file.suffix}")
        if TAGGED[name] is None:
            with pytest.raises(RunError, match=r"has no training loss; seen .*'Value' of the tag '[^']+'"):
                read(file)
        else:
            assert losses(read(file)) == [(3, TAGGED[name])]


@pytest.mark.parametrize("finite", [0, 1, 5])
def test_losses_of_iterations_come_before_estimates_at_the_same_steps(finite, tmp_path):
    """Also where the training diverged: the estimates are as many, and may stay finite for longer."""
    lines = []
    for step in range(6):
        loss = 3.5 - step / 8 if step <= finite else math.nan
        lines += [f"step {step}: train loss 44.0, val loss {EVALUATED}", f"iter {step}: loss {loss:.4f}, time 9ms"]
    found = losses(read(write_lines(tmp_path / "log.txt", lines)))
    np.testing.assert_array_equal(
        [loss for _, loss in found], [3.5 - s / 8 if s <= finite else np.nan for s in range(6)]
    )


def test_a_loss_that_diverged_early_still_has_the_most_numbers(tmp_path):
    rows = [{"step": step, "loss": 2.5 if step < 2 else math.nan} for step in range(9)]
    rows += [{"step": step, "train_loss": 9.0} for step in (2, 4, 6)]
    assert [step for step, loss in losses(read(json_lines(tmp_path, *rows))) if math.isnan(loss)] == [*range(2, 9)]
