"""A hub that drops connections, is busy or is gone: requests are repeated for the stated time, and not when refused."""

from __future__ import annotations

import socket
import time
import warnings
from email.utils import formatdate
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from architectures import D_VOCAB
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from stand_in_hub import BROKEN, BUSY, StandInHub
from test_run_hub import LEGACY, legacy_hub  # noqa: F401  a fixture

from inductionkit import PromptSettings, scan_run
from inductionkit.errors import RunError
from inductionkit.runs import open_run, retrying
from inductionkit.runs.retrying import HubError, NoConnectionError, ask

pytest_plugins = ("run_fixtures",)
HELD_OUT = np.random.default_rng(0).integers(4, D_VOCAB, (4, 40))
PROMPTS = PromptSettings(n_sequences=2, n_distinct=8, n_repeats=2)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits, none of which lasts; the client gives up on silent hubs soon."""
    asked, sleep = [], time.sleep

    def brief(seconds: float) -> None:
        asked.append(seconds)
        sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", brief)
    monkeypatch.setattr(retrying._Outage, "given_up", float("-inf"))
    monkeypatch.setattr(retrying, "QUIET_S", float("inf"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    return asked


class Clock:
    """Seconds that pass in waits alone."""

    def __init__(self, monkeypatch):
        self.now, self.waits = 1e6, []
        monkeypatch.setattr(retrying, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        monkeypatch.setattr(retrying._Outage, "given_up", float("-inf"))

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def both_hubs(legacy_hub, steps) -> StandInHub:  # noqa: F811
    """A run of revisions, the last with a Trainer's log, and one of TransformerLens' own."""
    for step in (0, 1000):
        legacy_hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    state = b'{"log_history": [{"step": 1000, "loss": 4.0}]}'
    legacy_hub.repositories["org/tiny"]["step0"] |= {"trainer_state.json": state}
    legacy_hub.page_size = 2
    return legacy_hub


def everything() -> tuple[xr.Dataset, list, str, str, dict[str, torch.Tensor]]:
    run = open_run("hf:org/tiny", keep="none")
    history = scan_run(run, HELD_OUT, prompts=PROMPTS, n_evaluation=2, progress=False)
    legacy = open_run("tl:attn-only-2l", keep="none")
    return history, run.log(), run.tokenizer_json(), legacy.tokenizer_json(), legacy.load_model().state_dict()


@pytest.mark.parametrize("fault", [*BROKEN, "429", "503"])
def test_each_request_that_fails_once_costs_nothing(fault, both_hubs, steps, waits, monkeypatch, tmp_path):
    expected = everything()
    assert not waits and expected[1][0]["loss"] == 4.0
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another cache"))
    failed: set[str] = set()

    def once(request: str) -> str | None:
        if request in failed or (fault == "cut short" and request.startswith("HEAD")):
            return None
        failed.add(request)
        return fault

    both_hubs.fault = once
    found = everything()
    xr.testing.assert_identical(found[0], expected[0])
    assert found[1:4] == expected[1:4]
    assert all(torch.equal(found[4][name], weight) for name, weight in expected[4].items())
    commit = both_hubs.commit("org/tiny", "step1000")
    weights, head = f"/org/tiny/resolve/{commit}/model.safetensors", fault != "cut short"
    lists = (f"{address}{page}" for address in (f"org/tiny/tree/{commit}",) for page in ("", "?cursor=2"))
    assert {f"GET {weights}", "GET /api/models/org/tiny/refs", *(f"GET /api/models/{each}" for each in lists)} <= failed
    assert f"GET /api/models/{LEGACY}/refs" in failed and (not head or f"HEAD {weights}" in failed)
    assert any(request.startswith("GET /org/tokenizer/resolve/") for request in failed)
    assert len(waits) >= len(failed) / 2  # the client repeats some without a wait


@pytest.mark.parametrize(("n_cuts", "chunk"), [(4, 1000), (10, 10**7)])
def test_a_file_that_comes_in_pieces_is_whole(n_cuts, chunk, hub, steps, waits, monkeypatch):
    """The client goes on where it was if a chunk came; if none did, it gives up after six attempts."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    hub.add("org/tiny", "step500", steps / "step500")
    cut: list[str] = []

    def fault(request: str) -> str | None:
        if request.startswith("GET") and "safetensors" in request and len(cut) < n_cuts:
            cut.append(request)
            return "cut short"
        return None

    hub.fault = fault
    weights = open_run("hf:org/tiny").checkpoint(500).read()
    expected = load_file(steps / "step500" / "model.safetensors")
    assert len(cut) == n_cuts and all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("status", ["401", "403", "404", "410"])
def test_what_is_refused_is_not_asked_for_again(status, hub, steps, waits):
    hub.add("org/tiny", "step500", steps / "step500")
    run = open_run("hf:org/tiny")
    hub.requests.clear()
    hub.fault = lambda request: status
    for attempt in (lambda: open_run("hf:org/tiny"), run.checkpoint(500).n_bytes, run.checkpoint(500).read):
        with pytest.raises(RunError, match=r"could not be read from the hub .*check the name") as refused:
            attempt()
        assert not isinstance(refused.value, HubError) and len(hub.requests) == 1 and not waits
        hub.requests.clear()


def fail_always(hub: StandInHub, fault: str, part: str) -> None:
    hub.fault = lambda request: fault if part in request else None


@pytest.mark.parametrize("fault", ["dropped", "silent", "500", "429"])
@pytest.mark.parametrize("part", ["/refs", "/tree/", "HEAD /org/tiny/resolve", "GET /org/tiny/resolve"])
def test_a_hub_that_goes_on_failing(part, fault, hub, steps, waits, monkeypatch):
    monkeypatch.setattr(retrying, "PATIENCE_S", 0.4)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.add("org/tiny", "step500", steps / "step500")
    fail_always(hub, fault, part)
    began = time.monotonic()
    with pytest.raises(HubError, match=r"hf:org/tiny.* could not be read .*tried for \d+ s") as failure:
        open_run("hf:org/tiny").checkpoint(500).read()
    assert 0.4 < time.monotonic() - began < 4 and not isinstance(failure.value, NoConnectionError)
    asked = [request for request in hub.requests if part in request]
    assert len(asked) > 1 and len(set(asked)) == 1


def test_an_hour_is_not_waited(hub, steps, waits):
    hub.add("org/tiny", "step500", steps / "step500")
    for part in ("/refs", "/tree/", "HEAD "):
        fail_always(hub, "429 for an hour", part)
        with pytest.raises(HubError, match=r"429 Too Many Requests.* asks for a wait of 3600 s; tried for 0 s"):
            open_run("hf:org/tiny").checkpoint(500).read()
    assert not waits and BUSY["429 for an hour"] == {"Retry-After": "3600"}


@pytest.mark.filterwarnings("ignore:.* cannot be read at the moment")
def test_a_scan_that_skips_does_not_wait_for_each_checkpoint(hub, steps, waits, monkeypatch):
    for step in (0, 500, 1000):
        hub.add("org/tiny", f"step{step}", steps / f"step{step}")
    run = open_run("hf:org/tiny")
    assert run.model["n_layers"] == 3
    fail_always(hub, "503", "/tree/")
    hub.requests.clear()
    clock = Clock(monkeypatch)
    for checkpoint in run.checkpoints:
        with pytest.raises(HubError):
            checkpoint.read()
    assert sum(clock.waits) == pytest.approx(300)  # at the first
    assert hub.requests[-2:] == [
        f"GET /api/models/org/tiny/tree/{hub.commit('org/tiny', f'step{s}')}" for s in (500, 1000)
    ]
    hub.fault = lambda request: None
    run.checkpoint(0).read()
    failed: list[str] = []

    def once(request: str) -> str | None:
        failed.append(request)
        return None if len(failed) > 1 else "503"

    hub.fault = once
    run.checkpoint(500).read()  # the outage is over: a request that fails once is repeated again


def closed_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_without_a_connection_the_cache_is_read_at_once(both_hubs, steps, waits, monkeypatch):
    online = open_run("hf:org/tiny")
    expected = [online.checkpoint(step).read() for step in online.steps], online.log(), online.tokenizer_json()
    legacy = open_run("tl:attn-only-2l")
    weights = legacy.checkpoints[0].read()
    size, cached = online.checkpoint(0).n_bytes(), (steps / "step0" / "model.safetensors").stat().st_size
    tokenizer = legacy.tokenizer_json()
    nowhere = closed_port()
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}")
    with pytest.warns(RuntimeWarning, match=r"no connection to the hub \(.*refused\); .* has of org/tiny is read"):
        run = open_run("hf:org/tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [run.checkpoint(step).read() for step in run.steps], run.log(), run.tokenizer_json()
        again = open_run("tl:attn-only-2l")
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.checkpoints[0].read().items())
        assert again.tokenizer_json() == tokenizer and again.load_model(again.steps[0])
    assert found[1:] == expected[1:] and run.checkpoint(0).n_bytes() == size == cached
    for one, other in zip(found[0], expected[0]):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert set(waits) == {0.5} and sum(waits) < 2  # for both runs
    monkeypatch.setattr(retrying, "PATIENCE_S", 0.2)
    monkeypatch.setattr(retrying._Outage, "given_up", float("-inf"))
    began = time.monotonic()
    with pytest.raises(NoConnectionError, match=r"hf:org/other .*refused.* tried for"):  # not in the cache
        open_run("hf:org/other")
    assert time.monotonic() - began > 0.2


# The waits, by a clock of the test's


def busy(status: int, **headers: str) -> HfHubHTTPError:
    response = SimpleNamespace(
        status_code=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, request=None
    )
    return HfHubHTTPError(f"{status}", response=response)


def failing(error: Exception, n_times: float = float("inf")):
    attempts: list[int] = []

    def request() -> str:
        attempts.append(1)
        if len(attempts) <= n_times:
            raise error
        return "answer"

    return request


@pytest.mark.parametrize(
    "error",
    [
        *map(busy, (429, 500, 502, 503, 504)),
        ConnectionResetError("reset"),
        socket.gaierror(-2, "unknown name"),
        TimeoutError(),
    ],
)
def test_waits_double_up_to_a_minute_for_five_minutes(error, monkeypatch):
    clock = Clock(monkeypatch)
    with pytest.warns(
        RuntimeWarning, match=r"a file cannot be read at the moment \(.*requested again for up to"
    ) as all_:
        with pytest.raises(HubError, match=r"a file could not be read .*; tried for 300 s\)"):
            ask("a file", failing(error))
    assert len(all_) == 1
    for wait, expected in zip(clock.waits, (1, 2, 4, 8, 16, 32, 60, 60)):
        assert expected <= wait <= 1.25 * expected or wait == clock.waits[-1]
    assert len(clock.waits) >= 8 and sum(clock.waits) == pytest.approx(300)


def test_short_waits_are_not_announced(monkeypatch):
    clock = Clock(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask("a file", failing(busy(503), 2)) == "answer"
    assert len(clock.waits) == 2 and 3 <= sum(clock.waits) <= 3.75


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "30"}, 30),
        ({"Retry_After": formatdate(time.time() + 30 + 24 * 3600, usegmt=True)}, None),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
        ({"Retry_After": "soon"}, 1),
        ({"RateLimit": '"api";r=0;t=55', "RateLimit_Policy": '"fixed window";"api";q=500;w=300'}, 55),
        ({"RateLimit": '"api"; r=0; t=55', "Retry_After": "70"}, 70),
        ({"RateLimit": '"api";r=12;t=55'}, 1),
    ],
)
def test_the_hub_says_how_long_to_wait(headers, seconds, monkeypatch):
    clock = Clock(monkeypatch)
    if seconds is None:  # tomorrow
        with pytest.raises(HubError, match=r"asks for a wait of 86\d\d\d s; tried for 0 s"):
            ask("a file", failing(busy(429, **headers), 1))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ask("a file", failing(busy(429, **headers), 1)) == "answer"
    assert len(clock.waits) == 1 and seconds <= clock.waits[0] <= 1.25 * seconds


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), PermissionError(13, "Permission denied"), FileNotFoundError("gone")],
)
def test_a_fault_of_this_machine_is_not_waited_out(error, monkeypatch):
    clock = Clock(monkeypatch)
    with pytest.raises(RunError, match="a file could not be read"):
        ask("a file", failing(error))
    assert not clock.waits
