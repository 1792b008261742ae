"""Requests to the hub, repeated for a stated time while it is busy or the connection fails."""

from __future__ import annotations

import errno
import json
import random
import re
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ..errors import RunError

PATIENCE_S = 300.0  # from the first failure of a request to its last repetition
LONGEST_WAIT_S = 60.0  # between two attempts, unless the hub asks for a longer wait
QUIET_S = 5.0  # a request that takes longer than this because it is repeated is announced
UNREACHABLE_WAIT_S = 0.5  # before the one repetition of a request that the cache can answer too

Answer = TypeVar("Answer")

_JITTER = random.SystemRandom()  # workers that were turned away together do not come back together
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


class HubError(RunError):
    """The hub did not answer a request in the stated time."""


class NoConnectionError(HubError):
    """There is no connection to the hub, or its client is in offline mode."""


class _Outage:
    """When a request was last given up, in seconds of the monotonic clock.

    The requests that follow it are not repeated until one succeeds: a scan that skips unreadable checkpoints would
    otherwise wait for the stated time at each.
    """

    given_up = float("-inf")


def ask(what: str, request: Callable[[], Answer], cached: bool = False) -> Answer:
    """Return what `request` returns; repeat it for `PATIENCE_S` while it fails for a reason that may pass.

    Such a reason is a connection that is refused, dropped or too slow, an answer that is cut short, or one of the
    statuses 408, 429 and 5xx. The waits are 1, 2, 4, ... seconds, or what the hub asks for. Without a connection, a
    request that the cache can answer too (`cached`) is repeated once, after half a second. `what` names what is
    requested, for messages.

    Raises NoConnectionError if there is no connection, HubError if the hub still fails after that time, and RunError
    at once if the hub refuses or does not have what is requested.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    began, deadline, backoff, announced = time.monotonic(), float("inf"), 1.0, False
    in_outage = began - _Outage.given_up < PATIENCE_S
    while True:
        try:
            answer = request()
        # HTTPError is that of the library the client is built on. RuntimeErrors come from its library for large files,
        # and where another thread has closed the connections.
        except (HTTPError, OSError, json.JSONDecodeError, RuntimeError) as error:
            failure = error
        else:
            _Outage.given_up = float("-inf")
            return answer
        reason = f"{type(failure).__name__}: {str(failure).strip()}".partition("\n")[0]
        if _is_offline(failure):
            raise _unread(NoConnectionError, what, reason) from failure
        if not _may_pass(failure):
            raise _unread(RunError, what, reason) from failure
        now = time.monotonic()
        deadline = min(deadline, now + PATIENCE_S)
        left, asked, unreachable = deadline - now, _asked_wait(failure), _is_unreachable(failure)
        if asked:
            reason += f", which asks for a wait of {asked:.0f} s"
        if in_outage or left <= 0 or asked > left or (cached and unreachable and backoff > 1):
            _Outage.given_up = now
            kind = NoConnectionError if unreachable else HubError
            raise _unread(kind, what, f"{reason}; tried for {now - began:.0f} s") from failure
        wait = min(max(asked, backoff) * _JITTER.uniform(1, 1.25), left)
        if cached and unreachable:
            wait = UNREACHABLE_WAIT_S
        if now + wait - began > QUIET_S and not announced:
            announced = True
            warnings.warn(
                f"{what} cannot be read at the moment ({reason}); it is requested again for up to {left:.0f} s",
                RuntimeWarning,
                stacklevel=2,
            )
        time.sleep(wait)
        backoff = min(2 * backoff, LONGEST_WAIT_S)


def _unread(kind: type[RunError], what: str, reason: str) -> RunError:
    return kind(
        f"{what} could not be read from the hub or its cache ({reason}); check the name and the connection, or open "
        f"the folder of a copy"
    )


def _may_pass(failure: Exception) -> bool:
    statuses = [status for each in _chain(failure) if (status := _status(each)) is not None]
    if statuses:
        return statuses[0] in (408, 429) or statuses[0] >= 500
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(failure)):
        return False
    return _is_unreachable(failure) or any(_is_of_transport(each) for each in _chain(failure))


def _is_of_transport(error: BaseException) -> bool:
    """Return whether an error says that a connection broke or that an answer came incomplete."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    if isinstance(error, ConnectionError | TimeoutError | json.JSONDecodeError) or type(error) is RuntimeError:
        return True
    if isinstance(error, FileNotFoundError | PermissionError | ValueError):
        return False
    # The client's errors about connections and incomplete files have no number, unlike those about the disk.
    return isinstance(error, HTTPError | OSError) and getattr(error, "errno", None) is None


def _is_offline(failure: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(each, OfflineModeIsEnabled) for each in _chain(failure))


def _is_unreachable(failure: Exception) -> bool:
    """Return whether no connection could be made: the name has no address, or nobody answers there."""
    return any(
        isinstance(each, socket.gaierror | ConnectionRefusedError)
        or (isinstance(each, OSError) and each.errno in _UNREACHABLE)
        or type(each).__name__ == "ConnectTimeout"  # of the library that the client is built on
        for each in _chain(failure)
    )


def _asked_wait(failure: Exception) -> float:
    """Return how many seconds the hub asks to wait, by the headers of its answer; 0 if it does not."""
    waits = [0.0]
    for each in _chain(failure):
        if _status(each) is None:
            continue
        headers: Mapping[str, str] = each.response.headers  # type: ignore[attr-defined]
        after = headers.get("Retry-After", "").strip()
        waits.append(float(after) if after.isdigit() else _seconds_until(after))
        # As `"api";r=0;t=55`: no requests remain, for 55 seconds.
        if spent := re.search(r"\br=0;.*?\bt=(\d+)", headers.get("RateLimit", "").replace(" ", "")):
            waits.append(float(spent[1]))
    return max(waits)


def _seconds_until(date: str) -> float:
    try:
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a time zone
        return 0.0


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that led to it, also where a library hides them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
