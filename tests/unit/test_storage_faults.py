"""A store that is away: waited for within patience, then a clean end; secrets never enter an address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch

from rayscan import storage
from rayscan.engine.checkpoint import Checkpoints
from rayscan.errors import ArtifactError, ConfigError
from rayscan.stages.context import Sources
from rayscan.storage import Place

SECRET = "canary-8d1f2c"


class Line:
    """The way to an S3 service on loopback: it can be cut, or break after some bytes of a request."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.to = to
        self.is_cut = False
        self.calls = 0
        self.breaks_after: int | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.calls += 1
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self.to)
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                limit = self.breaks_after if is_request else None
                if self.is_cut or (limit is not None and passed + len(data) > limit):
                    sink.sendall(data[: max(0, (limit or 0) - passed)])
                    break
                passed += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, int]]:
    pytest.importorskip("moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/bucket", method="PUT")).close()
    yield host, port
    server.stop()


@pytest.fixture
def line(service: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = Line(service)
    yield made
    made.close()


def remote(line: Line, folder: str) -> Place:
    return Place(f"s3://bucket/{folder}?scheme=http&endpoint_override=127.0.0.1:{line.port}")


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, {"w": torch.full((4096,), float(step))}, {"step": step})
    checkpoints.wait()


def test_a_short_outage_is_waited_out(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.PATIENCE, "60")
    place = remote(line, "short")
    place.write("a/b", b"before")
    line.is_cut = True
    threading.Timer(2.0, lambda: setattr(line, "is_cut", False)).start()
    place.write("a/c", b"during")
    assert (place.read("a/b"), place.read("a/c")) == (b"before", b"during")
    assert place.names() == ["a"]
    with pytest.raises(FileNotFoundError):
        place.read("a/d")


def test_a_long_outage_ends_cleanly_and_what_was_whole_stays(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on while nothing can be written, ends when patience does, and resumes."""
    monkeypatch.setenv(storage.PATIENCE, "0.5")
    checkpoints = Checkpoints(remote(line, "long"), "f", patience_seconds=3600)
    save(checkpoints, 1)
    line.is_cut = True
    save(checkpoints, 2)
    assert "storage did not do what was asked" in checkpoints.trouble
    with pytest.raises(ArtifactError, match=r"within 0\.5 s"):
        checkpoints.newest()  # "away" must never be taken for "there is none"
    checkpoints.patience_seconds = 0.0
    with pytest.raises(ArtifactError, match="no checkpoint could be written"):
        save(checkpoints, 3)
    line.is_cut = False
    found = Checkpoints(remote(line, "long"), "f").newest()
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("sent", [100, 3000, 9000, 16000])
def test_a_half_uploaded_checkpoint_is_never_loaded(
    line: Line, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """The connection breaks after so many bytes of each request, in the state or before it."""
    monkeypatch.setenv(storage.PATIENCE, "0.2")
    place = remote(line, f"half-{sent}")
    checkpoints = Checkpoints(place, "f", patience_seconds=3600)
    save(checkpoints, 1)
    line.breaks_after = sent
    save(checkpoints, 2)
    assert checkpoints.trouble
    line.breaks_after = None
    found = Checkpoints(place, "f").newest()
    assert found is not None
    assert found.step == 1
    save(checkpoints, 3)
    assert Checkpoints(place, "f").newest().step == 3  # type: ignore[union-attr]


def test_a_local_disk_is_asked_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((ArtifactError, NotADirectoryError, FileExistsError)):
        Place(str(tmp_path)).write("file/below", b"x")
    assert Checkpoints(Place(str(tmp_path)), "f").newest() is None  # a stray file is no checkpoint


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://AKIA:{SECRET}@bucket/run",
        f"s3://bucket/run?access_key=AKIA&secret_key={SECRET}",
        f"https://user:{SECRET}@host/list.csv",
        f"gs://bucket/x?token={SECRET}",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    for make in (Place, lambda text: Sources(data=text), lambda text: Sources(data=None, labels=text)):
        with pytest.raises(ConfigError, match="carries credentials") as caught:
            make(uri)
        assert SECRET not in str(caught.value)


def test_addresses_without_secrets_are_taken() -> None:
    for uri in (
        "s3://bucket/run?scheme=http&endpoint_override=host:1",
        "abfs://container@account.dfs.core.windows.net/run",
        "runs/a@b",
        "file:///a?b",
    ):
        Place(uri)
