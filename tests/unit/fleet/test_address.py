"""A Ray that is not there is told soon, with where its address came from."""

from __future__ import annotations

import socket

import pytest

from rayscan.config import FleetConfig
from rayscan.errors import FleetError
from rayscan.fleet import address
from rayscan.fleet.address import address_and_origin, require_listening


@pytest.fixture
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_origin_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_and_origin(FleetConfig()) == (None, "--fleet.address local")
    monkeypatch.setenv("RAY_ADDRESS", "h:1")
    assert address_and_origin(FleetConfig()) == ("h:1", "RAY_ADDRESS=h:1 in the environment")
    assert address_and_origin(FleetConfig(address="g:2")) == ("g:2", "--fleet.address g:2")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_nobody_listens(form: str, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(FleetError, match=r"(?s)no Ray answers.*RAY_ADDRESS=x in the environment.*unset"):
        require_listening(form.format(free_port), "RAY_ADDRESS=x in the environment")


def test_names_and_ports_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("no-such-host.invalid:6379", "127.0.0.1:99999999"):
        monkeypatch.setattr(address, "PATIENCE_SECONDS", 0.2)
        with pytest.raises(FleetError, match="no Ray answers"):
            require_listening(wrong, "--fleet.address")


def test_whoever_listens_and_whatever_is_no_port_is_left_to_ray(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        require_listening(f"127.0.0.1:{free_port}", "")
    for other in ("auto", "local", "ray://head", "anyscale://x"):
        require_listening(other, "")
