"""The rule on series that others published (see `published.json` for their sources)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from inductionkit import find_phase_change
from inductionkit.history import VARIABLES, labelled
from inductionkit.testing import HEAD_ROWS

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
PYTHIA_BATCH = 1024 * 2048  # tokens in a step


def history_of(steps, tokens_seen, heads: dict[str, list[float]], loss=None, icl_score=None) -> xr.Dataset:
    """A history of what was published; NaN for heads and checkpoints that were not."""
    places = {name: tuple(map(int, name.split("."))) for name in heads}
    shape = np.max(list(places.values()), axis=0) + 1
    prefix_matching = np.full((len(tokens_seen), *shape), np.nan)
    for name, (layer, head) in places.items():
        prefix_matching[:, layer, head] = heads[name]
    missing = np.full(len(tokens_seen), np.nan)
    values = {
        "prefix_matching": prefix_matching,
        "loss": missing if loss is None else loss,
        "icl_score": missing if icl_score is None else icl_score,
    }
    coords = {"step": steps, "tokens_seen": ("step", tokens_seen)}
    heads_of = {"layer": np.arange(shape[0]), "head": np.arange(shape[1])}
    return labelled(values, VARIABLES | HEAD_ROWS, {**coords, **heads_of})


def attention_only(name: str) -> xr.Dataset:
    model = PUBLISHED["models"][name]
    tokens = model["prefix_matching"]["tokens_seen"]
    icl = dict(zip(model["icl_score"]["tokens_seen"], model["icl_score"]["nats"]))
    assert set(icl) <= set(tokens) and model["loss"]["tokens_seen"] == tokens
    scores = np.array([icl.get(at, np.nan) for at in tokens])  # published at 5 of the 11 checkpoints
    return history_of(np.arange(len(tokens)), tokens, model["prefix_matching"]["heads"], model["loss"]["nats"], scores)


def test_two_layers_change_phase_between_308_and_748_million_tokens():
    phase = find_phase_change(attention_only("attn-only-2l"))
    assert phase
    assert 308e6 <= phase.start < phase.end <= 748e6
    assert phase.heads == ((1, 6),)
    assert all(phase.markers[name].window for name in ("bump", "icl_score", "prefix_matching"))
    assert not phase.markers["token_loss_pivot"].measured
    assert phase.start_interval is None and "no losses of single examples" in repr(phase)


def test_one_layer_does_not():
    phase = find_phase_change(attention_only("attn-only-1l"))
    assert not phase and phase.start is None
    assert "no head's prefix matching rises by 0.2" in repr(phase)
    assert phase.co_occurrence.p_value == 1


def test_pythia_changes_phase_between_steps_512_and_1000_judged_by_prefix_matching_alone():
    published = PUBLISHED["pythia-70m"]
    steps = np.array(published["step"])
    phase = find_phase_change(history_of(steps, steps * PYTHIA_BATCH, published["prefix_matching"]))
    assert phase and 512 <= phase.start_step < phase.end_step <= 1000
    assert phase.heads == ((3, 6),)
    assert "icl_score and bump not measured: judged without" in repr(phase)
    assert np.isnan(phase.co_occurrence.p_value) and "fewer than two markers" in phase.co_occurrence.reason
    [(again_start, _)] = phase.other_windows  # the head fades until step 33,000 and comes back
    assert again_start == pytest.approx(33000 * PYTHIA_BATCH, rel=0.3)
