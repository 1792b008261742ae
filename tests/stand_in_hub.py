"""A stand-in for the Hugging Face hub: real HTTP on loopback, enough of its API for the real client."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

BROKEN = ("dropped", "cut short", "silent")
BUSY = {"429": {"Retry-After": "0"}, "429 for an hour": {"Retry-After": "3600"}, "503": {"Retry-After": "1"}}
"""The headers of statuses."""


@dataclass
class StandInHub:
    """Repositories by name, revisions by name, files by path; `requests` are those it was asked, in order.

    `fault` takes a request (`GET /path?query`) and returns what goes wrong with its answer: one of `BROKEN`, or what
    begins with a status (see `BUSY`); None for nothing. A list of files comes in pages of `page_size`.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fault: Callable[[str], str | None] = lambda request: None
    page_size: int = 1000
    silence_s: float = 1.0
    url: str = ""

    def add(self, repository: str, revision: str, files: dict[str, bytes] | Path) -> None:
        if isinstance(files, Path):
            files = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
        self.repositories.setdefault(repository, {})[revision] = files

    def commit(self, repository: str, revision: str) -> str:
        content = repr(sorted((name, _etag(file)) for name, file in self.repositories[repository][revision].items()))
        return hashlib.sha1(f"{repository} {revision} {content}".encode()).hexdigest()

    def revision(self, repository: str, name_or_commit: str) -> str | None:
        for revision in self.repositories[repository]:
            if name_or_commit in (revision, self.commit(repository, revision)):
                return revision
        return None

    @contextlib.contextmanager
    def serving(self) -> Iterator[StandInHub]:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        self._fault = self.hub.fault(f"{self.command} {self.path}")
        if self._fault == "silent":
            Event().wait(self.hub.silence_s)
        if self._fault in ("silent", "dropped"):
            return self._hang_up()
        if self._fault not in (None, *BROKEN):
            return self._send(int(self._fault[:3]), b"busy", BUSY.get(self._fault, {}))
        is_api = path.startswith("/api/models/")
        parts = [unquote(part) for part in path.removeprefix("/api/models/").strip("/").split("/")]
        repository = "/".join(parts[:2])
        if repository not in self.hub.repositories:
            self._refuse("RepoNotFound")
        elif is_api and parts[2:] == ["refs"]:
            self._send_json({"branches": self._references(repository), "tags": [], "converts": []})
        else:
            revision = self.hub.revision(repository, parts[3] if len(parts) > 3 else "main")
            if revision is None:
                self._refuse("RevisionNotFound")
            elif is_api and parts[2:3] == ["tree"]:
                self._send_tree(repository, revision, "/".join(parts[4:]))
            elif is_api:
                files = self.hub.repositories[repository][revision]
                commit = self.hub.commit(repository, revision)
                self._send_json({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
            else:
                self._send_file(repository, revision, "/".join(parts[4:]))

    do_HEAD = do_GET

    def _references(self, repository: str) -> list[dict]:
        return [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": self.hub.commit(repository, name)}
            for name in self.hub.repositories[repository]
        ]

    def _send_tree(self, repository: str, revision: str, folder: str) -> None:
        files = self.hub.repositories[repository][revision]
        here = f"{folder}/" if folder else ""
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
            for name, content in files.items()
            if name.startswith(here) and ("recursive=true" in self.path.lower() or "/" not in name[len(here) :])
        ]
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("cursor", ["0"])[0])
        last = first + self.hub.page_size
        following = f"{self.hub.url}{urlsplit(self.path).path}?cursor={last}"
        links = {"Link": f'<{following}>; rel="next"'} if last < len(entries) else {}
        self._send_json(entries[first:last], links)

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        content = self.hub.repositories[repository][revision].get(name)
        if content is None:
            return self._refuse("EntryNotFound")
        headers = {
            "ETag": f'"{_etag(content)}"',
            "X-Repo-Commit": self.hub.commit(repository, revision),
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._send(200, content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._send(206, part, headers)

    def _send_json(self, answer: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self._fault == "cut short":
            self.wfile.write(content[: len(content) // 2])
            return self._hang_up()
        if self.command == "GET":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        pass
