"""The stand-in device itself: it refuses what a GPU refuses, and counts what makes a GPU wait."""

from __future__ import annotations

import elsewhere
import pytest
import torch
from checkpoint_folders import TOKENS
from conftest import random_model

from inductionkit import scan_heads
from inductionkit.system.devices import moved


@pytest.fixture(autouse=True, scope="module")
def registered():
    """Whoever only imports this module, as a search for doctests does, keeps a process without the device."""
    elsewhere.register()


def test_a_scan_waits_as_often_for_a_deep_model_as_for_a_shallow_one():
    counts = []
    for n_layers in (2, 5):
        model = moved(random_model(n_layers=n_layers), elsewhere.NAME)
        before = elsewhere.waits
        scan_heads(model, held_out=TOKENS % 60, progress=False)
        counts.append(elsewhere.waits - before)
    assert counts[0] == counts[1] > 0


def test_what_forgets_the_device_fails():
    there, here = torch.ones(2, 3).to(elsewhere.NAME), torch.ones(2, 3)
    assert there.device.type == elsewhere.NAME and torch.zeros(2, device=there.device).device == there.device
    for mistake in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there[0].long()]):
        with pytest.raises(RuntimeError, match="two devices"):
            mistake()
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()
    assert there.cpu().numpy().sum() == 6
