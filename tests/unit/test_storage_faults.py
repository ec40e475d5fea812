"""A store that is away: waited for within patience, then a clean end; secrets never enter an address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rayscan import lock, storage
from rayscan.context import Sources
from rayscan.data.folders import files_below
from rayscan.engine.checkpoint import Checkpoints
from rayscan.errors import ArtifactError, ConfigError
from rayscan.storage import Place
from testing.chaos.store import CREDENTIALS, Line, service

SECRET = "canary-8d1f2c"


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, int]]:
    pytest.importorskip("moto")
    with service() as where:
        yield where


@pytest.fixture
def line(s3: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made = Line(s3)
    yield made
    made.close()


def remote(line: Line, folder: str) -> Place:
    return Place(line.uri(folder))


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, {"w": torch.full((4096,), float(step))}, {"step": step})
    checkpoints.wait()


def test_a_short_outage_is_waited_out(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.DEADLINE_VARIABLE, "60")
    place = remote(line, "short")
    place.write("a/b", b"before")
    line.is_cut = True
    threading.Timer(2.0, lambda: setattr(line, "is_cut", False)).start()
    place.write("a/c", b"during")
    assert (place.read("a/b"), place.read("a/c")) == (b"before", b"during")
    assert place.names() == ["a"]
    with pytest.raises(FileNotFoundError):
        place.read("a/d")


@pytest.mark.parametrize("asked", ["read", "stat", "kind_of", "names_in", "open_file", "files_below"])
def test_what_users_have_is_waited_for_as_results_are(
    line: Line, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """One retry policy: also while folders are listed and images are read."""
    monkeypatch.setenv(storage.DEADLINE_VARIABLE, "60")
    place = remote(line, f"users-{asked}")
    place.write("a", b"bytes")
    ask: dict[str, Callable[[], object]] = {
        "read": lambda: storage.read(place.uri_of("a")),
        "stat": lambda: storage.stat([place.uri_of("a")])[0].size,
        "kind_of": lambda: storage.kind_of(place.uri_of("a")).name,
        "names_in": lambda: storage.names_in(place.uri),
        "open_file": lambda: storage.open_file(place.uri_of("a")).read(3),
        "files_below": lambda: [file.size for file in files_below(place.uri)],
    }
    expected = {
        "read": b"bytes",
        "stat": 5,
        "kind_of": "File",
        "names_in": ["a"],
        "open_file": b"byt",
        "files_below": [5],
    }
    line.is_cut = True
    threading.Timer(1.0, lambda: setattr(line, "is_cut", False)).start()
    assert ask[asked]() == expected[asked]


@pytest.mark.parametrize(
    "error", [FileNotFoundError("x"), PermissionError("x"), OSError("AWS Error ACCESS_DENIED during x")]
)
def test_what_another_try_would_not_change_is_asked_once(error: OSError) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        storage.retry(ask, storage.RetryPolicy(deadline_s=60.0))
    assert len(asked) == 1


@pytest.mark.soak  # Arrow's own client tries each request for six seconds before it says so
def test_a_long_outage_ends_cleanly_and_what_was_whole_stays(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on while nothing can be written, ends when patience does, and resumes."""
    monkeypatch.setenv(storage.DEADLINE_VARIABLE, "0.5")
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


@pytest.mark.soak
@pytest.mark.parametrize("sent", [100, 3000, 9000, 16000])
def test_a_half_uploaded_checkpoint_is_never_loaded(
    line: Line, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """The connection breaks after so many bytes of each request, in the state or before it."""
    monkeypatch.setenv(storage.DEADLINE_VARIABLE, "0.2")
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


class Away(Place):
    """A store that can be away."""

    is_away = False

    def write(self, name: str, data: bytes | memoryview) -> None:
        if self.is_away:
            raise OSError("no route to host")
        super().write(name, data)


def test_a_lock_outlives_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heart beats on when the store is back; else another run could take the place."""
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    place = Away(str(tmp_path))
    held = lock.RunLock(place)
    held._take_remote()  # as on an object store
    place.is_away = True
    time.sleep(0.1)
    silent = place.read(lock.NAME)
    time.sleep(0.1)
    assert place.read(lock.NAME) == silent
    place.is_away = False
    deadline = time.monotonic() + 20
    while place.read(lock.NAME) == silent:
        assert time.monotonic() < deadline, "the heart has stopped"
        time.sleep(0.01)
    held.__exit__()
    assert held._over.is_set()
