"""Where a score lies for a head that prefers no token: measured on one, and shown wherever scores are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from inductionkit.display.head_scores import HeadScores
from inductionkit.scores.no_preference import no_preference
from inductionkit.scores.on_prompts import copying
from inductionkit.testing import synthetic_history
from inductionkit.widgets import HeadScan, PhaseExplorer


@pytest.mark.parametrize("n_distinct", [1, 2, 25, 60])
def test_it_is_the_copying_of_a_head_that_raises_all_tokens_alike(n_distinct):
    pattern = torch.rand(3, 2, n_distinct, n_distinct).tril()
    lift = torch.full((3, 2, n_distinct, n_distinct), 0.7)
    measured = copying(pattern, lift)
    assert no_preference("copying", {"prompts_n_distinct": n_distinct}) == pytest.approx(measured[0].item(), abs=1e-6)
    assert measured[0].item() == pytest.approx(measured[1].item(), abs=1e-6)


def test_on_25_tokens_it_is_minus_85_hundredths():
    assert no_preference("copying", {"prompts_n_distinct": np.int64(25)}) == pytest.approx(-22 / 26)


@pytest.mark.parametrize("value", [None, "25", 25.0, True, 0, -3, [25]])
def test_what_is_no_number_of_tokens_says_nothing(value):
    assert no_preference("copying", {"prompts_n_distinct": value}) is None
    assert no_preference("copying", {}) is None


def test_other_scores_have_theirs_at_zero():
    assert no_preference("logit_lift", {"prompts_n_distinct": 25}) is None


def scores(**attrs) -> HeadScores:
    values = {"prefix_matching": [[0.1, 0.9]], "copying": [[-0.8, -0.17]]}
    return HeadScores(
        {name: (("layer", "head"), rows) for name, rows in values.items()}, {"layer": [0], "head": [0, 1]}, attrs
    )


def test_tables_and_maps_of_scores_show_it():
    header, matching, copies = repr(scores(prompts_n_distinct=25)).splitlines()[1:]
    assert header.endswith("no preference") and copies.endswith(" -0.85") and not matching.endswith("-0.85")
    page = scores(prompts_n_distinct=25)._repr_html_()
    # On a scale from -1 to 1, 7.7 % of its length from the left.
    assert page.count('<u style="left:7.7%"></u>') == 1 and "no preference: copying -0.85" in page
    without = scores()
    assert "no preference" not in repr(without) + without._repr_html_() and "<u " not in without._repr_html_()


def test_widgets_carry_it():
    told = {score["name"]: score["noPreference"] for score in HeadScan(scores(prompts_n_distinct=25))._header["scores"]}
    assert told == {"prefix_matching": None, "copying": pytest.approx(-22 / 26)}
    history = synthetic_history().assign_attrs(prompts_n_distinct=25)
    told = {score["name"]: score["noPreference"] for score in PhaseExplorer(history)._header["scores"]}
    assert told.pop("copying") == pytest.approx(-22 / 26) and set(told.values()) == {None}
    without: xr.Dataset = history.copy()
    del without.attrs["prompts_n_distinct"]
    assert {score["noPreference"] for score in PhaseExplorer(without)._header["scores"]} == {None}
