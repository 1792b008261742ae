"""How the runs of the third tutorial were measured: `python make.py RUNS STORES OUT`.

RUNS holds the folders that `inductionkit train case` and `inductionkit train two-layer` wrote. Histories are stored in
STORES, where an interrupted scan continues. The script writes a history of each run to OUT, without attention patterns
(that of `two-layer` ships with the package), and two tables: heads zeroed at the last checkpoint of each run, and along
`two-layer`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import inductionkit as ik
from inductionkit.runs import Run

N_EXAMPLES = 256
N_ABLATED = 256
KINDS = ("full", "pattern_preserving")


def main(runs: Path, stores: Path, out: Path) -> None:
    last, along = [], []
    for folder in sorted(path.parent for path in runs.glob("*/manifest.json")):
        name = folder.name
        if name == "two-layer":
            history = ik.example_history()
        else:
            store = stores / f"{name}.zarr"
            history = ik.scan_run(ik.open_run(folder), scores="all", n_evaluation=N_EXAMPLES, n_nulls=4, store=store)
            ik.save_history(history.drop_vars(["pattern", "ov_lift"]), out / f"{name}.zarr.zip")
        phase = ik.find_phase_change(history)
        if phase:
            last.append(at_the_end(folder, history, phase).assign(run=name))
            if name == "two-layer":
                along.append(along_the_run(folder, history))
    pd.concat(last).set_index("run").round(4).to_csv(out / "ablations.csv")
    pd.concat(along).round(4).to_csv(out / "ablations_along.csv", index=False)


def induction_pair(history: xr.Dataset) -> list[tuple[int, int]]:
    """The two heads that match prefixes best at the end."""
    return history["prefix_matching"].isel(step=-1).to_series().nlargest(2).index.tolist()


def previous_token_head(history: xr.Dataset) -> tuple[int, int]:
    """The head that attends most to the token before at the end."""
    end = history["previous_token"].isel(step=-1).to_series()
    return end.idxmax()


def at_the_end(folder: Path, history: xr.Dataset, phase: ik.PhaseChange) -> pd.DataFrame:
    """The pair of induction heads zeroed, and every other pair: a row each, at the last checkpoint."""
    run = ik.open_run(folder)
    pair, (layer, head) = induction_pair(history), previous_token_head(history)
    tables = []
    for kind in KINDS:
        found = ik.ablation.compare_with_random_heads(
            run.load_model(),
            held_out(run),
            pair,
            n_draws=1000,  # all there are
            kind=kind,
            among="all layers",
            icl_before=phase.icl_before,
        )
        low, high = found["share_lost_interval"].values
        chosen = {"heads": found.attrs["heads"], "which": "induction", "icl_score": float(found["icl_score"])}
        rows = [{**chosen, "share_lost": float(found["share_lost"]), "low": low, "high": high}]
        for draw, score, share in zip(
            found["draw"].values, found["random_icl_score"].values, found["random_share_lost"].values
        ):
            which = "with previous-token head" if f"{layer}.{head}" in draw.split(" + ") else "other"
            rows.append({"heads": draw, "which": which, "icl_score": score, "share_lost": share})
        baseline = float(found["baseline_icl_score"])
        tables.append(pd.DataFrame(rows).assign(kind=kind, baseline_icl_score=baseline, icl_before=phase.icl_before))
    return pd.concat(tables)


def along_the_run(folder: Path, history: xr.Dataset) -> pd.DataFrame:
    """The pair of induction heads, and the previous-token head, zeroed at checkpoints along the run."""
    run = ik.open_run(folder, checkpoints=12)
    sets = {"induction": induction_pair(history), "previous token": [previous_token_head(history)]}
    tables = []
    for kind in KINDS:
        found = ik.scan_ablations(run, held_out(run), list(sets.values()), kind, n_evaluation=N_ABLATED)
        for which, ablation in zip(sets, found["ablation"].values):
            at = found.sel(ablation=ablation)
            tables.append(
                pd.DataFrame(
                    {
                        "kind": kind,
                        "which": which,
                        "heads": ablation,
                        "step": at["step"],
                        "tokens_seen": at["tokens_seen"],
                        "baseline_icl_score": at["baseline_icl_score"],
                        "icl_score": at["icl_score"],
                        "loss_change": at["loss_change"],
                    }
                )
            )
    return pd.concat(tables)


def held_out(run: Run) -> np.ndarray:
    text = run.held_out()
    return text[:: max(1, len(text) // N_ABLATED)][:N_ABLATED]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
