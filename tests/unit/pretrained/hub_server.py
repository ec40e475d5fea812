"""A server on loopback that speaks the hub's file interface: resolve, redirect, ranges, gates, errors."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


@dataclass
class Hub:
    """What is served, how it misbehaves, and what was asked."""

    files: dict[str, dict[str, bytes]]
    """Repository -> name -> bytes."""
    gated: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    """After so many bytes of the next answers the connection is closed."""
    status: int | None = None
    """Answer everything so."""
    stalls: bool = False
    """Hold the connection open after half of a file."""
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, file and range of every request."""
    endpoint: str = ""

    def gets(self) -> list[tuple[str, str | None]]:
        """File and range of the downloads."""
        return [(name, part) for method, name, part in self.asked if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        match = re.fullmatch(r"/(cdn/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
        is_cdn, repo, name = match.groups() if match else (None, "", "")
        self.hub.asked.append((self.command, name, self.headers.get("Range")))
        body = self.hub.files.get(repo, {}).get(name)
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.hub.status is not None:
            self._say(self.hub.status, {})
        elif repo not in self.hub.files:
            self._say(401 if not is_known else 404, {"X-Error-Code": "RepoNotFound"})
        elif repo in self.hub.gated and not is_known and not is_cdn:
            self._say(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted."})
        elif body is None:
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif not is_cdn:  # large files lie elsewhere, under their hash
            self._say(302, self._linked(body) | {"Location": self._elsewhere()})
        else:
            self._send(body)

    def _elsewhere(self) -> str:
        """The same server by another name: the library treats it as a store that is not the hub."""
        return self.hub.endpoint.replace("127.0.0.1", "localhost") + "/cdn" + self.path

    def _linked(self, body: bytes) -> dict[str, str]:
        digest = hashlib.sha256(body).hexdigest()
        return {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(body))}

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted.group(1)) if wanted else 0
        part = body[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", self._linked(body)["X-Linked-Etag"])
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.stalls:
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.released.wait(60)
            self.close_connection = True
        elif self.hub.cuts:
            self.wfile.write(part[: self.hub.cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(part)


@contextmanager
def serving(files: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub on a free port of loopback, until the end of the block."""
    hub = Hub(files)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
