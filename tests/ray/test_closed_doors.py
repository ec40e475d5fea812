"""A local run opens no door: every socket on loopback, a token nobody else reads, directories of its own."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from rayscan.fleet import security
from testing.chaos.toy import Toy
from tests.ray.sockets import Listening, listening

ROOT = Path(__file__).parents[2]
LOOKING = """
import dataclasses, json, os, sys, threading, time
from pathlib import Path
from testing.chaos.toy import Toy, train_toy
from rayscan.config import FleetConfig
from rayscan.fleet.connect import Fleet
from rayscan.fleet.train import train
from rayscan.storage import Place
from tests.ray.sockets import listening

seen = set()
def note_sockets(facts):
    seen.update(listening(os.getpid()))
toy = Toy(**json.loads(sys.argv[1]))
with Fleet(FleetConfig(num_workers=2), Place(toy.out)) as fleet:
    outcome = train(fleet, train_toy, toy, name="toy", on_facts=note_sockets)
    import ray
    address = ray.get_runtime_context().gcs_address
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    print(json.dumps({"sockets": [dataclasses.asdict(s) for s in seen], "session": session,
                      "address": address, "once": outcome["consumed_once"]}))
    sys.stdout.flush()
    sys.stdin.read()
"""
STRANGER = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None))
"""


@pytest.mark.slow
def test_a_local_training_listens_on_loopback_and_wants_its_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    toy = Toy(out=str(tmp_path / "out"), journal=str(tmp_path / "journal"), epochs=2, step_seconds=0.1)
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    home.mkdir()
    driver = subprocess.Popen(
        [sys.executable, "-c", LOOKING, json.dumps(asdict(toy))],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        said = json.loads(driver.stdout.readline())
        with_token = stranger(said["address"], environment | {"RAY_AUTH_MODE": "token"})
        without = stranger(
            said["address"], {**environment, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
        )
        forged = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
        with_a_wrong_one = stranger(said["address"], {**environment, **forged})
    finally:
        driver.communicate(timeout=60)
    assert said["once"]
    sockets = [Listening(**facts) for facts in said["sockets"]]
    assert [s for s in sockets if not s.is_closed_to_others] == []
    owners = " ".join(s.process for s in sockets)
    assert "gcs_server" in owners
    assert "raylet" in owners
    assert sum("RayTrainWorker" in s.process for s in sockets) >= 3, "the store, and gloo of both"
    assert with_token.returncode == 0, with_token.stderr
    assert without.returncode != 0
    assert with_a_wrong_one.returncode != 0
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600
    session = Path(said["session"])
    door = session.parents[1]
    assert stat.S_IMODE(door.stat().st_mode) == 0o700, "sockets and logs lie behind it"
    token = (home / ".ray" / "auth_token").read_bytes()
    texts = [p for p in [*session.rglob("*"), *tmp_path.rglob("out/**/*")] if p.is_file()]
    assert [p for p in texts if token in p.read_bytes()] == []


def stranger(address: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Somebody on this machine who asks the head's store for its keys."""
    command = [sys.executable, "-c", STRANGER, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_look_at_sockets_is_not_blind() -> None:
    with socket.create_server(("0.0.0.0", 0)) as outward, socket.create_server(("127.0.0.1", 0)) as inward:
        found = {s.port: s.is_closed_to_others for s in listening(os.getpid())}
        assert found[outward.getsockname()[1]] is False
        assert found[inward.getsockname()[1]] is True


def test_a_token_that_others_may_read_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("0" * 64)
    path.chmod(0o644)
    security.secure_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "0" * 64
    path.unlink()
    security.secure_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) == 64
    assert [p.name for p in path.parent.iterdir()] == ["auth_token"]


def test_a_user_without_a_home_has_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nobody")
    monkeypatch.setattr(security, "LONGEST_ROOT", 1000)
    monkeypatch.setattr(security.tempfile, "gettempdir", lambda: str(tmp_path))
    security.secure_token()
    path = Path(os.environ.pop("RAY_AUTH_TOKEN_PATH"))  # delenv would put it back after the test
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(path.read_text()) == 64


def test_a_root_that_others_opened_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "LONGEST_ROOT", 1000)
    monkeypatch.setattr(security.tempfile, "gettempdir", lambda: str(tmp_path))
    first = security.private_root()
    assert (first, stat.S_IMODE(first.stat().st_mode)) == (tmp_path / f"rayscan-{os.getuid()}", 0o700)
    assert security.private_root() == first
    first.chmod(0o777)
    second = security.private_root()
    assert second != first
    assert stat.S_IMODE(second.stat().st_mode) == 0o700
    assert security.private_root() == second, "a new directory for every run would be left behind"
    first.rmdir()
    first.symlink_to(tmp_path)
    assert security.private_root() == second
    second.chmod(0o755)
    third = security.private_root()
    assert third not in (first, second, tmp_path)
    for number in range(1, security.NAMES):
        path = tmp_path / f"rayscan-{os.getuid()}-{number}"
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    last, after = security.private_root(), security.private_root()
    assert stat.S_IMODE(last.stat().st_mode) == 0o700
    assert last != after, "all names are taken: one that nobody can know"
