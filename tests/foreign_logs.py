"""Training logs as other tools write them: each function writes the losses of some steps into a folder.

Beside the training losses, each file has what its tool writes with them, such as losses of evaluations, which are
never the training loss. `steps` increase, and `losses` are numbers in nats, one for each step.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

EVALUATED = 77.0  # a loss of an evaluation; no training loss is as high

Writer = Callable[[Path, Sequence[int], Sequence[float]], Path]


def write_table(
    file: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",", encoding: str = "utf-8"
) -> Path:
    """A table with the columns of all rows, and blank cells where a row has none of a column."""
    with file.open("w", newline="", encoding=encoding) as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(name for row in rows for name in row)), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_lines(file: Path, lines: Sequence[str]) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def wandb_chart(folder: Path, steps: Sequence[int], losses: Sequence[float], runs: Sequence[str] = ("lake-7",)) -> Path:
    """What wandb's chart menu exports: three columns for each line of the chart, named after run and metric."""

    def cells(name: str, value: float) -> dict[str, float]:
        return {name: value, f"{name}__MIN": value - 1, f"{name}__MAX": value + 1}

    rows = []
    for step, loss in zip(steps, losses):
        row: dict[str, float] = {"train/global_step": step}
        for run in runs:
            row |= cells(f"{run} - _step", step // 3) | cells(f"{run} - eval/loss", EVALUATED)
            row |= cells(f"{run} - train/loss", loss)
        rows.append(row)
    return write_table(folder / "wandb_export.csv", rows)


def wandb_chart_of_one_run(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    rows = [
        {"Step": step, "train_loss": loss, "train_loss__MIN": loss, "train_loss__MAX": loss}
        for step, loss in zip(steps, losses)
    ]
    return write_table(folder / "wandb_export.csv", rows)


def wandb_run(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """The history of a Trainer's run, by wandb's API: `_step` counts calls, and a summary ends it."""
    rows = []
    for step, loss in zip(steps, losses):
        common = {"_timestamp": 1.7e9 + len(rows), "_runtime": 3.5 * len(rows), "train/global_step": step}
        rows.append(
            {"_step": len(rows), **common, "train/loss": loss, "train/grad_norm": 0.7, "train/learning_rate": 1e-4}
        )
        rows.append({"_step": len(rows), **common, "eval/loss": EVALUATED, "eval/steps_per_second": 3})
    rows.append({"_step": len(rows), "train/global_step": steps[-1], "train_loss": 5.0, "train_runtime": 60.0})
    return write_table(folder / "history.csv", rows)


def tensorboard_csv(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    rows = [{"Wall time": 1.7e9 + step, "Step": step, "Value": loss} for step, loss in zip(steps, losses)]
    return write_table(folder / "run_1_tag_train_loss.csv", rows)


def tensorboard_json(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    file = folder / "run_1_tag_train_loss.json"
    file.write_text(json.dumps([[1.7e9 + step, step, loss] for step, loss in zip(steps, losses)]))
    return file


def plain_csv(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    return write_table(folder / "loss.csv", [{"iter": step, "loss": loss} for step, loss in zip(steps, losses)])


def spreadsheet_csv(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """As spreadsheets save it where the decimal point is a comma, with a byte-order mark."""
    rows = [{"Step": step, "Loss": str(loss).replace(".", ",")} for step, loss in zip(steps, losses)]
    return write_table(folder / "Losses.csv", rows, ";", "utf-8-sig")


def tab_separated(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    rows = [{"lr": 0.5, "globalStep": step, "trainLoss": loss, "valLoss": 77} for step, loss in zip(steps, losses)]
    return write_table(folder / "log.tsv", rows, "\t")


def pandas_csv(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """A data frame with its index, whose column has no name."""
    import pandas as pd

    pd.DataFrame({"iteration": steps, "train": losses, "val": EVALUATED}).to_csv(folder / "losses.csv")
    return folder / "losses.csv"


def pandas_json(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    import pandas as pd

    frame = pd.DataFrame({"step": steps, "train/loss": losses, "val/loss": EVALUATED})
    frame.to_json(folder / "losses.json", double_precision=15)
    return folder / "losses.json"


def lightning_csv(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """Lightning's own logger, of a module that logs its loss by step and by epoch."""
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(folder)
    for index, (step, loss) in enumerate(zip(steps, losses)):
        logger.log_metrics({"train_loss_step": loss, "epoch": index // 2}, step)
        if index % 2:
            logger.log_metrics({"val_loss": EVALUATED, "epoch": index // 2}, step)
            logger.log_metrics({"train_loss_epoch": 33.0, "epoch": index // 2}, step)
    logger.save()
    return Path(logger.log_dir) / "metrics.csv"


def trainer_state(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """The Trainer's own file, with evaluations and the summary that ends it."""
    from transformers import TrainerState

    history: list[dict[str, float]] = []
    for step, loss in zip(steps, losses):
        history.append({"epoch": step / 64, "grad_norm": 0.7, "learning_rate": 1e-4, "loss": loss, "step": step})
        history.append({"epoch": step / 64, "eval_loss": EVALUATED, "eval_runtime": 2.0, "step": step})
    history.append({"train_loss": 5.0, "train_runtime": 60.0, "total_flos": 1e9, "step": steps[-1]})
    TrainerState(log_history=history, global_step=steps[-1]).save_to_json(str(folder / "trainer_state.json"))
    return folder / "trainer_state.json"


def strings_in_json(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """JSON lines as fairseq prints them: numbers are strings, and `update` counts epochs in fractions."""
    lines = [
        json.dumps({"epoch": 1, "update": step / 1000, "loss": str(loss), "num_updates": str(step), "lr": "0.0005"})
        for step, loss in zip(steps, losses)
    ]
    return write_lines(folder / "train.log", lines)


def json_lines_with_blanks(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    lines = [json.dumps({"step": step, "loss": loss, "eval_loss": None}) for step, loss in zip(steps, losses)]
    return write_lines(folder / "log.jsonl", ["", *(f"{line}\n" for line in lines)])


def split_json_lines(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """One name for the losses of both splits, which another entry tells apart."""
    lines = [
        json.dumps({"mode": mode, "iter": step, "loss": value})
        for step, loss in zip(steps, losses)
        for mode, value in (("train", loss), ("val", EVALUATED))
    ]
    return write_lines(folder / "log.json", lines)


def json_columns(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    file = folder / "history.json"
    file.write_text(json.dumps({"val_loss": [EVALUATED], "steps": list(steps), "losses": [], "loss": list(losses)}))
    return file


def json_list(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    file = folder / "history.json"
    file.write_text(json.dumps([{"step": step, "train/cross_entropy_loss": loss} for step, loss in zip(steps, losses)]))
    return file


def nanogpt_output(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """What nanoGPT prints: estimates at every other step, then the loss of the batch."""
    lines = ["tokens per iteration will be: 491,520", "number of parameters: 123.59M", 'Overriding: note = "']
    for index, (step, loss) in enumerate(zip(steps, losses)):
        if index % 2:
            lines += [f"step {step}: train loss 44.0000, val loss {EVALUATED:.4f}", "saving checkpoint to out"]
        lines.append(f"iter {step}: loss {loss}, time 1203.41ms, mfu 17.31%")
    return write_lines(folder / "out.txt", lines)


def nanogpt_estimates(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    lines = [f"step {step}: train loss {loss}, val loss {EVALUATED:.4f}" for step, loss in zip(steps, losses)]
    return write_lines(folder / "out.txt", lines)


def nanogpt_offspring(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    lines = [
        line
        for step, loss in zip(steps, losses)
        for line in (f"{step} val {EVALUATED:.4f}", f"{step} hella 0.2950", f"{step} train {loss}")
    ]
    return write_lines(folder / "log.txt", lines)


def llm_c_log(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    lines = [
        line
        for step, loss in zip(steps, losses)
        for line in (
            f"s:{step} tel:{EVALUATED:.4f}",
            f"s:{step} eval:0.2950",
            f"s:{step} trl:{loss} lr:0.000600 norm:1.10",
        )
    ]
    return write_lines(folder / "main.log", lines)


def bars_of_text(folder: Path, steps: Sequence[int], losses: Sequence[float]) -> Path:
    """Columns of text between bars, with a time before them and steps of so many."""
    lines = [
        f" [2026-01-01 12:00:00] iteration {step:8,d}/ 9000000 | elapsed time per iteration (ms): 12.3 | "
        f"learning rate: 1.500E-04 | lm loss: {loss} | loss scale: 1.0 | grad norm: 0.700 |"
        for step, loss in zip(steps, losses)
    ]
    return write_lines(folder / "log.out", lines)


WRITERS: dict[str, Writer] = {
    writer.__name__: writer
    for writer in (
        wandb_chart,
        wandb_chart_of_one_run,
        wandb_run,
        tensorboard_csv,
        tensorboard_json,
        plain_csv,
        spreadsheet_csv,
        tab_separated,
        pandas_csv,
        pandas_json,
        lightning_csv,
        trainer_state,
        strings_in_json,
        json_lines_with_blanks,
        split_json_lines,
        json_columns,
        json_list,
        nanogpt_output,
        nanogpt_estimates,
        nanogpt_offspring,
        llm_c_log,
        bars_of_text,
    )
}
