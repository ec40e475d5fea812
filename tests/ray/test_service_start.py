"""The start of a service: a replica that dies in it is made up for, and one that cannot be made ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import ray
from ray import serve

from rayscan.config.serve import ServeConfig
from rayscan.errors import FleetError
from rayscan.fleet import service
from rayscan.fleet.service_settings import Answer, ServiceSettings

CONFIG = ServeConfig(min_replicas=2, max_replicas=2, threads=1)


class Echo:
    """Answers with what it is asked."""

    multiple, fingerprint = 1, "f"

    def prepare(self, content_type: str, body: bytes) -> bytes:
        return body

    def answers(self, prepared: Sequence[bytes]) -> list[Answer]:
        return [(200, {"said": body.decode()}) for body in prepared]

    def reload(self) -> bool:
        return False


def made_in_turn(folder: Path) -> Echo:
    """The first one at once, others when the file `go` is there; each leaves its process number."""
    number = len(list(folder.glob("replica*")))
    (folder / f"replica{number}-{os.getpid()}").touch()
    while number and not (folder / "go").exists():
        time.sleep(0.05)
    return Echo()


def never_made() -> Echo:
    raise ValueError("no such network")


@pytest.fixture
def joined() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        service.stop()
        ray.shutdown()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, serve.status()
        time.sleep(0.05)


@pytest.mark.usefixtures("joined")
def test_a_replica_that_dies_while_others_load_is_made_up_for(tmp_path: Path) -> None:
    settings = ServiceSettings(CONFIG, "0" * 64)
    app = service.application(partial(made_in_turn, tmp_path), settings)
    failed: list[BaseException] = []

    def start() -> None:
        try:
            service.start(app, CONFIG)
        except BaseException as error:
            failed.append(error)

    starting = threading.Thread(target=start, daemon=True)
    starting.start()

    def states() -> dict[str, int]:
        found = serve.status().applications.get(service.NAME)
        deployment = None if found is None else found.deployments.get("replicas")
        return {} if deployment is None else dict(deployment.replica_states)

    until(lambda: states().get("RUNNING") == 1 and states().get("STARTING") == 1)
    (first,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("replica0-*"))
    os.kill(first, signal.SIGKILL)
    until(lambda: serve.status().applications[service.NAME].status.value == "DEPLOY_FAILED")
    (tmp_path / "go").touch()
    starting.join(120)
    assert not starting.is_alive() and not failed
    assert states() == {"RUNNING": 2}


@pytest.mark.usefixtures("joined")
def test_replicas_that_cannot_be_made_end_it() -> None:
    settings = ServiceSettings(CONFIG, "0" * 64)
    with pytest.raises(FleetError, match="the service cannot be started"):
        service.start(service.application(never_made, settings), CONFIG)
