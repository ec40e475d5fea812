"""What a cloud says of this machine's end is heard and passed on; other answers are none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rayscan.fleet import spot


class Metadata(ThreadingHTTPServer):
    """The metadata service of a machine: IMDSv2 of AWS, or that of Google Cloud."""

    daemon_threads = True
    answers: dict[tuple[str, str, str], tuple[int, str]]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Metadata

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def answer(self) -> None:
        names = ("X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token", "Metadata-Flavor")
        shown = next((self.headers[name] for name in names if self.headers[name]), "")
        status, body = self.server.answers.get((self.command, self.path, shown), (404, ""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_PUT = answer  # noqa: N815


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata(("127.0.0.1", 0), Handler)
    server.answers = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


TOKEN = ("PUT", "/latest/api/token", "60")
ACTION = ("GET", "/latest/meta-data/spot/instance-action", "t0ken")
PREEMPTED = ("GET", "/computeMetadata/v1/instance/preempted", "Google")


def test_amazon(metadata: Metadata) -> None:
    assert spot.seconds_left(metadata.base) is None
    metadata.answers[TOKEN] = (200, "t0ken")
    assert spot.seconds_left(metadata.base) is None  # 404: nothing is announced
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
    metadata.answers[ACTION] = (200, json.dumps({"action": "terminate", "time": then}))
    left = spot.seconds_left(metadata.base)
    assert left is not None
    assert 100 < left <= 120
    metadata.answers[ACTION] = (200, json.dumps({"action": "terminate", "time": "2020-01-01T00:00:00Z"}))
    assert spot.seconds_left(metadata.base) == 0.0


def test_google(metadata: Metadata) -> None:
    metadata.answers[PREEMPTED] = (200, "FALSE")
    assert spot.seconds_left(metadata.base) is None
    metadata.answers[PREEMPTED] = (200, "TRUE\n")
    assert spot.seconds_left(metadata.base) == 30.0


@pytest.mark.parametrize("said", ["", "not json", "{}", '{"time": "soon"}', "[]", '{"time": 7}'])
def test_nonsense_is_no_notice(metadata: Metadata, said: str) -> None:
    metadata.answers = {TOKEN: (200, "t0ken"), ACTION: (200, said), PREEMPTED: (500, "TRUE")}
    assert spot.seconds_left(metadata.base) is None


def test_nobody_answers() -> None:
    assert spot.seconds_left("http://127.0.0.1:9") is None


def test_the_watch_acts_once(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "POLL_SECONDS", 0.01)
    threading.Timer(0.3, lambda: metadata.answers.update({PREEMPTED: (200, "TRUE")})).start()
    acts: list[float] = []
    spot.watch(metadata.base, acts.append)
    assert acts == [30.0]
