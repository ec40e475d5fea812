"""A Ray that is not there is told soon, with where its address came from."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from rayscan.config import FleetConfig
from rayscan.errors import FleetError
from rayscan.fleet import address
from rayscan.fleet.address import address_and_origin, is_loopback_only, require_listening


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


def serving(answer: bytes, port: int) -> threading.Thread:
    """A server of one connection, which hears a client's hello and says this."""
    listening = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        with listening, listening.accept()[0] as stream, suppress(OSError):
            stream.recv(100)
            stream.sendall(answer)
            stream.recv(100)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_what_listens_and_is_no_ray_is_told(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PATIENCE_SECONDS", 0.5)
    for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        thread = serving(answer, free_port)
        with pytest.raises(FleetError, match=r"(?s)no Ray.*RAY_ADDRESS=x in the environment"):
            require_listening(f"127.0.0.1:{free_port}", "RAY_ADDRESS=x in the environment")
        thread.join(5)


def test_what_speaks_http2_and_whatever_is_no_port_is_left_to_ray(free_port: int) -> None:
    serving(b"\0\0\0\4\0\0\0\0\0", free_port)  # settings, RFC 9113, Sec. 6.5
    require_listening(f"127.0.0.1:{free_port}", "")
    for other in ("auto", "local", "ray://head", "anyscale://x"):
        require_listening(other, "")


@pytest.mark.parametrize(
    ("name", "node_ip", "wanted"),
    [("127.0.0.1", "127.0.0.2", True), ("localhost", "127.0.0.2", True), ("127.0.0.1", "127.0.0.1", False)],
)
def test_what_listens_on_loopback_alone(name: str, node_ip: str, *, wanted: bool, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        assert is_loopback_only(f"{name}:{free_port}", node_ip) is wanted
        assert not is_loopback_only(f"192.0.2.7:{free_port}", node_ip)
        assert not is_loopback_only("auto", node_ip)
