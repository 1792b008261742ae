"""Fixtures for tests of runs: a folder of checkpoints, and the stand-in hub (name this module in `pytest_plugins`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_folders import save_checkpoint
from stand_in_hub import StandInHub


@pytest.fixture(scope="session")
def steps(tmp_path_factory) -> Path:
    """A folder of three checkpoints of GPT-NeoX, `step0`, `step500` and `step1000`."""
    folder = tmp_path_factory.mktemp("neox")
    for step in (0, 500, 1000):
        save_checkpoint(folder / f"step{step}", seed=step)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[StandInHub]:
    """The stand-in hub, with the client in this process talking to it and caching in a folder of the test's."""
    from huggingface_hub import constants

    with StandInHub().serving() as serving:
        monkeypatch.setattr(constants, "ENDPOINT", serving.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", serving.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield serving
