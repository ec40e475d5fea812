"""A store that says no, or sends elsewhere, or is busy: one error in words for every way of asking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rayscan import storage
from rayscan.data.folders import files_below
from rayscan.data.listing import list_sources
from rayscan.errors import RayscanError
from rayscan.lock import RunLock
from rayscan.storage import Place

ANSWERS = {403: "AccessDenied", 301: "PermanentRedirect", 503: "SlowDown"}


@pytest.fixture(params=list(ANSWERS))
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that answers everything alike, by its address as S3."""
    code = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{ANSWERS[code]}</Code><Message>no</Message></Error>".encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv(storage.DEADLINE_VARIABLE, "0.5")
    yield f"s3://b/x?scheme=http&endpoint_override=127.0.0.1:{server.server_port}&region=us-east-1"
    server.shutdown()


ASKS: dict[str, Callable[[str], object]] = {
    "read": storage.read,
    "kind_of": storage.kind_of,
    "stat": lambda uri: storage.stat([uri]),
    "names_in": storage.names_in,
    "files_below": files_below,
    "list_sources": list_sources,
    "glob": lambda uri: list_sources(storage.join(uri, "*.jpg")),
    "Place.read": lambda uri: Place(uri).read("a"),
    "Place.write": lambda uri: Place(uri).write("a", b"x"),
    "Place.names": lambda uri: Place(uri).names(),
    "RunLock": lambda uri: RunLock(Place(uri)).__enter__(),
}


def test_every_question_ends_in_words(uri: str) -> None:
    for name, ask in ASKS.items():
        with pytest.raises(RayscanError) as caught:
            ask(uri)
        assert "s3://b" in caught.value.text, name


@pytest.mark.parametrize("uri", [403, 301], indirect=True)
def test_what_asking_again_would_not_change_is_asked_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the usual patience, of five minutes, this test would not end in time if it were asked again."""
    monkeypatch.delenv(storage.DEADLINE_VARIABLE)
    with pytest.raises(RayscanError):
        storage.read(uri)
    with pytest.raises(RayscanError):
        Place(uri).read("a")
